"""Write-behind: heartbeats go into narrow rows, some at a time, and nothing of them is lost but the last seconds."""

from typing import Any

import pytest

from manager.engine import write_behind
from manager.engine.batch import Changes
from manager.engine.commands.requests import RemoveAgent
from manager.storage.queries import StoreQueries
from schemas import topics
from schemas.presence import Mode, SourceReport
from tests.support.engine import Bench
from tests.support.migrated_store import open_reading
from tests.support.simulated import SimulatedAgent


@pytest.fixture
def commits(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> list[Changes]:
    """The changes of every commit from now on."""
    kept: list[Changes] = []
    commit = bench.store.commit

    def record(changes: Changes) -> None:
        kept.append(changes)
        commit(changes)

    monkeypatch.setattr(bench.store, "commit", record)
    return kept


def _beat(bench: Bench, agent: SimulatedAgent, **members: Any) -> None:
    bench.receive(topics.HEARTBEAT, agent.agent_id, agent.heartbeat(bench.wall, **members))


def _settle(bench: Bench) -> None:
    bench.pass_time(12)


def test_a_heartbeat_writes_a_narrow_row_alone(bench: Bench, commits: list[Changes]) -> None:
    """What a heartbeat seldom changes is written only when it changed."""
    agent = bench.enroll("web-1")
    _beat(bench, agent, cpu=10.0)
    _settle(bench)
    commits.clear()
    _beat(bench, agent, cpu=20.0)
    _settle(bench)
    assert [(list(each.agents), list(each.vitals)) for each in commits] == [([], [agent.agent_id])]
    assert bench.rows("SELECT cpu FROM agent_vitals") == [(20.0,)]
    _beat(bench, agent, mode=Mode.LEARNING)
    _settle(bench)
    assert bench.rows("SELECT mode FROM agent") == [("learning",)]


def test_a_step_writes_no_more_than_its_share(
    bench: Bench, commits: list[Changes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows that wait are spread over as many transactions as they need, and the loop does not wait meanwhile."""
    monkeypatch.setattr(write_behind, "ROWS", 4)
    agents = [bench.enroll(f"web-{number}") for number in range(10)]
    _settle(bench)
    commits.clear()
    for agent in agents:
        bench.put(topics.HEARTBEAT, agent.agent_id, agent.heartbeat(bench.wall, cpu=33.0))
    bench.elapsed += 6
    steps = 0
    while bench.engine.has_work:
        bench.engine.step(bench.now)
        steps += 1
    written = [len(each.agents | each.vitals) for each in commits]
    assert max(written) <= 4
    assert steps >= 3
    assert bench.rows("SELECT count(*) FROM agent_vitals WHERE cpu = 33.0") == [(10,)]


def test_a_clean_stop_writes_everything(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much waits, it is in the store when the stop has returned."""
    monkeypatch.setattr(write_behind, "ROWS", 1)
    agents = [bench.enroll(f"web-{number}") for number in range(5)]
    _settle(bench)
    for agent in agents:
        bench.put(topics.HEARTBEAT, agent.agent_id, agent.heartbeat(bench.wall, cpu=44.0))
    assert bench.engine.stop(bench.now)
    assert bench.rows("SELECT count(*) FROM agent_vitals WHERE cpu = 44.0") == [(5,)]


def test_a_removed_agent_leaves_no_vitals(bench: Bench) -> None:
    """Nothing that waited for its writing comes back after the removal."""
    agent = bench.enroll("web-1")
    _beat(bench, agent)
    bench.ask(RemoveAgent(agent.agent_id, "test"))
    _settle(bench)
    assert bench.rows("SELECT count(*) FROM agent_vitals") == [(0,)]
    assert bench.failures() == {}


def test_vitals_over_time_are_those_of_the_heartbeats(bench: Bench) -> None:
    """Each heartbeat is counted once in its period, across a crash; events are differences of the counts."""
    agent = bench.enroll("web-1")
    bench.pass_time(900 - bench.wall % 900, step=300)
    for cpu, total in ((10.0, 100), (30.0, 150)):
        _beat(bench, agent, cpu=cpu, memory=50.0, events_total=total)
        _settle(bench)
    bench.crash()
    bench.pass_time(900, step=300)
    _beat(bench, agent, cpu=90.0, memory=60.0, events_total=175)
    _settle(bench)
    reader = open_reading(bench.directory / "panguard.db")
    found = StoreQueries(reader).agent_vitals(agent.agent_id, bench.wall)
    assert found is not None
    shown = [{name: value for name, value in each.items() if name != "at"} for each in found["periods"]]
    assert shown == [
        {"heartbeats": 2, "cpu": 20.0, "cpuHighest": 30.0, "memory": 50.0, "events": None},
        {"heartbeats": 1, "cpu": 90.0, "cpuHighest": 90.0, "memory": 60.0, "events": 25},
    ]
    assert StoreQueries(reader).agent_vitals("ag-ffffffffffffffff", bench.wall) is None
    reader.close()


def test_a_repeated_registration_gets_the_stored_reply_after_a_restart(bench: Bench) -> None:
    """The stamp of a registration is read from the store when the same one arrives again, and is written only once."""
    agent = SimulatedAgent("web-1", bench.token(), bench.keyring.seal_public, uptime_from=bench.wall)
    client_id, payload = agent.registration(bench.wall)
    bench.receive(topics.REGISTRATION, client_id, payload)
    reply = bench.answer(client_id)
    agent.agent_id, agent.session = reply["agentId"], reply["session"] + 1
    bench.crash()
    _beat(bench, agent, mode=Mode.LEARNING)
    _settle(bench)
    bench.crash()
    bench.receive(topics.REGISTRATION, client_id, payload)
    assert bench.answer(client_id) == reply
    older, payload = agent.registration(bench.wall - 3600)
    bench.receive(topics.REGISTRATION, older, payload)
    assert bench.answer(older)["error"] == "outdated"
    assert bench.rows("SELECT keys IS NULL, http_digest IS NULL FROM agent") == [(0, 0)]


def test_a_removed_agents_registration_is_refused_after_a_restart(bench: Bench) -> None:
    """The stamp that forbids it is read from the store at the removal."""
    agent = SimulatedAgent("web-1", bench.token(), bench.keyring.seal_public, uptime_from=bench.wall)
    client_id, payload = agent.registration(bench.wall)
    bench.receive(topics.REGISTRATION, client_id, payload)
    agent_id = bench.answer(client_id)["agentId"]
    bench.crash()
    bench.ask(RemoveAgent(agent_id, "test"))
    bench.receive(topics.REGISTRATION, client_id, payload)
    assert bench.answer(client_id)["error"] == "outdated"


def test_sources_stay_in_the_store(bench: Bench) -> None:
    """The reports of an agent's sources survive writings of its record that know nothing of them."""
    agent = bench.enroll("web-1")
    _beat(bench, agent, health="ok", sources=[SourceReport(name="journal", state="ok")])
    _settle(bench)
    bench.crash()
    bench.receive(topics.PRESENCE, agent.agent_id, agent.presence("offline", bench.wall))
    assert bench.rows(
        "SELECT state, sources LIKE '%journal%' FROM agent JOIN agent_vitals ON agent_number = number"
    ) == [("offline", 1)]
