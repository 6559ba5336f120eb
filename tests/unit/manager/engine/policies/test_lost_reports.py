"""Reports that a restored store lost: the engine finds out by guards' marks, asks for them, and takes them as old."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from manager.domain.agents.host import Host
from manager.engine.commands.http_agent_requests import RecordHeartbeat, RegisterAgent, StoreReports
from manager.engine.policies.lost_reports import WARNING
from schemas import topics
from schemas.http_agents import HttpHeartbeat
from schemas.message_codes import has_signature
from schemas.model import utc
from schemas.threats import Severity, Threat, ThreatReport
from tests.support.engine import Bench, prepared_reports
from tests.support.simulated import SimulatedAgent

ATTACKER = "203.0.113.66"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    (tmp_path / "store").mkdir()
    return Bench(tmp_path / "store")


def back_up(bench: Bench, copy: Path) -> None:
    bench.pass_time(10)
    bench.database.execute_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copytree(bench.directory, copy)


def restore(bench: Bench, copy: Path) -> None:
    """Put the copy in the place of the store, and start anew."""
    bench.database.close()
    shutil.rmtree(bench.directory)
    shutil.copytree(copy, bench.directory)
    bench.build()
    bench.publisher.published.clear()
    bench.pass_time(1)


def joined(bench: Bench, *names: str) -> list[SimulatedAgent]:
    token = bench.token()
    agents = [bench.enroll(name, token) for name in names]
    for agent in agents:
        beat(bench, agent)
    return agents


def beat(bench: Bench, agent: SimulatedAgent, mark: str | None = None) -> None:
    bench.receive(topics.HEARTBEAT, agent.agent_id, agent.heartbeat(bench.wall, receipt_mark=mark))


def receipt(bench: Bench, agent: SimulatedAgent, report: bytes) -> dict[str, Any]:
    """Send a report; return its receipt."""
    bench.pass_time(2)
    bench.publisher.take(topics.RECEIPTS.address(agent.agent_id))
    bench.receive(topics.THREATS, agent.agent_id, report)
    (payload,) = bench.publisher.take(topics.RECEIPTS.address(agent.agent_id))
    return agent.reads(topics.RECEIPTS, payload, bench.keyring)


def keys(bench: Bench) -> list[dict[str, Any]]:
    """Return the generations in the manager's keys that were published, whose signatures are right."""
    found = bench.publisher.take(topics.MANAGER_KEYS.address())
    sign_key = bench.keyring.sign_key.public_key()
    assert all(has_signature(sign_key, topics.MANAGER_KEYS.below_root(), payload) for payload in found)
    return [json.loads(payload)["generation"] for payload in found]


def told(bench: Bench, name: str) -> list[dict[str, Any]]:
    """Return the data of the stored events of a name."""
    rows = bench.rows(f"SELECT document FROM event WHERE name = '{name}'")
    return [json.loads(row[0])["data"] for row in rows]


def lost(bench: Bench, tmp_path: Path, agent: SimulatedAgent) -> tuple[bytes, dict[str, Any]]:
    """Return a report that the store lost, and its receipt."""
    receipt(bench, agent, agent.threat(bench.wall, sourceIp=ATTACKER))
    back_up(bench, tmp_path / "copy")
    report = agent.threat(bench.wall, sourceIp=ATTACKER)
    told = receipt(bench, agent, report)
    bench.pass_time(60)
    restore(bench, tmp_path / "copy")
    return report, told


def test_a_lost_receipt_has_the_fleet_asked(bench: Bench, tmp_path: Path) -> None:
    """The first heartbeat with a lost mark begins a generation, which the keys, log, audit log and a warning show."""
    (agent, other) = joined(bench, "a", "b")
    (first,) = keys(bench)[-1:]
    assert set(first) == {"number", "resendWithin"}
    report, given = lost(bench, tmp_path, agent)
    assert given["generation"] == first["number"]
    with capture_logs() as logged:
        beat(bench, agent, given["mark"])
    (asked,) = keys(bench)
    assert asked["number"] > first["number"]
    assert asked["resendFrom"] < given["sentAt"]
    (line,) = [each for each in logged if each["event"] == "store_lost_reports"]
    assert (line["agent_id"], line["generation"]) == (agent.agent_id, asked["number"])
    assert WARNING in bench.fleet.warnings
    ((count,),) = bench.rows("SELECT count(*) FROM audit_entry WHERE action = 'store.lost_reports'")
    assert count == 1
    beat(bench, agent, given["mark"])
    beat(bench, other, given["mark"])
    assert keys(bench) == []
    again = receipt(bench, agent, agent.batch(report, resent=True))
    assert again["generation"] == asked["number"]
    beat(bench, agent, again["mark"])
    assert keys(bench) == []
    bench.crash()
    assert keys(bench) == [asked]
    assert bench.failures() == {}


