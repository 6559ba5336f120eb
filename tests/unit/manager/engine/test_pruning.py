"""Pruning over a real store, with a clock that may be wrong: fresh rows stay, old ones go, operators are told."""

import sqlite3
from collections.abc import Iterator
from math import ceil
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from manager.domain.agents.registry import Takeover
from manager.domain.protection.forecast import HostLogin, Lift
from manager.domain.protection.measures import ReportedMeasure, ScopedAddress
from manager.engine.batch import Changes, HistoryLine
from manager.engine.commands.requests import AcceptClock, RemoveAgent
from manager.engine.fleet import CLOCK_WARNING
from manager.engine.ports import Pruned, PruneOrder
from manager.engine.settings import EngineSettings
from schemas import topics
from tests.support.engine import Bench
from tests.support.simulated import SimulatedAgent

HOUR, DAY = 3600.0, 86_400.0


class Fleet:
    """Agents on a right clock, and a manager whose clock is `ahead` seconds off."""

    def __init__(self, directory: Path, agents: int = 4) -> None:
        self.bench = Bench(directory)
        self.ahead = 0.0
        self.agents = [self.bench.enroll(f"srv-{number}") for number in range(agents)]
        self.received: dict[str, float] = {}

    @property
    def true_time(self) -> float:
        return self.bench.wall - self.ahead

    def set_clock(self, ahead: float) -> None:
        """Step the manager's clock."""
        self.bench.began += ahead - self.ahead
        self.ahead = ahead

    def restart(self, ahead: float) -> None:
        """End the manager, and start it on a host that booted with another time."""
        self.set_clock(ahead)
        self.bench.crash()

    def report(self, agent: SimulatedAgent) -> None:
        threat_id = f"t-{len(self.received):06}"
        self.received[threat_id] = self.true_time
        self.bench.put(topics.THREATS, agent.agent_id, agent.threat(self.true_time, threat_id))

    def heartbeats(self) -> None:
        for agent in self.agents:
            self.bench.put(topics.HEARTBEAT, agent.agent_id, agent.heartbeat(self.true_time))

    def run(self, seconds: float, step: float, *, reporting: bool = True, beating: bool = True) -> None:
        """Let time pass; an agent reports in each step, and all send a heartbeat every minute."""
        end = self.bench.elapsed + seconds
        beat = self.bench.elapsed
        while self.bench.elapsed < end:
            self.bench.elapsed += step
            if beating and self.bench.elapsed >= beat:
                self.heartbeats()
                beat = self.bench.elapsed + 60
            if reporting:
                self.report(self.agents[len(self.received) % len(self.agents)])
            self.bench.engine.step(self.bench.now)

    def kept(self) -> set[str]:
        return {threat_id for (threat_id,) in self.bench.rows("SELECT threat_id FROM threat")}

    def fresh(self) -> set[str]:
        """Return the reports that are younger than the retention by the true time."""
        return {threat_id for threat_id, at in self.received.items() if at > self.true_time - DAY}


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path)
    yield fleet
    fleet.bench.database.close()


def test_a_start_two_days_ahead_deletes_nothing_fresh(fleet: Fleet) -> None:
    """An hour of reports, six a minute, on a clock two days ahead, a day on the right one: only what is old goes."""
    fleet.run(DAY, 600)
    fleet.restart(ahead=2 * DAY)
    fleet.run(HOUR, 10)
    assert fleet.kept() == set(fleet.received)
    assert "the clock is 2880 minutes off the agents' clocks" in fleet.bench.fleet.warnings["clock"]
    fleet.set_clock(0.0)
    fleet.run(HOUR, 60)
    for _ in range(30):
        fleet.run(HOUR, 300, reporting=False)
        assert fleet.fresh() <= fleet.kept()
    fleet.run(DAY, 600)
    assert fleet.fresh() <= fleet.kept()
    assert len(fleet.kept() - fleet.fresh()) < 20
    assert not fleet.bench.fleet.warnings


