"""Report intake: stored once, receipted, refused; and the event time of each report."""

from typing import Any

import pytest

from manager.domain.agents.host import Host
from manager.engine.commands.http_agent_requests import RegisterAgent, StoreReports
from manager.storage.queries import StoreQueries
from schemas import topics
from schemas.model import iso
from tests.support.engine import Bench, prepared_reports

pytestmark = pytest.mark.usefixtures("each_system")


def test_a_report_is_stored_once_and_acknowledged_after_the_commit(bench: Bench) -> None:
    """A repeated report is one row and is receipted as stored; other content under its id is refused."""
    agent = bench.enroll("web-1")
    report = agent.threat(bench.wall, "t-1", sourceIp="203.0.113.7")
    handles = [bench.receive(topics.THREATS, agent.agent_id, report) for _ in range(3)]
    bench.pass_time(2)
    assert bench.receipts(agent)["stored"] == ["t-1"] * 3
    assert set(handles) <= set(bench.acknowledged)
    bench.receive(topics.THREATS, agent.agent_id, agent.threat(bench.wall, "t-1", sourceIp="203.0.113.8"))
    bench.pass_time(2)
    (refusal,) = bench.receipts(agent)["refused"]
    assert refusal["id"] == "t-1"
    assert bench.rows("SELECT threat_id, source_ip FROM threat") == [("t-1", "203.0.113.7")]


def test_copies_of_a_report_in_one_batch_are_one_report(bench: Bench) -> None:
    """Copies that arrive together are receipted alike and counted once; other content under the id is refused."""
    agent = bench.enroll("web-1")
    report = agent.threat(bench.wall, "t-1", sourceIp="203.0.113.7")
    other = agent.threat(bench.wall, "t-1", sourceIp="203.0.113.8")
    for payload in (report, report, other):
        bench.put(topics.THREATS, agent.agent_id, payload)
    bench.pass_time(2)
    told = bench.receipts(agent)
    assert told["stored"] == ["t-1", "t-1"]
    assert [refusal["id"] for refusal in told["refused"]] == ["t-1"]
    assert bench.rows("SELECT threat_id, source_ip FROM threat") == [("t-1", "203.0.113.7")]
    assert bench.fleet.registry.agents[agent.agent_id].vitals.threats_detected == 1
    assert bench.failures() == {}


def test_copies_of_a_report_in_requests_of_one_batch_are_one_report(bench: Bench) -> None:
    """Twice in one body, and again in other bodies: each request is accepted, and no batch is rejected for it."""
    agent_id = bench.ask(RegisterAgent(Host.of("web-1", "Debian 12", "x64", "1.0"), None, by_admin=True)).record[
        "agentId"
    ]
    bodies = [("h-1", "h-1"), ("h-1", "h-2"), ("h-2",)]
    answers = [bench.submit(StoreReports(agent_id, prepared_reports(agent_id, bench.wall, *ids))) for ids in bodies]
    bench.engine.step(bench.now)
    submissions = [submission for ((submission, error),) in answers if error is None]
    assert [submission.refusal for submission in submissions] == [None, None, None]
    assert bench.rows("SELECT threat_id FROM threat ORDER BY 1") == [("h-1",), ("h-2",)]
    assert bench.fleet.counters["reports_repeated"] == 3
    assert bench.fleet.registry.agents[agent_id].vitals.threats_detected == 2
    assert bench.failures() == {}


def test_a_report_that_the_rules_fail_on_is_stored_and_takes_no_other_along(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A report on which correlation fails, and all others, are stored, receipted and acknowledged."""
    one, other = bench.enroll("web-1"), bench.enroll("web-2")
    evidence = bench.fleet.responder.never_block.evidence
    note = evidence.record

    def failing(*words: Any) -> Any:
        if "odd" in words[3]:
            raise ZeroDivisionError
        return note(*words)

    monkeypatch.setattr(evidence, "record", failing)
    bench.put(topics.THREATS, one.agent_id, one.threat(bench.wall, "bad", sourceIp="203.0.113.1", lastLogin="-", odd=1))
    bench.receive(topics.THREATS, other.agent_id, other.threat(bench.wall, "good", sourceIp="203.0.113.1"))
    assert bench.receipts(one)["stored"] == ["bad"]
    assert bench.receipts(other)["stored"] == ["good"]
    assert bench.fleet.counters["reports_not_correlated"] == 1


def test_pruned_reports_are_still_known(bench: Bench) -> None:
    """A report that arrives again after its threat was pruned is not stored a second time."""
    agent = bench.enroll("web-1")
    report = agent.threat(bench.wall, "t-1")
    bench.receive(topics.THREATS, agent.agent_id, report)
    bench.elapsed += 2 * 86_400
    bench.pass_time(130, step=9)
    assert bench.rows("SELECT count(*) FROM threat") == [(0,)]
    bench.receipts(agent)
    bench.receive(topics.THREATS, agent.agent_id, report)
    bench.pass_time(2)
    assert bench.receipts(agent)["stored"] == ["t-1"]
    assert bench.rows("SELECT count(*) FROM threat") == [(0,)]


@pytest.mark.parametrize("skew", [-3600.0, 3600.0])
def test_event_time_is_right_on_a_clock_that_is_an_hour_off(bench: Bench, skew: float) -> None:
    """A report spooled for ten minutes has its true time, whatever the host's clock says."""
    agent = bench.enroll("web-1", sent_at=bench.wall + skew)
    happened = bench.wall
    report = agent.threat(happened + skew, "t-1")
    bench.pass_time(600, step=9)
    bench.receive(topics.HEARTBEAT, agent.agent_id, agent.heartbeat(bench.wall + skew))
    bench.receive(topics.THREATS, agent.agent_id, report)
    ((event_time, known),) = bench.rows("SELECT event_time, time_known FROM threat")
    assert abs(event_time - happened) <= 1
    assert known


def test_a_clock_that_leads_out_of_the_calendar_is_none(bench: Bench) -> None:
    """A report with an event time outside the calendar counts at its receipt, and can be listed."""
    agent = bench.enroll("web-1")
    bench.receive(topics.HEARTBEAT, agent.agent_id, agent.heartbeat(253_402_300_000.0, uptime=1.0))
    bench.receive(topics.THREATS, agent.agent_id, agent.threat(bench.wall, "odd", sourceIp="203.0.113.1"))
    assert bench.rows("SELECT event_time, time_known FROM threat") == [(bench.wall, 0)]
    (listed,), _ = StoreQueries(bench.database).threats(limit=5)
    assert listed["eventTime"] == iso(bench.wall)
