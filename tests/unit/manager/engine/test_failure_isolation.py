"""Failure isolation: no valid message, command, listener or store error ends the engine's step."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from manager.domain.agents.host import Host
from manager.domain.policies.fleet_policies import GLOBAL
from manager.engine.commands.http_agent_requests import RegisterAgent, StoreReports
from manager.engine.commands.requests import CreateToken, RemoveAgent, SetPolicy
from manager.engine.events import EventRow
from manager.engine.inbox import Command
from manager.engine.messages import reports
from schemas import topics
from tests.support.engine import Bench, prepared_reports
from tests.support.simulated import SimulatedAgent

MOST = 2**53 - 1
LAST_MOMENT = datetime.max.replace(tzinfo=UTC)


def test_counts_of_events_add_up_to_the_largest_number_of_the_contract(bench: Bench) -> None:
    """1,053 heartbeats with the largest `eventsProcessed` are stored; the total stays at the largest count."""
    agent = bench.enroll("web-1")
    for _ in range(1053):
        bench.put(topics.HEARTBEAT, agent.agent_id, agent.heartbeat(bench.wall, events_processed=MOST))
    bench.pass_time(10)
    assert bench.rows("SELECT events_total FROM agent_vitals") == [(MOST,)]
    assert bench.failures() == {}
    bench.crash()
    bench.pass_time(10)
    assert bench.rows("SELECT events_total FROM agent_vitals") == [(MOST,)]


def test_removal_and_registration_of_one_host_fit_in_one_batch(bench: Bench) -> None:
    """The old agent is removed, the new one is registered, and both callers get their answers."""
    agent = bench.enroll("web-1")
    removed = bench.submit(RemoveAgent(agent.agent_id, "test"))
    registered = bench.submit(RegisterAgent(Host.of("web-1", "Debian 12", "x64", "1.0"), None, by_admin=True))
    newcomer = SimulatedAgent("web-1", bench.token(), bench.keyring.seal_public)
    bench.engine.step(bench.now)
    assert removed == [(agent.agent_id, None)]
    ((value, error),) = registered
    assert error is None
    assert value.record["agentId"] != agent.agent_id
    bench.pass_time(1)
    assert "agentId" in bench.register(newcomer)
    assert bench.rows("SELECT count(*) FROM agent WHERE removed_at IS NULL") == [(1,)]
    assert bench.failures() == {}


def test_a_host_may_be_removed_and_registered_in_batch_after_batch(bench: Bench) -> None:
    """Each batch removes the agent of a host and registers the host again, also through the HTTP door."""
    host = Host.of("web-1", "Debian 12", "x64", "1.0")
    agent_id = bench.ask(RegisterAgent(host, None, by_admin=True)).record["agentId"]
    for _ in range(3):
        bench.submit(RemoveAgent(agent_id, "test"))
        registered = bench.submit(RegisterAgent(host, None, by_admin=True))
        bench.engine.step(bench.now)
        agent_id = registered[0][0].record["agentId"]
    assert bench.rows("SELECT count(*) FROM agent") == [(4,)]
    assert bench.rows("SELECT count(*) FROM agent WHERE removed_at IS NULL") == [(1,)]
    assert bench.failures() == {}


def test_the_last_moment_of_the_calendar_is_a_moment_like_any_other(bench: Bench) -> None:
    """Births that claim 9999-12-31T23:59:59.999999Z between ordinary ones are handled, then and ten minutes later."""
    agent = bench.enroll("web-1")
    events: list[EventRow] = []
    bench.engine.listeners.append(events.append)
    started = bench.wall
    for number in range(6):
        bench.pass_time(10)
        agent.session += 1
        odd = number % 2 == 0
        message = {
            "state": "online",
            "session": agent.session,
            "sentAt": LAST_MOMENT.isoformat().replace("+00:00", "Z") if odd else _iso(bench.wall),
            "uptime": 0.0 if odd else bench.wall - started,
        }
        body = json.dumps(message, separators=(",", ":")).encode()
        bench.receive(topics.PRESENCE, agent.agent_id, agent.coded(topics.PRESENCE, body))
    bench.pass_time(1300, step=10)
    assert {"agent_cloned", "agent_clone_gone"} <= {row.event.event for row in events}
    assert bench.failures() == {}


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def test_a_token_that_expires_at_the_last_moment_is_made(bench: Bench) -> None:
    """The audit entry of a token names its expiry, whatever moment of the calendar that is."""
    bench.ask(CreateToken(author="test", expires_at=LAST_MOMENT.timestamp()))
    assert bench.failures() == {}
    assert bench.rows("SELECT count(*) FROM audit_entry WHERE action = 'token.create'") == [(1,)]


def test_a_listener_that_raises_keeps_nothing_from_the_others(bench: Bench) -> None:
    """Every listener gets the event, and the step goes on."""
    heard: list[str] = []

    def raising(_row: EventRow) -> None:
        raise ZeroDivisionError

    bench.engine.listeners.append(raising)
    bench.engine.listeners.append(lambda row: heard.append(row.event.event))
    bench.ask(SetPolicy(GLOBAL, {"thresholds": {"autoRespond": 70}}, "test"))
    assert "policy_created" in heard
    assert bench.failures() == {"parts_failed": 1}


@pytest.mark.parametrize(
    "part", ["acknowledge", "reply", "admit", "publish", "receipts", "snapshots", "policies", "stored threats"]
)
def test_each_step_after_the_commit_fails_alone(bench: Bench, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    """Whatever fails after a commit, the other effects of the batch follow, and the next batch works."""
    agent, token = bench.enroll("web-1"), bench.token()
    after = bench.engine._after_commit

    def raising(*_arguments: Any, **_options: Any) -> None:
        raise ZeroDivisionError

    target: dict[str, tuple[Any, str]] = {
        "acknowledge": (after, "_acknowledge"),
        "admit": (bench.broker_access, "admit"),
        "publish": (bench.publisher, "publish"),
        "receipts": (after.receipts, "due"),
        "snapshots": (after._blocklist_messages, "due"),
        "policies": (after._policies, "publish_slice"),
        "stored threats": (after, "_count_threats"),
    }
    handle = bench.put(topics.THREATS, agent.agent_id, agent.threat(bench.wall, "t-1"))
    bench.put(topics.REGISTRATION, *SimulatedAgent("web-2", token, bench.keyring.seal_public).registration(bench.wall))
    answers = bench.submit(SetPolicy(GLOBAL, {"thresholds": {"autoRespond": 70}}, "test"))
    if part == "reply":
        bench.engine.inbox.submit(Command(CreateToken("test"), raising))
    else:
        monkeypatch.setattr(*target[part], raising)
    bench.engine.step(bench.now)
    monkeypatch.undo()
    assert bench.fleet.counters["parts_failed"] >= 1
    assert bench.rows("SELECT threat_id FROM threat") == [("t-1",)]
    assert [error for _, error in answers] == [None]
    assert (handle in bench.acknowledged) == (part != "acknowledge")
    assert len(bench.broker_access.admitted) == (1 if part == "admit" else 2)
    bench.pass_time(2)
    if part != "publish":
        assert bench.receipts(agent)["stored"] == ["t-1"]
    bench.receive(topics.THREATS, agent.agent_id, agent.threat(bench.wall, "t-2"))
    bench.pass_time(2)
    assert bench.receipts(agent)["stored"] == ["t-2"]


def test_a_tick_that_raises_keeps_no_other_from_its_work(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every tick is called, and the batch is committed, although all of them fail but one."""

    def raising(*_arguments: Any) -> None:
        raise ZeroDivisionError

    called: list[float] = []
    count = len(bench.engine._ticks)
    ticks = (*(raising for _ in range(count)), lambda _context, now: called.append(now.wall))
    monkeypatch.setattr(bench.engine, "_ticks", ticks)
    agent = bench.enroll("web-1")
    bench.receive(topics.THREATS, agent.agent_id, agent.threat(bench.wall, "t-1"))
    assert bench.rows("SELECT threat_id FROM threat") == [("t-1",)]
    assert bench.fleet.counters["parts_failed"] == count * len(called)
    assert called


