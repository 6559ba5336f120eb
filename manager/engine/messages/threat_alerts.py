"""Events on single reports that people are told of at once: suspicious logins, critical threats, harmful blocks."""

from typing import Any

from manager.domain.notifications.alert_limit import MOST_IN_MINUTE, Admission, AlertClass
from manager.engine.batch import ThreatRow
from manager.engine.context import Context, ReceivedReport
from schemas.model import iso
from schemas.threats import Severity

SUSPICIOUS_LOGINS = frozenset({"login_after_failures", "root_login", "new_source", "privilege_misuse"})
"""Types of threats that are about somebody who is on the host."""

_LONGEST = 256


def announce(context: Context, received: ReceivedReport, row: ThreatRow) -> None:
    """Add the events on a new report to the batch; most reports have none."""
    threat, response = received.report.threat, received.report.response
    if threat.type in SUSPICIOUS_LOGINS or threat.severity is Severity.CRITICAL:
        _announce_threat(context, received, row)
    if response is None or isinstance(response, str) or response.outcome is None:
        return
    harm: dict[str, Any] = {"value": response.target, "threatId": row.threat_id}
    outcome, _, reason = response.outcome.partition(":")
    if outcome == "taken" and response.connections:
        harm["connections"] = response.connections
        _announce_harm(context, received, row, "block_cut_connections", harm)
    elif outcome == "ineffective":
        harm["reason"] = reason.strip()[:_LONGEST] or None
        _announce_harm(context, received, row, "block_ineffective", harm)


def _announce_threat(context: Context, received: ReceivedReport, row: ThreatRow) -> None:
    threat, batch = received.report.threat, context.batch
    name = "suspicious_login" if threat.type in SUSPICIOUS_LOGINS else "critical_threat"
    alert = AlertClass(severity=threat.severity, vouched=bool(threat.vouched))
    match context.fleet.alert_limit.admit(row.agent_number, alert, batch.now.monotonic):
        case Admission.TOLD:
            batch.event(name, received.agent, _data(context, received, row), severity=threat.severity)
        case Admission.FIRST_BEYOND if threat.severity is not Severity.LOW:
            data = {"limit": MOST_IN_MINUTE, "vouched": alert.vouched}
            batch.event("alerts_limited", received.agent, data, severity=threat.severity)


def _announce_harm(context: Context, received: ReceivedReport, row: ThreatRow, name: str, harm: dict[str, Any]) -> None:
    limit, now = context.fleet.alert_limit, context.batch.now.monotonic
    if limit.admit(row.agent_number, AlertClass(name), now) is Admission.TOLD:
        context.batch.event(name, received.agent, harm)


def _data(context: Context, received: ReceivedReport, row: ThreatRow) -> dict[str, Any]:
    threat, response = received.report.threat, received.report.response
    evidence = context.fleet.user_names.shown(threat.evidence)
    if response is None or isinstance(response, str):
        action, outcome = response, None
    else:
        action, outcome = response.action, response.outcome
    data = {
        "threatId": row.threat_id,
        "type": threat.type,
        "technique": threat.technique,
        "ruleId": threat.rule_id,
        "count": threat.count,
        "eventTime": iso(row.event_time),
        "action": action,
        "outcome": outcome,
        "vouched": bool(threat.vouched),
        **{key: _text(evidence.get(key)) for key in ("user", "targetUser", "targetService", "process")},
        "sourceIp": row.source_ip,
        "fileHash": row.file_hash,
    }
    return {key: value for key, value in data.items() if value is not None}


def _text(value: object) -> str | None:
    return None if value is None else str(value)[:_LONGEST]
