"""Restarts of the correlation: from then on the manager decides as one that never stopped."""

import json
from typing import Any

import pytest

from manager.domain.policies.fleet_policies import GLOBAL
from manager.engine.batch import Changes
from manager.engine.commands.requests import ChangeAllowlist, FreezeResponses
from manager.engine.ports import PruneOrder
from manager.errors import StoreRejected
from schemas import topics
from tests.support.engine import Bench
from tests.support.simulated import SimulatedAgent

pytestmark = pytest.mark.usefixtures("each_system")

ATTACKER = "203.0.113.66"
OTHER = "203.0.113.77"


def _agents(bench: Bench, count: int) -> list[SimulatedAgent]:
    token = bench.token()
    agents = [bench.enroll(f"host-{number}", token) for number in range(count)]
    for agent in agents:
        bench.receive(topics.HEARTBEAT, agent.agent_id, agent.heartbeat(bench.wall))
    return agents


def _report(bench: Bench, agent: SimulatedAgent, address: str = ATTACKER, at: float | None = None) -> None:
    payload = agent.threat(bench.wall if at is None else at, sourceIp=address)
    bench.receive(topics.THREATS, agent.agent_id, payload)


def _allow(bench: Bench, address: str, *, listed: bool) -> None:
    bench.ask(ChangeAllowlist(GLOBAL, None, address, listed=listed, author="test"))


def _members(bench: Bench) -> list[tuple[Any, ...]]:
    return bench.rows(
        "SELECT value, hostname FROM incident JOIN incident_member ON incident_id = incident.id "
        "JOIN agent USING (agent_id) WHERE kind = 'source_ip' ORDER BY value, hostname"
    )


@pytest.mark.parametrize("restarted", [False, True])
def test_reports_received_while_an_indicator_is_allowlisted_never_count(bench: Bench, *, restarted: bool) -> None:
    """Once the entry is gone reports count from then on: the third one is alone, the fourth makes an incident."""
    agents = _agents(bench, 4)
    _allow(bench, ATTACKER, listed=True)
    for agent in agents[:2]:
        _report(bench, agent)
    _allow(bench, ATTACKER, listed=False)
    if restarted:
        bench.crash()
    _report(bench, agents[2])
    assert _members(bench) == []
    _report(bench, agents[3])
    assert _members(bench) == [(ATTACKER, "host-2"), (ATTACKER, "host-3")]
    assert bench.failures() == {}


@pytest.mark.parametrize("restarted", [False, True])
def test_a_late_report_does_not_bring_allowlisted_reports_back(bench: Bench, *, restarted: bool) -> None:
    """Older reports that are read from the store for a late one are those that counted at their receipt."""
    agents = _agents(bench, 3)
    began = bench.wall
    _allow(bench, ATTACKER, listed=True)
    _report(bench, agents[0])
    _allow(bench, ATTACKER, listed=False)
    _report(bench, agents[1])
    bench.pass_time(1500, step=100)
    if restarted:
        bench.crash()
    _report(bench, agents[2], at=began)
    assert _members(bench) == [(ATTACKER, "host-1"), (ATTACKER, "host-2")]


@pytest.mark.parametrize("restarted", [False, True])
def test_an_entry_put_later_takes_no_report_back(bench: Bench, *, restarted: bool) -> None:
    """A report that counted at its receipt still counts when its entry was put and removed again."""
    agents = _agents(bench, 2)
    _report(bench, agents[0])
    _allow(bench, ATTACKER, listed=True)
    if restarted:
        bench.crash()
    _allow(bench, ATTACKER, listed=False)
    _report(bench, agents[1])
    assert _members(bench) == [(ATTACKER, "host-0"), (ATTACKER, "host-1")]


def test_a_refused_indicator_is_told_once_of_the_host_that_reported_it(bench: Bench) -> None:
    """A restart tells of nothing that was told before, and of no host that had no part in it."""
    agents = _agents(bench, 2)
    _allow(bench, ATTACKER, listed=True)
    for _ in range(20):
        _report(bench, agents[0])
    told = [json.loads(payload) for payload in bench.publisher.take(topics.FLEET.address("indicator_refused"))]
    assert [(each["hostname"], each["data"]["value"]) for each in told] == [("host-0", ATTACKER)] * 20
    bench.crash()
    _report(bench, agents[1], OTHER)
    assert bench.publisher.take(topics.FLEET.address("indicator_refused")) == []


