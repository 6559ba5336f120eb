"""Events worth telling: what single reports, responses, hosts and the manager itself have to tell."""

import json
from pathlib import Path
from typing import Any

import pytest

from manager.domain.agents.registry import Takeover
from manager.domain.notifications.alert_limit import MOST_IN_MINUTE, MOST_OF_HEARTBEATS
from manager.domain.response import ResponderSettings
from manager.engine.commands.requests import ApproveIncident, UndoIncident
from manager.engine.settings import EngineSettings
from manager.errors import StoreUnavailable
from schemas import topics
from schemas.model import utc
from schemas.presence import Enforced, Mode, SourceReport, Unenforced
from schemas.threats import ResponseTaken, Severity, Threat, ThreatReport
from tests.support.attacks import ATTACKER, attack, trusted
from tests.support.blocks import add
from tests.support.engine import Bench
from tests.support.simulated import SimulatedAgent


def _report(bench: Bench, agent: SimulatedAgent, number: int = 0, response: Any = None, **threat: Any) -> None:
    report = ThreatReport(
        id=f"t-{number}",
        agent_id=agent.agent_id,
        threat=Threat(**{"type": "brute_force", "confidence": 90.0, **threat}),
        response=response,
        timestamp=utc(bench.wall),
    )
    bench.receive(topics.THREATS, agent.agent_id, agent.coded(topics.THREATS, report.body()))


def _told(bench: Bench, name: str) -> list[tuple[str, dict[str, Any]]]:
    """Return severity and members of the events of a name."""
    rows = bench.rows(f"SELECT severity, document FROM event WHERE name = '{name}' ORDER BY sequence")
    return [(severity, json.loads(document)["data"]) for severity, document in rows]


@pytest.mark.parametrize(
    ("kind", "severity"),
    [("login_after_failures", "critical"), ("root_login", "medium"), ("new_source", "low")],
)
def test_a_login_that_may_be_an_intrusion_is_told_with_its_own_severity(bench: Bench, kind: str, severity: str) -> None:
    """The event names user, address, count and rule; it is in the table with the report's own commit."""
    evidence = {"sourceIp": "203.0.113.9", "user": "deploy", "userExists": True, "targetService": "sshd"}
    _report(
        bench, bench.enroll("web-1"), type=kind, severity=Severity(severity), evidence=evidence, count=12, rule_id="r"
    )
    ((told, data),) = _told(bench, "suspicious_login")
    assert told == severity
    assert (data["user"], data["sourceIp"], data["count"], data["ruleId"]) == ("deploy", "203.0.113.9", 12, "r")
    assert (data["threatId"], data["vouched"]) == ("t-0", False)


def test_names_that_are_no_account_are_masked_in_events(bench: Bench) -> None:
    """What may be a password in the wrong field is in no column of the event table."""
    evidence = {"sourceIp": "203.0.113.9", "user": "Hunter2-secret"}
    _report(bench, bench.enroll("web-1"), type="login_after_failures", severity=Severity.CRITICAL, evidence=evidence)
    ((_, data),) = _told(bench, "suspicious_login")
    assert data["user"].startswith("Hu")
    assert not any("Hunter2" in str(row) for row in bench.rows("SELECT * FROM event"))


def test_reports_that_tell_nothing_make_no_event_of_their_own(bench: Bench) -> None:
    """Attacks that were dealt with are a number in `threats_reported`, with what hosts did."""
    agent = bench.enroll("web-1")
    taken = ResponseTaken(action="block_ip", target="203.0.113.9", outcome="taken")
    before = bench.rows("SELECT max(sequence) FROM event")[0][0]
    _report(bench, agent, evidence={"sourceIp": "203.0.113.9"}, severity=Severity.HIGH, response=taken)
    names = [name for (name,) in bench.rows(f"SELECT name FROM event WHERE sequence > {before}")]
    assert names == ["threats_reported"]
    ((_, data),) = _told(bench, "threats_reported")
    assert (data["count"], data["taken"]) == (1, 1)


