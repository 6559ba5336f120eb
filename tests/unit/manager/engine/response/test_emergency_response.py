"""Incidents and their response: from reports to entries, policies and blocklists, and their end."""

import dataclasses
import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from manager.domain.agents.registry import Takeover
from manager.domain.policies.fleet_policies import GLOBAL
from manager.engine.commands.requests import (
    AcceptClock,
    ApproveIncident,
    FreezeResponses,
    ReadDrift,
    ReadPolicy,
    ReadResponseStatus,
    RollBack,
    SetPolicy,
    UndoIncident,
)
from manager.engine.settings import EngineSettings
from schemas import topics
from schemas.presence import PolicyState
from tests.support.engine import Bench
from tests.support.simulated import SimulatedAgent

pytestmark = pytest.mark.usefixtures("each_system")

ATTACKER = "203.0.113.66"
SETTINGS = EngineSettings(takeover=Takeover.ALLOW, own_addresses=("198.51.100.1",))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path, SETTINGS)
    yield bench
    bench.database.close()


def attack(bench: Bench, *agents: SimulatedAgent, at: float | None = None, **evidence: Any) -> None:
    """Let each agent report one threat."""
    for agent in agents:
        payload = agent.threat(bench.wall if at is None else at, **(evidence or {"sourceIp": ATTACKER}))
        bench.receive(topics.THREATS, agent.agent_id, payload)


def trusted(bench: Bench, *names: str) -> list[SimulatedAgent]:
    """Return agents whose clocks are known."""
    token = bench.token()
    agents = [bench.enroll(name, token) for name in names]
    for agent in agents:
        bench.receive(topics.HEARTBEAT, agent.agent_id, agent.heartbeat(bench.wall))
    return agents


def blocked(bench: Bench, agent: SimulatedAgent) -> list[str]:
    """Return the addresses in an agent's effective policy."""
    ips = bench.ask(ReadPolicy(agent.agent_id)).document["blocklist"]["ips"]
    return [entry if isinstance(entry, str) else entry["value"] for entry in ips]


def incidents(bench: Bench, kind: str = "source_ip") -> list[tuple[Any, ...]]:
    """Return id and response of the incidents of a kind."""
    return bench.rows(
        "SELECT incident.id, state FROM incident LEFT JOIN incident_response ON incident_id = incident.id "
        f"WHERE kind = '{kind}' AND merged_into IS NULL"
    )


def test_one_attacker_on_two_agents_is_blocked_on_both_and_on_no_other(bench: Bench) -> None:
    """The entry is in the two agents' own policies, published at once, with reason, incident and expiry."""
    first, second, third = trusted(bench, "a", "b", "c")
    bench.publisher.published.clear()
    attack(bench, first)
    assert blocked(bench, first) == []
    attack(bench, second)
    assert blocked(bench, first) == blocked(bench, second) == [ATTACKER]
    assert blocked(bench, third) == []
    assert bench.publisher.take(topics.POLICY.address(third.agent_id)) == []
    newest = first.reads(topics.POLICY, bench.publisher.take(topics.POLICY.address(first.agent_id))[-1], bench.keyring)
    (entry,) = newest["blocklist"]["ips"]
    assert entry["incidentId"].startswith("inc-")
    assert entry["expiresAt"].endswith("Z")


@pytest.mark.parametrize(("apart", "expected"), [(300.0, 1), (301.0, 0)])
def test_the_window_is_exact(bench: Bench, apart: float, expected: int) -> None:
    """Two agents 300 s apart make an incident; 301 s apart they make none. One agent twice never does."""
    first, second = trusted(bench, "a", "b")
    attack(bench, first)
    attack(bench, first)
    bench.pass_time(apart, step=7)
    for agent in (first, second):
        bench.receive(topics.HEARTBEAT, agent.agent_id, agent.heartbeat(bench.wall))
    attack(bench, second)
    assert len(incidents(bench)) == expected


def test_a_third_agent_makes_it_organization_wide_by_one_publish(bench: Bench) -> None:
    """From three agents on the block is one change of the organization's blocklist, and the snapshot follows."""
    agents = trusted(bench, *"abcde")
    attack(bench, *agents[:2])
    bench.publisher.published.clear()
    attack(bench, agents[2])
    (change,) = bench.publisher.take(topics.BLOCKLIST_CHANGES.address("default"))
    assert [entry["value"] for entry in json.loads(change)["added"]] == [ATTACKER]
    assert bench.publisher.take(topics.POLICY.address(agents[4].agent_id)) == []
    bench.pass_time(11)
    snapshots = bench.publisher.take(topics.BLOCKLIST.address("default"))
    assert [entry["value"] for entry in json.loads(snapshots[-1])["entries"]] == [ATTACKER]
    bench.receive(topics.HEARTBEAT, agents[4].agent_id, agents[4].heartbeat(bench.wall, blocklist_sequence=0))
    bench.pass_time(11)
    assert len(bench.publisher.take(topics.BLOCKLIST.address("default"))) == 1


