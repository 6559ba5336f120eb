"""Events on single reports that people are told of at once: suspicious logins, critical threats, harmful blocks."""

from typing import Any

from manager.engine.batch import ThreatRow
from manager.engine.context import Context, ReceivedReport
from schemas.model import iso
from schemas.threats import ResponseTaken, Severity

SUSPICIOUS_LOGINS = frozenset({"login_after_failures", "root_login", "new_source", "privilege_misuse"})
"""Types of threats that are about somebody who is on the host."""

_LONGEST = 256


def announce(context: Context, received: ReceivedReport, row: ThreatRow) -> None:
    """Add the events on a new report to the batch; most reports have none."""
    threat, response = received.report.threat, received.report.response
    suspicious = threat.type in SUSPICIOUS_LOGINS
    if (suspicious or threat.severity is Severity.CRITICAL) and _admitted(context, row):
        name = "suspicious_login" if suspicious else "critical_threat"
        context.batch.event(name, received.agent, _data(context, received, row), severity=threat.severity)
    if not isinstance(response, ResponseTaken) or response.outcome is None:
        return
    harm: dict[str, Any] = {"value": response.target, "threatId": row.threat_id}
    outcome, _, reason = response.outcome.partition(":")
    if outcome == "taken" and response.connections and _admitted(context, row):
        harm["connections"] = response.connections
        context.batch.event("block_cut_connections", received.agent, harm)
    elif outcome == "ineffective" and _admitted(context, row):
        context.batch.event("block_ineffective", received.agent, harm | {"reason": reason.strip()[:_LONGEST] or None})


def _admitted(context: Context, row: ThreatRow) -> bool:
    """Return whether the agent may make another event in this minute; its reports beyond are only counted."""
    return context.fleet.alert_limit.admit(row.agent_number, context.batch.now.monotonic)


def _data(context: Context, received: ReceivedReport, row: ThreatRow) -> dict[str, Any]:
    threat, response = received.report.threat, received.report.response
    evidence = context.fleet.user_names.shown(threat.evidence)
    action, outcome = (response.action, response.outcome) if isinstance(response, ResponseTaken) else (response, None)
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