def test_a_critical_threat_is_told(bench: Bench) -> None:
    """Whatever its type is, with the file that it is about."""
    evidence = {"fileHash": "a" * 64}
    _report(bench, bench.enroll("web-1"), type="malware", severity=Severity.CRITICAL, evidence=evidence)
    ((told, data),) = _told(bench, "critical_threat")
    assert (told, data["type"], data["fileHash"]) == ("critical", "malware", "a" * 64)


@pytest.mark.parametrize(
    ("outcome", "connections", "name"),
    [
        ("taken", 3, "block_cut_connections"),
        ("taken", 0, None),
        ("would_be_taken", 3, None),
        ("ineffective", None, "block_ineffective"),
        ("ineffective: an established connection goes on", None, "block_ineffective"),
    ],
)
def test_blocks_that_hurt_or_fail_are_told(
    bench: Bench, outcome: str, connections: int | None, name: str | None
) -> None:
    """A block that cut connections of its target, or that the target gets around."""
    response = ResponseTaken(action="block_ip", target="203.0.113.9", outcome=outcome, connections=connections)
    _report(bench, bench.enroll("web-1"), evidence={"sourceIp": "203.0.113.9"}, response=response)
    hurt = [each for each in ("block_cut_connections", "block_ineffective") if _told(bench, each)]
    assert hurt == ([] if name is None else [name])
    if name is not None:
        assert _told(bench, name)[0][1]["value"] == "203.0.113.9"


def test_an_agent_cannot_flood_the_event_table(bench: Bench) -> None:
    """Of an agent so many reports a minute are told by themselves; another agent's are not affected."""
    one, two = bench.enroll("web-1"), bench.enroll("web-2")
    for number in range(MOST_IN_MINUTE + 20):
        _report(bench, one, number, type="malware", severity=Severity.CRITICAL)
    assert len(_told(bench, "critical_threat")) == MOST_IN_MINUTE
    _report(bench, two, 1, type="malware", severity=Severity.CRITICAL)
    bench.pass_time(60, step=10)
    _report(bench, one, 1000, type="malware", severity=Severity.CRITICAL)
    assert len(_told(bench, "critical_threat")) == MOST_IN_MINUTE + 2


@pytest.mark.parametrize("flood", ["new_source", "root_login", "ineffective"])
def test_a_flood_of_what_is_cheap_to_forge_does_not_hide_a_login_that_is_proven(bench: Bench, flood: str) -> None:
    """Low, unproven and ineffective ones have limits of their own."""
    agent = bench.enroll("web-1")
    for number in range(MOST_IN_MINUTE + 20):
        evidence = {"sourceIp": f"203.0.113.{number}", "user": "root", "userExists": True}
        if flood == "ineffective":
            response = ResponseTaken(action="block_ip", target=f"203.0.113.{number}", outcome="ineffective")
            _report(bench, agent, number, evidence=evidence, response=response)
        else:
            severity = Severity.LOW if flood == "new_source" else Severity.MEDIUM
            _report(bench, agent, number, type=flood, severity=severity, evidence=evidence)
    login = {"sourceIp": "198.51.100.9", "user": "root", "userExists": True}
    kind, vouched = "login_after_failures", ["user", "sourceIp"]
    _report(bench, agent, 999, type=kind, severity=Severity.CRITICAL, vouched=vouched, evidence=login)
    severity, data = _told(bench, "suspicious_login")[-1]
    assert (severity, data["sourceIp"], data["vouched"]) == ("critical", "198.51.100.9", True)


def test_that_an_agent_has_more_to_tell_than_the_limit_is_told_once_a_minute(bench: Bench) -> None:
    """Of each class apart, with its severity; of low severity it is not."""
    agent = bench.enroll("web-1")
    for severity in (Severity.LOW, Severity.MEDIUM):
        for number in range(MOST_IN_MINUTE + 20):
            _report(bench, agent, number + 100 * (severity is Severity.LOW), type="root_login", severity=severity)
    assert _told(bench, "alerts_limited") == [("medium", {"limit": MOST_IN_MINUTE, "vouched": False})]
    bench.pass_time(60, step=10)
    for number in range(MOST_IN_MINUTE + 20):
        _report(bench, agent, 1000 + number, type="root_login", severity=Severity.MEDIUM)
    assert len(_told(bench, "alerts_limited")) == 2