def test_without_a_loss_nobody_is_asked(bench: Bench) -> None:
    """Restarts, kills and the marks of earlier runs begin no generation."""
    (agent,) = joined(bench, "a")
    marks = []
    for _ in range(3):
        marks.append(receipt(bench, agent, agent.threat(bench.wall, sourceIp=ATTACKER))["mark"])
        bench.crash()
    numbers = {generation["number"] for generation in keys(bench)}
    for mark in marks:
        beat(bench, agent, mark)
    assert (keys(bench), len(numbers)) == ([], 1)
    assert WARNING not in bench.fleet.warnings


def test_a_mark_that_the_manager_did_not_make_is_counted(bench: Bench) -> None:
    """An invented mark has nobody asked, whatever it says, and is counted."""
    (agent,) = joined(bench, "a")
    mark = receipt(bench, agent, agent.threat(bench.wall, sourceIp=ATTACKER))["mark"]
    bench.crash()
    keys(bench)
    head, run, commits, started, code = mark.split(".")
    for text in ("x", f"{head}.{run}.{int(commits) + 9}.{started}.{code}", f"{head}.00.1.{started}.{code}"):
        beat(bench, agent, text)
    beat(bench, agent, bench.fleet.store_history.present + "invented")  # of the present run, which has lost nothing
    assert keys(bench) == []
    assert bench.fleet.counters["claims_ignored"] == 3
    assert bench.failures() == {}


def test_lost_reports_are_stored_as_old_news(bench: Bench, tmp_path: Path) -> None:
    """A lost report comes back once with its event time; what is late then wakes nobody and has no response."""
    agents = joined(bench, "a", "b", "c")
    back_up(bench, tmp_path / "copy")
    happened = bench.wall
    reports = {agent.agent_id: agent.threat(happened, sourceIp=ATTACKER) for agent in agents}
    for agent in agents:
        receipt(bench, agent, reports[agent.agent_id])
    assert bench.fleet.responder.entries
    bench.pass_time(600)
    restore(bench, tmp_path / "copy")
    for agent in agents:
        beat(bench, agent)
    for agent in agents:
        batch = agent.batch(reports[agent.agent_id], resent=True)
        assert len(receipt(bench, agent, batch)["stored"]) == 1
        assert len(receipt(bench, agent, batch)["stored"]) == 1
    rows = bench.rows("SELECT event_time, received_at FROM threat")
    assert [round(at) for at, _ in rows] == [round(happened)] * 3
    assert list(bench.fleet.responder.entries) == []
    opened = told(bench, "incident_opened")
    assert [(each["kind"], each["late"], each["resent"]) for each in opened] == [
        ("source_ip", True, True),
        ("technique", True, True),
    ]
    assert bench.failures() == {}


@pytest.mark.parametrize(("age", "resent", "told_at_once"), [(600, True, 0), (600, False, 1), (60, True, 1)])
def test_people_are_not_woken_twice(bench: Bench, age: float, told_at_once: int, *, resent: bool) -> None:
    """A suspicious login that is late and was stored before is no event; one that is new to the manager is."""
    (agent,) = joined(bench, "a")
    login = Threat(type="root_login", confidence=90.0, severity=Severity.CRITICAL, evidence={"sourceIp": ATTACKER})
    report = ThreatReport(id="t-1", agent_id=agent.agent_id, threat=login, timestamp=utc(bench.wall))
    bench.pass_time(age)
    beat(bench, agent)
    assert receipt(bench, agent, agent.batch(report.body(), resent=resent))["stored"] == ["t-1"]
    assert len(told(bench, "suspicious_login")) == told_at_once


def test_agents_over_http_are_asked_with_the_answer_to_a_heartbeat(bench: Bench, tmp_path: Path) -> None:
    """The answers to reports and heartbeats have what receipts and keys have; without a loss a heartbeat's has not."""
    registered = bench.ask(RegisterAgent(Host.of("web", "Debian 12", "x64", "1.0"), None, bench.token()))
    agent_id = registered.record["agentId"]
    both = prepared_reports(agent_id, bench.wall, "kept", "lost")
    bench.ask(StoreReports(agent_id, both[:1]))
    back_up(bench, tmp_path / "copy")
    given = bench.ask(StoreReports(agent_id, both[1:])).store_state
    assert bench.ask(RecordHeartbeat(agent_id, HttpHeartbeat(receipt_mark=given["mark"]))).generation is None
    restore(bench, tmp_path / "copy")
    asked = bench.ask(RecordHeartbeat(agent_id, HttpHeartbeat(receipt_mark=given["mark"]))).generation
    assert asked.number > given["generation"]
    assert asked.resend_from.timestamp() < bench.wall
    assert bench.ask(StoreReports(agent_id, both, resent=True)).store_state["generation"] == asked.number
    assert bench.rows("SELECT threat_id FROM threat ORDER BY threat_id") == [("kept",), ("lost",)]
    assert bench.failures() == {}