def test_a_blocklist_says_when_it_was_signed_and_what_time_is_left(bench: Bench) -> None:
    """In a change and in the snapshot, so that a guard with a wrong clock ends the block at the right time."""
    attack(bench, *trusted(bench, *"abc"))
    bench.pass_time(120)
    changes = map(json.loads, bench.publisher.take(topics.BLOCKLIST_CHANGES.address("default")))
    (change,) = [each for each in changes if each["added"]]  # another one has the never list
    snapshot = json.loads(bench.publisher.take(topics.BLOCKLIST.address("default"))[-1])
    for message, entries in ((change, change["added"]), (snapshot, snapshot["entries"])):
        (entry,) = entries
        signed, end = (datetime.fromisoformat(text).timestamp() for text in (message["sentAt"], entry["expiresAt"]))
        assert entry["secondsLeft"] == pytest.approx(end - signed, abs=0.2)


def test_the_same_by_hash_and_by_technique(bench: Bench) -> None:
    """A shared SHA-256 is quarantined on the affected agents; a shared technique lowers their thresholds."""
    first, second = trusted(bench, "a", "b")
    digest = "ab" * 32
    attack(bench, first, second, fileHash=digest)
    document = bench.ask(ReadPolicy(first.agent_id)).document
    assert [entry["value"] for entry in document["blocklist"]["fileHashes"]] == [digest]
    assert document["thresholds"]["autoRespond"] == 75
    assert document["alerting"]["minimumSeverity"] == "low"
    assert len(incidents(bench, "file_hash")) == len(incidents(bench, "technique")) == 1


def test_late_reports_show_in_the_incident_and_block_nobody(bench: Bench) -> None:
    """Reports of a guard that was offline for an hour make an incident marked late, and no block."""
    first, second = trusted(bench, "a", "b")
    happened = bench.wall
    attack(bench, first)
    bench.pass_time(3600, step=9)
    bench.receive(topics.HEARTBEAT, second.agent_id, second.heartbeat(bench.wall))
    attack(bench, second, at=happened + 1)
    assert [state for _, state in incidents(bench)] == ["refused"]
    assert bench.rows("SELECT late FROM incident WHERE kind = 'source_ip'") == [(1,)]
    assert blocked(bench, first) == blocked(bench, second) == []


@pytest.mark.parametrize(
    "offered", ["127.0.0.1", "198.51.100.1", "10.1.2.3", "::ffff:127.0.0.1", "224.0.0.1", "0.0.0.0"]
)
def test_what_three_compromised_agents_offer_is_not_blocked_if_it_must_not_be(bench: Bench, offered: str) -> None:
    """Loopback, the manager, a gateway, an allowlisted, a multicast and an unspecified address: refused, visibly."""
    bench.ask(SetPolicy(GLOBAL, {"allowlist": {"ips": ["203.0.113.0/24"]}}, "test"))
    token = bench.token()
    agents = [bench.enroll(name, token, gateways=["10.1.2.3"]) for name in "abc"]
    for agent in agents:
        bench.receive(topics.HEARTBEAT, agent.agent_id, agent.heartbeat(bench.wall))
    attack(bench, *agents, sourceIp=offered)
    attack(bench, *agents, sourceIp="203.0.113.9")
    assert all(blocked(bench, agent) == [] for agent in agents)
    assert bench.rows("SELECT count(*) FROM emergency_entry WHERE kind = 'ip'") == [(0,)]
    assert all(state == "refused" for _, state in incidents(bench))


@pytest.mark.parametrize(
    ("offered", "reason"),
    [("0.0.0.0/0", "it is no single address"), ("203.0.113.9", "it is on the allowlist"), ("localhost", "it is no")],
)
def test_what_makes_no_incident_at_all_is_told_with_its_reason(bench: Bench, offered: str, reason: str) -> None:
    """A network, an allowlisted address and a name from three agents make no incident; an event gives the reason."""
    bench.ask(SetPolicy(GLOBAL, {"allowlist": {"ips": ["203.0.113.0/24"]}}, "test"))
    agents = trusted(bench, *"abc")
    attack(bench, *agents, sourceIp=offered)
    assert incidents(bench) == []
    told = [json.loads(payload)["data"] for payload in bench.publisher.take(topics.FLEET.address("indicator_refused"))]
    assert [(each["value"], each["reason"].startswith(reason)) for each in told] == [(offered, True)] * 3