def test_ineffective_measures_in_heartbeats_are_told_when_they_grow(bench: Bench) -> None:
    """Each heartbeat repeats them; only a higher number is news."""
    agent = bench.enroll("web-1")
    for ineffective in (0, 1, 1, 2, 1):
        bench.pass_time(30, step=10)
        reasons = [Unenforced(value="203.0.113.9", reason="it gets through")] * min(ineffective, 1)
        enforced = Enforced(set=3, ineffective=ineffective, reasons=reasons)
        heartbeat = agent.heartbeat(bench.wall, enforcement="nftables", enforced=enforced)
        bench.receive(topics.HEARTBEAT, agent.agent_id, heartbeat)
    counts = [(data["count"], data["value"]) for _, data in _told(bench, "block_ineffective")]
    assert counts == [(1, "203.0.113.9"), (2, "203.0.113.9")]


def _heartbeat(bench: Bench, agent: SimulatedAgent, health: str, ineffective: int, mode: Mode = Mode.LEARNING) -> None:
    heartbeat = agent.heartbeat(
        bench.wall,
        health=health,
        sources=[SourceReport(name="sshd", state="ok" if health == "ok" else "failed")],
        enforcement="nftables",
        enforced=Enforced(set=3, ineffective=ineffective),
        mode=mode,
        mode_wanted=Mode.PROTECTION,
    )
    bench.receive(topics.HEARTBEAT, agent.agent_id, heartbeat)


def test_heartbeats_cannot_flood_the_event_table(bench: Bench) -> None:
    """Each kind of event has a few a minute, whatever an agent states; another agent's are not affected."""
    one, two = bench.enroll("web-1"), bench.enroll("web-2")
    for number in range(80):
        is_odd = bool(number % 2)
        mode = Mode.LEARNING if is_odd else Mode.PROTECTION
        _heartbeat(bench, one, "degraded" if is_odd else "ok", int(is_odd), mode)
    for name in ("agent_degraded", "agent_recovered", "block_ineffective", "mode_reverted"):
        assert len(_told(bench, name)) == MOST_OF_HEARTBEATS, name
    _heartbeat(bench, two, "degraded", 1)
    for name in ("agent_degraded", "block_ineffective"):
        assert len(_told(bench, name)) == MOST_OF_HEARTBEATS + 1, name


def test_what_the_limit_held_back_of_a_heartbeat_is_told_when_it_still_holds(bench: Bench) -> None:
    """An agent that stays degraded, and a measure that stays ineffective, are told in a later minute, and once."""
    agent = bench.enroll("web-1")
    for number in range(2 * MOST_OF_HEARTBEATS + 2):
        _heartbeat(bench, agent, "degraded" if number % 2 else "ok", number % 2)
    assert (len(_told(bench, "agent_degraded")), len(_told(bench, "agent_recovered"))) == (3, 3)
    for _ in range(3):
        bench.pass_time(60, step=10)
        _heartbeat(bench, agent, "degraded", 1)
    assert len(_told(bench, "agent_degraded")) == MOST_OF_HEARTBEATS + 1
    assert len(_told(bench, "block_ineffective")) == MOST_OF_HEARTBEATS + 1
    _heartbeat(bench, agent, "ok", 0)
    assert len(_told(bench, "agent_recovered")) == MOST_OF_HEARTBEATS + 1