def test_a_report_on_which_the_rules_failed_is_correlated_by_no_restart(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is stored without correlation, for good."""
    agents = _agents(bench, 3)

    def failing(*_: Any) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(bench.engine._incident_recorder.correlator, "observe", failing)
        _report(bench, agents[0])
    assert bench.failures() == {"reports_not_correlated": 1}
    bench.crash()
    _report(bench, agents[1])
    assert _members(bench) == []
    _report(bench, agents[2])
    assert _members(bench) == [(ATTACKER, "host-1"), (ATTACKER, "host-2")]


def _evidence(bench: Bench) -> list[tuple[Any, ...]]:
    return list(bench.store.archive.evidence())


@pytest.mark.parametrize("age", [0.0, 3 * 86_400.0])
def test_a_login_protects_its_address_after_a_restart_without_the_reports(bench: Bench, age: float) -> None:
    """Evidence has rows of its own, so that a start reads no documents; pruned reports take no login with them."""
    agents = _agents(bench, 3)
    payload = agents[0].threat(bench.wall, sourceIp=ATTACKER, lastLogin=bench.wall - 60)
    bench.receive(topics.THREATS, agents[0].agent_id, payload)
    bench.database.execute_sql("DELETE FROM threat")
    bench.elapsed += age
    bench.crash()
    for agent in agents[1:]:
        bench.receive(topics.HEARTBEAT, agent.agent_id, agent.heartbeat(bench.wall))
    for agent in agents[1:]:
        _report(bench, agent)
    assert _members(bench) != []
    ((state, reason),) = bench.rows(
        "SELECT state, reason FROM incident_response JOIN incident ON id = incident_id WHERE kind = 'source_ip'"
    )
    assert (state, "logged in successfully" in reason) == ("refused", True)


def test_evidence_goes_after_seven_days_from_memory_and_store(bench: Bench) -> None:
    """The row is deleted with the entry, without another report."""
    (agent,) = _agents(bench, 1)
    payload = agent.threat(bench.wall, fileHash="a" * 64, filePath="/usr/bin/x")
    bench.receive(topics.THREATS, agent.agent_id, payload)
    ((indicator, observed),) = _evidence(bench)
    assert (indicator.kind, observed.system_path) == ("file_hash", "/usr/bin/x")
    bench.pass_time(7 * 86_400.0 - 1, step=86_400.0)
    assert len(_evidence(bench)) == 1
    bench.pass_time(2)
    assert _evidence(bench) == []
    assert len(bench.fleet.responder.never_block.evidence) == 0
    assert bench.failures() == {}


def test_a_start_with_a_clock_far_ahead_drops_no_evidence(bench: Bench) -> None:
    """Until the clock is confirmed nothing is dropped that a right clock would keep."""
    (agent,) = _agents(bench, 1)
    payload = agent.threat(bench.wall, sourceIp=ATTACKER, lastLogin=bench.wall - 60)
    bench.receive(topics.THREATS, agent.agent_id, payload)
    bench.began += 8 * 86_400.0
    bench.crash()
    bench.pass_time(100)
    assert len(_evidence(bench)) == 1


def test_the_stored_evidence_is_that_in_memory_in_the_same_order(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The least recently renewed is dropped first, before and after a restart."""
    agents = _agents(bench, 2)
    index = bench.fleet.responder.never_block.evidence
    monkeypatch.setattr(index, "_most", 3)
    for turn, address in enumerate(
        ["203.0.113.1", "10.0.0.1", "203.0.113.2", "203.0.113.1", "203.0.113.3", "10.0.0.1"]
    ):
        agent = agents[turn % 2]
        payload = agent.threat(bench.wall, sourceIp=address, lastLogin=bench.wall - turn)
        bench.put(topics.THREATS, agent.agent_id, payload)
        if turn % 3 != 1:
            bench.engine.step(bench.now)
            bench.pass_time(1)
        assert turn % 3 == 1 or _evidence(bench) == list(index._observed.items())
    assert [indicator.value for indicator, _ in _evidence(bench)] == ["203.0.113.1", "203.0.113.3", "10.0.0.1"]
    bench.crash()
    assert list(bench.fleet.responder.never_block.evidence._observed.items()) == _evidence(bench)


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("step", [4000.0, -4000.0])
def test_reports_from_before_a_step_of_the_clock_find_those_after_it(
    bench: Bench, step: float, *, restarted: bool
) -> None:
    """Stored times stay as they are; they are read as if the clock had always been what it is now."""
    agents = _agents(bench, 2)
    _report(bench, agents[0])
    bench.began += step
    bench.pass_time(1)
    if restarted:
        bench.crash()
    _report(bench, agents[1], at=bench.wall - step)
    assert _members(bench) == [(ATTACKER, "host-0"), (ATTACKER, "host-1")]
    assert bench.rows("SELECT late, report_count FROM incident WHERE kind = 'source_ip'") == [(0, 2)]


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("step", [4000.0, -4000.0])
def test_a_closed_incident_follows_a_step_of_the_clock(bench: Bench, step: float, *, restarted: bool) -> None:
    """Its times are shifted in the store, whether it is in memory or not, and a late report still finds it."""
    agents = _agents(bench, 3)
    seen = bench.wall - 900
    for agent in agents[:2]:
        _report(bench, agent, at=seen)
    bench.pass_time(1)
    times = "SELECT first_seen_at, last_seen_at, opened_at, closed_at FROM incident WHERE kind = 'source_ip'"
    ((first, last, opened, closed),) = bench.rows(times)
    if restarted:
        bench.crash()
    bench.pass_time(1)
    bench.began += step
    bench.pass_time(1)
    assert bench.rows(times) == [(first + step, last + step, opened + step, closed + step)]
    _report(bench, agents[2], at=seen)
    assert _members(bench) == [(ATTACKER, "host-0"), (ATTACKER, "host-1"), (ATTACKER, "host-2")]
    assert bench.rows("SELECT count(*) FROM incident WHERE kind = 'source_ip'") == [(1,)]


def test_a_rejected_batch_still_shifts_the_stored_incidents(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change that the store cannot hold takes no other change with it: the incident is not in memory, and shifted."""
    agents = _agents(bench, 2)
    for agent in agents:
        _report(bench, agent, at=bench.wall - 900)
    bench.pass_time(1)
    bench.crash()
    bench.pass_time(1)
    times = "SELECT first_seen_at, last_seen_at, opened_at, closed_at FROM incident WHERE kind = 'source_ip'"
    (before,) = bench.rows(times)
    commit = bench.store.commit

    def rejecting(changes: Changes) -> None:
        if changes.audit:
            raise StoreRejected("it does not fit")
        commit(changes)

    monkeypatch.setattr(bench.store, "commit", rejecting)
    bench.began += 4000
    bench.pass_time(1)
    assert bench.rows(times) == [tuple(each + 4000 for each in before)]


def test_a_step_is_forgotten_with_the_threats_before_it(bench: Bench) -> None:
    """A store without threats counts from one again: what is stored then is from after the step."""
    agents = _agents(bench, 3)
    _report(bench, agents[0], OTHER)
    bench.began += 4000
    bench.pass_time(1)
    bench.elapsed += 90_000
    now = bench.wall
    bench.store.prune(PruneOrder(now, now - 1, 0, 0, 0, 0, 0, threats=10, ids=10, rows=10))
    assert bench.rows("SELECT count(*) FROM threat") == [(0,)]
    for agent in agents:
        bench.receive(topics.HEARTBEAT, agent.agent_id, agent.heartbeat(bench.wall - 4000))
    _report(bench, agents[1], at=bench.wall - 4000)
    bench.crash()
    _report(bench, agents[2], at=bench.wall - 4000)
    assert _members(bench) == [(ATTACKER, "host-1"), (ATTACKER, "host-2")]


@pytest.mark.parametrize("restarted", [False, True])
def test_what_was_missed_while_frozen_is_stored(bench: Bench, *, restarted: bool) -> None:
    """A member that joined while automatic response was frozen gets its entry after the thaw."""
    agents = _agents(bench, 4)
    for agent in agents[:2]:
        _report(bench, agent)
    bench.ask(FreezeResponses(frozen=True, author="test"))
    _report(bench, agents[2])
    if restarted:
        bench.crash()
    bench.ask(FreezeResponses(frozen=False, author="test"))
    _report(bench, agents[3])
    holders = bench.rows(
        "SELECT hostname FROM emergency_entry JOIN incident ON incident.id = incident_id "
        "JOIN agent ON agent_id = target WHERE incident.kind = 'technique' ORDER BY 1"
    )
    assert [hostname for (hostname,) in holders] == ["host-0", "host-1", "host-2", "host-3"]
