"""Events of which people are told at once: the engine stores them with the report or response that they are about."""

import json
from pathlib import Path
from typing import Any

import pytest

from manager.domain.agents.registry import Takeover
from manager.domain.response import ResponderSettings
from manager.engine.commands.requests import ApproveIncident
from manager.engine.settings import EngineSettings
from schemas import topics
from schemas.model import utc
from schemas.threats import ResponseTaken, Severity, Threat, ThreatReport
from tests.support.attacks import attack, trusted
from tests.support.engine import Bench
from tests.support.simulated import SimulatedAgent

ID = "0190a1b2-0000-7000-8000-000000000001"


def told(bench: Bench, *names: str) -> list[tuple[str, str, str | None, dict[str, Any]]]:
    """Return name, severity, hostname and data of the stored events of some names."""
    rows = bench.rows("SELECT name, severity, document FROM event ORDER BY sequence")
    read = [(name, severity, json.loads(document)) for name, severity, document in rows if name in names]
    return [(name, severity, document.get("hostname"), document["data"]) for name, severity, document in read]


def report(bench: Bench, agent: SimulatedAgent, threat: Threat, response: ResponseTaken | str | None = None) -> None:
    """Let an agent report a threat."""
    body = ThreatReport(id=ID, agent_id=agent.agent_id, threat=threat, response=response, timestamp=utc(bench.wall))
    bench.receive(topics.THREATS, agent.agent_id, agent.coded(topics.THREATS, body.body()))


def login(**members: Any) -> Threat:
    """Return a login after failures."""
    evidence = {"sourceIp": "203.0.113.7", "user": "hunter2", "targetService": "sshd"}
    return Threat(type="login_after_failures", confidence=90, evidence=evidence, count=12, **members)


def test_a_login_after_failures_is_told_with_what_was_done_and_a_masked_user(tmp_path: Path) -> None:
    """A name that the guard does not state to be an account may be a password: it is masked before it is stored."""
    bench = Bench(tmp_path)
    (agent,) = trusted(bench, "srv-1")
    taken = ResponseTaken(action="block_ip", target="203.0.113.7", outcome="taken")
    report(bench, agent, login(severity=Severity.CRITICAL, vouched=["sourceIp"]), taken)
    ((name, severity, hostname, data),) = told(bench, "suspicious_login", "critical_threat")
    assert (name, severity, hostname) == ("suspicious_login", "critical", "srv-1")
    assert data["user"].startswith("hu")
    assert "hunter2" not in json.dumps(data)
    del data["user"], data["eventTime"]
    assert data == {
        "threatId": ID, "type": "login_after_failures", "count": 12, "action": "block_ip", "outcome": "taken",
        "vouched": True, "sourceIp": "203.0.113.7", "targetService": "sshd",
    }  # fmt: skip


def test_a_login_of_a_person_who_mistyped_keeps_its_low_severity(tmp_path: Path) -> None:
    """The severity is the report's own, not that of the kind of event."""
    bench = Bench(tmp_path)
    (agent,) = trusted(bench, "srv-1")
    report(bench, agent, login(severity=Severity.LOW))
    assert [each[:2] for each in told(bench, "suspicious_login")] == [("suspicious_login", "low")]


def test_a_repeated_report_is_told_once(tmp_path: Path) -> None:
    """Guards send a report again until its receipt."""
    bench = Bench(tmp_path)
    (agent,) = trusted(bench, "srv-1")
    for _ in range(2):
        report(bench, agent, login(severity=Severity.CRITICAL))
    assert len(told(bench, "suspicious_login")) == 1


@pytest.mark.parametrize(("severity", "names"), [(Severity.HIGH, []), (Severity.CRITICAL, ["critical_threat"])])
def test_of_other_threats_only_critical_ones_are_told(tmp_path: Path, severity: Severity, names: list[str]) -> None:
    """What was detected and is not critical is in the counts of reported threats."""
    bench = Bench(tmp_path)
    (agent,) = trusted(bench, "srv-1")
    report(bench, agent, Threat(type="miner", confidence=90, severity=severity, evidence={"process": "xmrig"}))
    assert [name for name, *_ in told(bench, "critical_threat", "suspicious_login")] == names


@pytest.mark.parametrize(
    ("outcome", "connections", "expected"),
    [
        ("taken", 3, [("block_cut_connections", "high")]),
        ("taken", 0, []),
        ("would_be_taken", 3, []),
        ("ineffective: the address still fails logins", None, [("block_ineffective", "high")]),
    ],
)
def test_blocks_that_cut_connections_or_have_no_effect_are_told(
    tmp_path: Path, outcome: str, connections: int | None, expected: list[tuple[str, str]]
) -> None:
    """Only a block that the kernel took cuts something."""
    bench = Bench(tmp_path)
    (agent,) = trusted(bench, "srv-1")
    response = ResponseTaken(action="block_ip", target="203.0.113.7", outcome=outcome, connections=connections)
    report(bench, agent, Threat(type="brute_force", confidence=90, evidence={"sourceIp": "203.0.113.7"}), response)
    found = told(bench, "block_cut_connections", "block_ineffective")
    assert [each[:2] for each in found] == expected
    assert all(data["value"] == "203.0.113.7" for *_, data in found)


def waiting(tmp_path: Path) -> tuple[Bench, str]:
    """Return a manager on which one incident waits for approval, and its id."""
    bench = Bench(tmp_path, EngineSettings(takeover=Takeover.ALLOW, responder=ResponderSettings(blocks=0)))
    attack(bench, *trusted(bench, "srv-1", "srv-2"))
    ((name, severity, _, data),) = told(bench, "approval_waiting")
    assert (name, severity, data["kind"], data["value"], data["agents"]) == (
        "approval_waiting", "high", "source_ip", "203.0.113.66", 2,
    )  # fmt: skip
    assert data["expiresAt"] is not None
    return bench, data["incidentId"]


def test_an_approval_is_told_when_it_begins_to_wait_and_when_it_is_given(tmp_path: Path) -> None:
    """Both events name the incident."""
    bench, incident_id = waiting(tmp_path)
    bench.ask(ApproveIncident(incident_id, author="anna"))
    over = told(bench, "approval_over")
    assert [(data["incidentId"], data["state"]) for *_, data in over] == [(incident_id, "applied")]


def test_an_approval_that_expires_after_a_restart_is_told_as_over_in_its_organization(tmp_path: Path) -> None:
    """Which incidents wait is known again after a restart, so the end is told, and told once."""
    bench, incident_id = waiting(tmp_path)
    bench.crash()
    bench.pass_time(bench.settings.responder.approval_time + 60, step=30.0)
    assert [data["incidentId"] for *_, data in told(bench, "approval_over")] == [incident_id]
    organizations = bench.rows("SELECT DISTINCT organization_id FROM event WHERE name LIKE 'approval%'")
    assert len(organizations) == 1