def test_the_store_is_told_of_once_it_works_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it cannot commit there is no table to write to; afterwards both events name the reason and the time."""
    agent, began = bench.enroll("web-1"), bench.wall
    bench.put(topics.THREATS, agent.agent_id, agent.threat(bench.wall, "t-1"))
    with monkeypatch.context() as patch:

        def failing(_changes: object) -> None:
            raise StoreUnavailable("the disk is full")

        patch.setattr(bench.store, "commit", failing)
        bench.engine.step(bench.now)
        bench.elapsed += 100
        bench.engine.step(bench.now)
    bench.pass_time(2)
    ((severity, data),) = _told(bench, "store_unavailable")
    assert (severity, data["reason"]) == ("high", "the disk is full")
    assert data["since"].startswith(utc(began).isoformat()[:19])
    assert len(_told(bench, "store_available")) == 1


def test_the_broker_is_told_of_when_it_goes_and_comes(bench: Bench) -> None:
    """The first connection is no news."""
    assert _told(bench, "broker_available") == []
    bench.engine.disconnected()
    bench.pass_time(1)
    assert len(_told(bench, "broker_unavailable")) == 1
    bench.engine.connected(bench.now, fresh=False)
    bench.engine.connected(bench.now, fresh=False)
    bench.pass_time(1)
    assert len(_told(bench, "broker_available")) == 1


def test_a_certificate_is_told_of_before_it_expires(bench: Bench) -> None:
    """With the days left, and again once it was replaced."""
    bench.engine.system_events.certificate("http", bench.wall + 86_400, 1)
    bench.engine.system_events.certificate("http", bench.wall + 86_400 * 90, None)
    bench.pass_time(1)
    ((_, data),) = _told(bench, "certificate_expiring")
    assert (data["name"], data["daysLeft"]) == ("http", 1)
    assert len(_told(bench, "certificate_renewed")) == 1


def test_an_approval_is_told_once_when_it_waits_and_once_when_it_is_over(tmp_path: Path) -> None:
    """Also over a restart between; the event names what is to be approved, and until when."""
    bench = Bench(tmp_path, EngineSettings(takeover=Takeover.ALLOW, responder=ResponderSettings(blocks=1)))
    agents = [bench.enroll(f"web-{number}") for number in range(2)]
    for address in ("203.0.113.1", "203.0.113.2"):
        for agent in agents:
            report = agent.threat(bench.wall, f"t-{address}-{agent.agent_id}", sourceIp=address)
            bench.receive(topics.THREATS, agent.agent_id, report)
    ((severity, data),) = _told(bench, "approval_waiting")
    assert (severity, data["kind"], data["value"], data["agents"]) == ("high", "source_ip", "203.0.113.2", 2)
    assert data["expiresAt"] > utc(bench.wall).isoformat()
    bench.crash()
    bench.pass_time(5)
    assert len(_told(bench, "approval_waiting")) == 1
    bench.ask(ApproveIncident(data["incidentId"], "test"))
    ((_, over),) = _told(bench, "approval_over")
    assert (over["incidentId"], over["state"]) == (data["incidentId"], "applied")
    bench.database.close()


def test_a_block_that_is_withdrawn_because_of_a_login_is_told(bench: Bench) -> None:
    """Somebody was blocked who has logged in from there: the event names the address and its incident."""
    agents = [bench.enroll(f"web-{number}") for number in range(3)]
    for agent in agents[:2]:
        bench.receive(topics.THREATS, agent.agent_id, agent.threat(bench.wall, sourceIp="203.0.113.1"))
    assert bench.rows("SELECT count(*) FROM emergency_entry") != [(0,)]
    login = utc(bench.wall - 60).isoformat().replace("+00:00", "Z")
    report = agents[2].threat(bench.wall, sourceIp="203.0.113.1", lastLogin=login)
    bench.receive(topics.THREATS, agents[2].agent_id, report)
    ((severity, data),) = _told(bench, "block_withdrawn")
    assert (severity, data["value"]) == ("high", "203.0.113.1")
    assert data["incidentId"].startswith("inc-")


def test_events_on_blocks_and_responses_name_the_address(bench: Bench) -> None:
    """A block by hand has its values and scope; a response has kind and value of its incident, its undoing too."""
    add(bench, "198.51.100.9", "198.51.100.0/28")
    ((_, data),) = _told(bench, "blocks_added")
    assert data == {
        "count": 2, "scope": "fleet", "target": "", "values": ["198.51.100.9", "198.51.100.0/28"],
    }  # fmt: skip
    attack(bench, *trusted(bench, "a", "b"))
    bench.pass_time(8)
    ((incident_id,),) = bench.rows(f"SELECT id FROM incident WHERE value = '{ATTACKER}'")
    bench.ask(UndoIncident(incident_id, "test"))
    responses = [data for _, data in _told(bench, "incident_response") if data["incidentId"] == incident_id]
    assert len(responses) > 1
    assert {(data["kind"], data["value"]) for data in responses} == {("source_ip", ATTACKER)}