def test_a_backlog_that_waited_in_the_broker_blocks_nobody(bench: Bench) -> None:
    """Reports sent while the manager was down for ten minutes make a late incident and no block."""
    first, second = trusted(bench, "a", "b")
    waiting = [(agent, agent.threat(bench.wall, sourceIp=ATTACKER)) for agent in (first, second)]
    bench.elapsed += 600
    bench.crash()
    for agent, payload in waiting:  # before any fresh heartbeat: the clock offset is the one that was kept
        bench.receive(topics.THREATS, agent.agent_id, payload)
    assert [state for _, state in incidents(bench)] == ["refused"]
    assert bench.rows("SELECT late FROM incident WHERE kind = 'source_ip'") == [(1,)]
    assert blocked(bench, first) == blocked(bench, second) == []


def test_undo_takes_the_block_away_everywhere_and_it_stays_away(bench: Bench) -> None:
    """After an undo no agent has the block, and the incident does not block again; a freeze stops all responses."""
    agents = trusted(bench, *"abc")
    attack(bench, *agents)
    ((incident_id, state),) = incidents(bench)
    assert state == "applied"
    assert bench.ask(UndoIncident(incident_id, "admin")) == incident_id
    assert all(blocked(bench, agent) == [] for agent in agents)
    assert bench.rows("SELECT count(*) FROM emergency_entry WHERE kind = 'ip'") == [(0,)]
    attack(bench, *agents)
    assert incidents(bench) == [(incident_id, "undone")]
    assert bench.ask(FreezeResponses(frozen=True, author="admin"))
    attack(bench, *agents, sourceIp="203.0.113.77")
    assert all("203.0.113.77" not in blocked(bench, agent) for agent in agents)
    bench.crash()
    assert bench.ask(ReadResponseStatus()).frozen


@pytest.mark.parametrize("then", ["merged", "withdrawn"])
def test_an_entry_that_changes_in_the_batch_that_adds_it_is_stored_as_it_is_in_memory(bench: Bench, then: str) -> None:
    """An entry that one batch adds and then moves to another incident, or removes, leaves no other row behind."""
    agents = trusted(bench, *"abcde")
    attack(bench, *agents[:2])
    bench.pass_time(400)
    for agent in agents[2:4]:
        bench.put(topics.THREATS, agent.agent_id, agent.threat(bench.wall, sourceIp=ATTACKER))
    late = {"lastLogin": bench.wall - 60} if then == "withdrawn" else {}
    report = agents[4].threat(bench.wall - 200, sourceIp=ATTACKER, **late)
    bench.put(topics.THREATS, agents[4].agent_id, report)
    bench.engine.step(bench.now)
    live = {(entry.id, entry.incident_id) for entry in bench.fleet.responder.entries}
    assert len({incident_id for entry_id, incident_id in live}) == (2 if then == "merged" else 1)
    assert set(bench.rows("SELECT id, incident_id FROM emergency_entry")) == live


def test_a_block_ends_on_time_and_the_policy_is_published_again(bench: Bench) -> None:
    """After four hours the entry is gone from the store and from the published policy."""
    first, second = trusted(bench, "a", "b")
    attack(bench, first, second)
    bench.publisher.published.clear()
    bench.pass_time(4 * 3600 + 2, step=9)
    assert blocked(bench, first) == []
    newest = first.reads(topics.POLICY, bench.publisher.take(topics.POLICY.address(first.agent_id))[-1], bench.keyring)
    assert newest["blocklist"]["ips"] == []
    assert bench.rows("SELECT count(*) FROM emergency_entry WHERE kind = 'ip'") == [(0,)]


def test_a_restart_goes_on_as_if_nothing_had_happened(bench: Bench) -> None:
    """Open incidents, entries, versions and sequences survive a restart; the next agent is the third."""
    agents = trusted(bench, *"abc")
    attack(bench, *agents[:2])
    before = bench.ask(ReadPolicy(agents[0].agent_id))
    bench.crash()
    assert bench.changed == []
    assert bench.ask(ReadPolicy(agents[0].agent_id)) == before
    bench.receive(topics.HEARTBEAT, agents[2].agent_id, agents[2].heartbeat(bench.wall))
    attack(bench, agents[2])
    assert len(incidents(bench)) == 1
    assert bench.rows("SELECT count(*) FROM emergency_entry WHERE scope = 'organization'") == [(1,)]