def test_old_rows_go_in_three_silent_days(fleet: Fleet) -> None:
    """Without an agent the clock is trusted after 24 hours, and two days later nothing old is left."""
    fleet.run(DAY, 300)
    fleet.restart(ahead=0.0)
    fleet.run(DAY - 120, 60, reporting=False, beating=False)
    assert fleet.kept() == set(fleet.received)
    assert "fewer than three agents" in fleet.bench.fleet.warnings["clock"]
    fleet.run(2 * DAY + 120, 60, reporting=False, beating=False)
    assert fleet.kept() == set()


def test_a_store_that_was_emptied_keeps_its_next_reports(fleet: Fleet) -> None:
    """Sequences begin again in an empty table, and no checkpoint of before makes the new rows old."""
    fleet.run(HOUR, 600)
    fleet.run(3 * DAY, 300, reporting=False)
    assert fleet.kept() == set()
    emptied = len(fleet.received)
    fleet.run(6 * HOUR, 300)
    assert len(fleet.kept()) == len(fleet.received) - emptied


def test_steady_work_stays_within_a_retention_of_a_minute(tmp_path: Path) -> None:
    """Housekeeping comes as often as its limit allows to delete: the table does not fill up between two runs."""
    bench = Bench(tmp_path, EngineSettings(takeover=Takeover.ALLOW, threat_retention=60.0, id_retention=120.0))
    agents = [bench.enroll(f"srv-{number}") for number in range(3)]
    for second in range(400):
        agent = agents[second % 3]
        if second % 30 < 3:
            bench.put(topics.HEARTBEAT, agent.agent_id, agent.heartbeat(bench.wall))
        bench.put(topics.THREATS, agent.agent_id, agent.threat(bench.wall, f"t-{second}"))
        bench.pass_time(1.0)
    assert 60 <= bench.rows("SELECT count(*) FROM threat")[0][0] <= 80
    assert bench.rows("SELECT count(*) FROM stored_id")[0][0] <= 160


def test_an_hour_deletes_a_24th_and_a_tenth_of_it(fleet: Fleet) -> None:
    """With a trusted clock and everything expired, an hour takes its share and no more."""
    fleet.run(DAY, 300)
    fleet.restart(ahead=40 * DAY)
    held = len(fleet.kept())
    share = ceil(held / 24 * 1.1)
    fleet.bench.ask(AcceptClock("admin"))
    for hour in range(1, 4):
        fleet.run(HOUR - 200, 100, reporting=False, beating=False)
        assert held - len(fleet.kept()) == share * hour
        fleet.run(200, 100, reporting=False, beating=False)


@pytest.mark.parametrize("beating", [True, False])
def test_a_start_gives_the_agents_a_minute_to_confirm_the_clock(fleet: Fleet, *, beating: bool) -> None:
    """A fleet that does is no news for an operator; one that does not is told of after that minute."""
    fleet.restart(ahead=0.0)
    fleet.run(59, 1, reporting=False, beating=beating)
    assert CLOCK_WARNING not in fleet.bench.fleet.warnings
    fleet.run(2, 1, reporting=False, beating=beating)
    assert (CLOCK_WARNING in fleet.bench.fleet.warnings) is not beating


@pytest.mark.parametrize("ahead", [3650 * DAY, -18_000 * DAY])
def test_rows_of_an_impossible_time_do_not_stop_pruning(fleet: Fleet, ahead: float) -> None:
    """A whole store that was stamped years off expires a retention after a right clock has seen it, not before."""
    fleet.restart(ahead=ahead)
    fleet.run(HOUR, 60)
    stored = fleet.kept()
    fleet.restart(ahead=0.0)
    fleet.run(DAY - HOUR, 300, reporting=False)
    assert fleet.kept() == stored
    fleet.run(2 * DAY, 300, reporting=False)
    assert fleet.kept() == set()


