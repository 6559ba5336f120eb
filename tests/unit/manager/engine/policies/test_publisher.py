"""Publications of an engine with a thousand agents, counted by message."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from manager.domain.agents.registry import Takeover
from manager.domain.policies.fleet_policies import GLOBAL
from manager.domain.response import EmergencyEntry, Subject
from manager.engine.commands.requests import SetPolicy
from manager.engine.settings import EngineSettings
from schemas import topics
from tests.support.engine import Bench
from tests.support.simulated import SimulatedAgent

FLEET = 1000


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    settings = EngineSettings(takeover=Takeover.ALLOW, registrations_in_batch=500)
    bench = Bench(tmp_path_factory.mktemp("fleet"), settings)
    yield bench
    bench.database.close()


@pytest.fixture(scope="module")
def agents(bench: Bench) -> list[SimulatedAgent]:
    """A thousand agents with their policies published and their clocks known."""
    token = bench.token()
    agents = [SimulatedAgent(f"host-{n}", token, bench.keyring.seal_public) for n in range(FLEET)]
    asked = {}
    for agent in agents:
        agent.uptime_from = bench.wall
        client_id, payload = agent.registration(bench.wall)
        asked[client_id] = agent
        bench.put(topics.REGISTRATION, client_id, payload)
    bench.pass_time(5)
    for publication in bench.publisher.published:
        if publication.topic.endswith("/reply"):
            reply = json.loads(publication.payload)
            agent = asked[reply["clientId"]]
            agent.agent_id, agent.session = reply["agentId"], reply["session"] + 1
    for agent in agents:
        bench.put(topics.PRESENCE, agent.agent_id, agent.presence("online", bench.wall))
        bench.put(topics.HEARTBEAT, agent.agent_id, agent.heartbeat(bench.wall))
    bench.pass_time(10)
    return agents


def policies_published(bench: Bench) -> dict[str, int]:
    """Return, once, how often each agent's policy was published."""
    counts: dict[str, int] = {}
    for publication in bench.publisher.published:
        if publication.topic.endswith("/policy"):
            counts[publication.topic] = counts.get(publication.topic, 0) + 1
    bench.publisher.published.clear()
    return counts


def test_a_global_change_publishes_each_policy_once_and_the_same_again_none(
    bench: Bench, agents: list[SimulatedAgent]
) -> None:
    """A thousand agents get one publish each, in slices between batches; a change that alters nothing gives none."""
    policies_published(bench)
    document = {"thresholds": {"autoRespond": 71.0}}
    assert bench.ask(SetPolicy(GLOBAL, document, "test")).agents == FLEET
    bench.pass_time(10)
    counts = policies_published(bench)
    assert len(counts) == FLEET
    assert set(counts.values()) == {1}
    assert not bench.ask(SetPolicy(GLOBAL, document, "test")).changed
    bench.pass_time(10)
    assert policies_published(bench) == {}
    assert agents


def test_an_organization_wide_block_is_one_publish_whatever_the_fleet(
    bench: Bench, agents: list[SimulatedAgent]
) -> None:
    """Three attacked agents of a thousand: one blocklist change, and policies for the first two alone."""
    policies_published(bench)
    for agent in agents[:3]:
        bench.receive(topics.THREATS, agent.agent_id, agent.threat(bench.wall, sourceIp="203.0.113.66"))
    published = [publication.topic for publication in bench.publisher.published]
    assert published.count(topics.BLOCKLIST_CHANGES.address("default")) == 1
    touched = {topic for topic in published if topic.endswith("/policy")}
    assert touched <= {topics.POLICY.address(agent.agent_id) for agent in agents[:3]}


def test_with_ten_thousand_entries_a_further_one_costs_the_entry(bench: Bench, agents: list[SimulatedAgent]) -> None:
    """A change has some hundred bytes whatever the length of the list; snapshots are ten seconds apart."""
    entries = bench.fleet.responder.entries
    for n in range(9_990):
        address = f"2001:db8:{n:x}::1"
        entries.put(
            EmergencyEntry(
                f"blk-{n}",
                "organization",
                "default",
                Subject("ip", address, "default", None),
                "an attacker",
                "inc-0",
                bench.wall,
                bench.wall + 3600,
            )
        )
    bench.pass_time(20)
    bench.publisher.published.clear()
    for n in range(3):
        for agent in agents[3 * n : 3 * n + 3]:
            payload = agent.threat(bench.wall, sourceIp=f"203.0.113.{100 + n}")
            bench.receive(topics.THREATS, agent.agent_id, payload)
        bench.pass_time(1)
    changes = bench.publisher.take(topics.BLOCKLIST_CHANGES.address("default"))
    assert len(changes) == 3
    assert max(len(change) for change in changes) < 1000
    assert len(bench.publisher.take(topics.BLOCKLIST.address("default"))) <= 1
    bench.pass_time(11)
    (snapshot,) = bench.publisher.take(topics.BLOCKLIST.address("default"))
    assert len(json.loads(snapshot)["entries"]) >= 9_990
    assert len(snapshot) < topics.BLOCKLIST.limit


def test_a_technique_that_all_hosts_see_every_hour_is_one_chronic_incident(tmp_path: Path) -> None:
    """400 hosts that each report T1110 once an hour: one chronic incident, at most one push to each."""
    settings = EngineSettings(takeover=Takeover.ALLOW, registrations_in_batch=500)
    bench = Bench(tmp_path, settings)
    try:
        token = bench.token()
        hosts = [bench.enroll(f"host-{n}", token) for n in range(400)]
        bench.pass_time(5)
        policies_published(bench)
        pushes: dict[str, int] = {}
        for hour in range(3):
            for n, host in enumerate(hosts):
                bench.elapsed += 9
                bench.put(topics.HEARTBEAT, host.agent_id, host.heartbeat(bench.wall))
                bench.put(topics.THREATS, host.agent_id, host.threat(bench.wall, sourceIp=f"198.51.{hour}.{n % 250}"))
                if n % 10 == 0:
                    bench.engine.step(bench.now)
            bench.engine.step(bench.now)
            for topic, count in policies_published(bench).items():
                pushes[topic] = pushes.get(topic, 0) + count
        rows = bench.rows("SELECT chronic FROM incident WHERE kind = 'technique' AND merged_into IS NULL")
        assert rows == [(1,)]
        assert len(pushes) == 400
        assert max(pushes.values()) == 1
    finally:
        bench.database.close()