def test_time_to_acceptance_is_measured_from_the_guards_own_words(bench: Bench) -> None:
    """After both agents acknowledged the policy with the block, the incident shows the duration."""
    first, second = trusted(bench, "a", "b")
    attack(bench, first, second)
    bench.pass_time(2)
    for agent in (first, second):
        policy = bench.ask(ReadPolicy(agent.agent_id))
        heartbeat = agent.heartbeat(
            bench.wall, policy_version=policy.version, policy_digest=policy.digest, policy_state=_APPLIED
        )
        bench.receive(topics.HEARTBEAT, agent.agent_id, heartbeat)
    ((incident_id, _),) = incidents(bench)
    ((acceptance, immunity),) = bench.rows(
        f"SELECT acceptance, immunity FROM incident_response WHERE incident_id = '{incident_id}'"
    )
    assert json.loads(acceptance)["100"] == pytest.approx(2, abs=0.5)
    assert json.loads(immunity) == {}  # a guard that accepted a policy has not said that its kernel has the block
    assert bench.ask(ReadDrift()) == []


def test_a_flood_of_forged_attackers_waits_for_approval_and_can_be_approved(bench: Bench) -> None:
    """Two compromised agents get a tenth of the cap each; the rest waits, and an admin approves one."""
    liars = trusted(bench, "a", "b")
    for n in range(40):
        attack(bench, *liars, sourceIp=f"203.0.113.{n + 1}")
    states = [state for _, state in incidents(bench)]
    assert states.count("applied") <= 20
    assert states.count("pending_approval") >= 20
    waiting = next(incident_id for incident_id, state in incidents(bench) if state == "pending_approval")
    bench.ask(ApproveIncident(waiting, "admin"))
    assert dict(incidents(bench))[waiting] == "applied"


def test_a_rollback_is_a_new_revision(bench: Bench) -> None:
    """A rollback restores the documents and raises the revision."""
    (agent,) = trusted(bench, "a")
    bench.ask(SetPolicy(GLOBAL, {"thresholds": {"autoRespond": 70.0}}, "test"))
    bench.ask(SetPolicy(GLOBAL, {"thresholds": {"autoRespond": 40.0}}, "test"))
    result = bench.ask(RollBack(2, "admin"))
    assert (result.revision, result.changed, result.agents) == (4, True, 1)
    assert bench.ask(ReadPolicy(agent.agent_id)).document["thresholds"]["autoRespond"] == 70


def reasons(bench: Bench) -> list[str]:
    """Return the reason of the response to each incident of a source address."""
    query = "SELECT reason FROM incident_response JOIN incident ON incident.id = incident_id WHERE kind = 'source_ip'"
    return [reason for (reason,) in bench.rows(query)]


def test_late_reports_over_mqtt_are_named_with_their_delay(bench: Bench) -> None:
    """The clocks are known, so no clock is blamed: the incident says how late each report arrived."""
    attack(bench, *trusted(bench, "a", "b"), at=bench.wall - 412)
    (reason,) = reasons(bench)
    assert reason.endswith(
        "the report of a arrived 412 s after the attack; the report of b arrived 412 s after the attack"
    )


def test_a_report_on_time_takes_back_what_was_said_of_a_clock(bench: Bench) -> None:
    """The reason of a later refusal names only the agent whose newest report does not count."""
    a, b = trusted(bench, "a", "b")
    attack(bench, a, at=bench.wall - 412, sourceIp="203.0.113.9")
    attack(bench, a, sourceIp="203.0.113.10")
    attack(bench, b, at=bench.wall - 310)
    attack(bench, a, at=bench.wall - 20)
    (reason,) = reasons(bench)
    assert reason.endswith("attack: the report of b arrived 310 s after the attack")


def test_the_block_of_a_closed_incident_can_be_undone(tmp_path: Path) -> None:
    """Its incident is kept, past its retention and over restarts, as long as its block is in force."""
    bench = Bench(tmp_path, dataclasses.replace(SETTINGS, threat_retention=1800.0))
    agents = trusted(bench, "a", "b", "c")
    attack(bench, *agents)
    ((incident_id, _),) = incidents(bench)
    bench.ask(AcceptClock("admin"))
    bench.pass_time(3 * 3600, step=30)
    assert bench.rows("SELECT count(*) FROM incident WHERE kind = 'source_ip' AND closed_at IS NULL") == [(0,)]
    assert bench.rows("SELECT count(*) FROM threat") == [(0,)]
    bench.crash()
    assert [entry.value for entry in bench.fleet.blocklists.snapshot("default").entries] == [ATTACKER]
    bench.ask(UndoIncident(incident_id, "admin"))
    assert bench.fleet.blocklists.snapshot("default").entries == []
    assert bench.rows("SELECT count(*) FROM emergency_entry WHERE kind = 'ip'") == [(0,)]
    assert incidents(bench) == [(incident_id, "undone")]
    bench.ask(AcceptClock("admin"))
    bench.pass_time(3600, step=30)
    assert incidents(bench) == []
    assert bench.fleet.responder.responses.get(incident_id) is None
    bench.database.close()


_APPLIED = PolicyState.APPLIED