@pytest.mark.parametrize("bad", ["a", "b", "c"])
def test_a_report_that_the_manager_fails_on_takes_no_other_along(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, bad: str
) -> None:
    """It becomes a dead letter without a receipt; the others are stored; sent again later it is stored, too."""
    one, two = bench.enroll("web-1"), bench.enroll("web-2")
    row = reports._row

    def failing(received: Any, now: float) -> Any:
        if received.report.id == bad:
            raise ZeroDivisionError
        return row(received, now)

    monkeypatch.setattr(reports, "_row", failing)
    for agent, report_id in ((one, "a"), (two, "b"), (one, "c")):
        bench.put(topics.THREATS, agent.agent_id, agent.threat(bench.wall, report_id))
    bench.engine.step(bench.now)
    bench.pass_time(2)
    stored = sorted(bench.receipts(one)["stored"] + bench.receipts(two)["stored"])
    assert stored == sorted({"a", "b", "c"} - {bad})
    assert bench.rows("SELECT reason FROM dead_letter") == [("the manager failed on it",)]
    assert bench.failures() == {"reports_failed": 1}
    monkeypatch.undo()
    agent = two if bad == "b" else one
    bench.receive(topics.THREATS, agent.agent_id, agent.threat(bench.wall, bad))
    bench.pass_time(2)
    assert bench.receipts(agent)["stored"] == [bad]


def test_a_submission_that_the_manager_fails_on_is_refused_as_a_whole(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None of its reports is stored, and its caller gets the reason."""
    host = Host.of("http-1", "Debian 12", "x64", "1.0")
    agent_id = bench.ask(RegisterAgent(host, None, by_admin=True)).record["agentId"]
    row = reports._row

    def failing(received: Any, now: float) -> Any:
        if received.report.id == "h-2":
            raise ZeroDivisionError
        return row(received, now)

    monkeypatch.setattr(reports, "_row", failing)
    submission = bench.ask(StoreReports(agent_id, prepared_reports(agent_id, bench.wall, "h-1", "h-2")))
    assert submission.refusal == "the manager failed on it"
    assert bench.rows("SELECT count(*) FROM threat") == [(0,)]
    monkeypatch.undo()
    assert bench.ask(StoreReports(agent_id, prepared_reports(agent_id, bench.wall, "h-1", "h-2"))).refusal is None
    assert bench.rows("SELECT count(*) FROM threat") == [(2,)]