def test_an_operator_may_accept_the_clock(fleet: Fleet) -> None:
    """The command is audited, ends the warning, and lets pruning begin; said twice, it changes nothing."""
    fleet.run(DAY, 600)
    with capture_logs() as logs:
        fleet.restart(ahead=3 * DAY)
        fleet.run(120, 60, reporting=False, beating=False)
    assert [entry["event"] for entry in logs if entry["event"].startswith("prun")] == ["pruning_waits"]
    assert "clock accept" in fleet.bench.fleet.warnings["clock"]
    fleet.bench.ask(AcceptClock("admin"))
    fleet.bench.ask(AcceptClock("admin"))
    assert not fleet.bench.fleet.warnings
    assert fleet.bench.rows("SELECT target FROM audit_entry WHERE action = 'clock.accept'") == [("manager",)]
    fleet.run(120, 60, reporting=False, beating=False)
    assert len(fleet.kept()) < len(fleet.received)


def test_history_audit_and_removed_agents_do_not_grow_for_ever(fleet: Fleet) -> None:
    """Each goes at its age; a removed agent stays while a threat of it does, and no number is assigned twice."""
    gone, last = fleet.agents[0], fleet.agents[-1]
    fleet.report(gone)
    fleet.bench.ask(RemoveAgent(gone.agent_id, "admin"))
    fleet.bench.ask(RemoveAgent(last.agent_id, "admin"))
    fleet.agents = fleet.agents[1:-1]
    fleet.run(60, 60, reporting=False)
    history = fleet.bench.rows("SELECT count(*) FROM agent_history")
    fleet.bench.elapsed += 89 * DAY
    fleet.run(600, 60, reporting=False)
    assert fleet.bench.rows("SELECT count(*) FROM agent_history")[0][0] >= history[0][0]
    assert fleet.bench.rows("SELECT agent_id FROM agent WHERE removed_at > 0 ORDER BY number") == [
        (gone.agent_id,),
        (last.agent_id,),
    ]
    fleet.bench.elapsed += 12 * DAY
    fleet.run(600, 60, reporting=False)
    assert fleet.bench.rows("SELECT count(*) FROM agent_history WHERE event = 'agent_removed'") == [(0,)]
    assert fleet.bench.rows("SELECT agent_id FROM agent WHERE removed_at > 0") == [(last.agent_id,)]
    assert fleet.bench.rows("SELECT count(*) FROM audit_entry") != [(0,)]
    fleet.bench.elapsed += 730 * DAY
    fleet.bench.ask(RemoveAgent(fleet.agents.pop().agent_id, "admin"))
    fleet.run(600, 60, reporting=False)
    assert fleet.bench.rows("SELECT count(*) FROM audit_entry") == [(1,)]
    assert fleet.bench.rows("PRAGMA foreign_keys") == [(1,)]
    assert fleet.bench.rows("PRAGMA foreign_key_check") == []


def test_a_removed_agent_stays_while_its_threats_do(fleet: Fleet) -> None:
    """Threats that are not pruned, for the clock is not trusted, keep the agent that reported them."""
    gone = fleet.agents.pop(0)
    fleet.report(gone)
    fleet.bench.engine.step(fleet.bench.now)
    assert len(fleet.kept()) == 1
    fleet.bench.ask(RemoveAgent(gone.agent_id, "admin"))
    fleet.bench.database.execute_sql("UPDATE agent SET removed_at = 1 WHERE removed_at > 0")
    fleet.run(600, 60)
    assert fleet.bench.rows("SELECT agent_id FROM agent WHERE removed_at = 1") == [(gone.agent_id,)]
    fleet.run(2 * DAY, 600)
    assert fleet.bench.rows("SELECT count(*) FROM agent WHERE removed_at = 1") == [(0,)]


def test_a_batch_with_commands_prunes_outside_its_transaction(fleet: Fleet) -> None:
    """Foreign keys can be switched off only there; otherwise each removed agent costs a scan of all threats and ids."""
    bench, gone = fleet.bench, fleet.agents.pop(0)
    fleet.heartbeats()
    bench.engine.step(bench.now)
    bench.ask(RemoveAgent(gone.agent_id, "admin"))
    bench.database.execute_sql("UPDATE agent SET removed_at = 1 WHERE removed_at > 0")
    bench.ask(AcceptClock("admin"))
    prune, in_transaction = bench.store.prune, []

    def recorded(order: PruneOrder) -> Pruned:
        in_transaction.append(bench.database.connection().in_transaction)
        return prune(order)

    bench.store.prune = recorded  # type: ignore[method-assign]
    for _ in range(3):
        bench.elapsed += 60
        fleet.heartbeats()
        bench.ask(AcceptClock("admin"))
    assert in_transaction
    assert not any(in_transaction)
    assert bench.rows("SELECT count(*) FROM agent WHERE removed_at = 1") == [(0,)]


def test_the_audit_log_keeps_its_last_90_days(fleet: Fleet) -> None:
    """The database itself refuses to delete a younger entry, or to change any."""
    fleet.bench.ask(RemoveAgent(fleet.agents[0].agent_id, "admin"))
    for statement in ("DELETE FROM audit_entry", "UPDATE audit_entry SET actor = 'x'"):
        with (
            sqlite3.connect(fleet.bench.directory / "panguard.db") as other,
            pytest.raises(sqlite3.IntegrityError, match="only appended to"),
        ):
            other.execute(statement)
        other.close()


def _order(now: float) -> PruneOrder:
    """Return an order to delete, in small pieces, what is older than 30 days."""
    before = now - 30 * DAY
    return PruneOrder(now, before, before, before, before, before, before, threats=3, ids=3, rows=3)


def _protection(fleet: Fleet, at: float) -> Changes:
    """Return a measure, a login, a lift and a change of an agent's state, with an address of that time."""
    agent = next(iter(fleet.bench.fleet.registry.agents.values()))
    subject = ScopedAddress("default", "", f"198.51.{int(at / HOUR) % 199}.{int(at) % 250}")
    measure = ReportedMeasure(subject, agent.number, at, "rule", "block", 5, "taken", None)
    return Changes(
        measures={(agent.number, str(at)): (measure, at)},
        logins=[HostLogin(subject, agent.number, "bob", at, guessed=False)],
        lifts=[Lift(subject, at, "lift", "ann")],
        history=[HistoryLine(agent.agent_id, at, "agent_online", "test")],
    )


def _counts(bench: Bench) -> list[int]:
    """Return the numbers of measures, logins, lifts and changes of agents' states."""
    tables = ("reported_measure", "host_login", "block_lift", "agent_history")
    return [bench.rows(f"SELECT count(*) FROM {table}")[0][0] for table in tables]


def test_rows_of_the_future_stop_no_pruning_of_what_protection_and_history_keep(fleet: Fleet) -> None:
    """A clock that was years ahead left them first in their tables: they go like those that are stored after them."""
    bench, start = fleet.bench, fleet.bench.wall
    bench.database.execute_sql("DELETE FROM agent_history")
    for number in range(5):
        bench.store.commit(_protection(fleet, start + 4000 * DAY + number))
    for number in range(5):
        bench.store.commit(_protection(fleet, start + number))
    for _ in range(10):
        bench.store.prune(_order(start + DAY))
    assert _counts(bench) == [10, 5, 10, 10]
    for _ in range(10):
        bench.store.prune(_order(start + 32 * DAY))
    assert _counts(bench) == [0, 0, 0, 0]
    bench.store.commit(_protection(fleet, start + 33 * DAY))
    bench.store.prune(_order(start + 34 * DAY))
    assert _counts(bench) == [1, 1, 1, 1]


def test_agents_that_report_logins_are_forgotten_some_time_after_their_removal(fleet: Fleet) -> None:
    """As long after it as their last measures are kept; those that are registered stay."""
    bench = fleet.bench
    numbers = [agent.number for agent in bench.fleet.registry.agents.values()]
    gone, stays = numbers[0], numbers[1]
    bench.store.commit(Changes(login_reporters={gone: bench.wall, stays: bench.wall, 999: bench.wall}))
    agent = bench.fleet.registry.find_by_number(gone)
    assert agent is not None
    bench.ask(RemoveAgent(agent.agent_id, "test"))
    bench.store.prune(_order(bench.wall + 29 * DAY))
    assert bench.rows("SELECT agent_number FROM login_reporter ORDER BY 1") == [(gone,), (stays,)]
    bench.store.prune(_order(bench.wall + 31 * DAY))
    assert bench.rows("SELECT agent_number FROM login_reporter") == [(stays,)]
