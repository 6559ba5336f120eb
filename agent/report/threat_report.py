"""Encodes a verdict and the response to it as a threat report."""

from agent.events import Verdict
from schemas.model import utc
from schemas.threats import ResponseTaken, Severity, Threat, ThreatReport

_NOBODY = "ag-0000000000000000"


def report_body(report_id: str, detected: Verdict, response: ResponseTaken | None) -> bytes:
    """Return a report's JSON without agentId, which is added when it is sent (see `agent.report.outbox`).

    Args:
        report_id: The report's UUIDv7.
        detected: The verdict.
        response: The response; None without one.
    """
    report = ThreatReport(
        id=report_id,
        agent_id=_NOBODY,
        threat=wire_threat(detected),
        response=response,
        timestamp=utc(detected.detected_at),
    )
    return report.model_dump_json(by_alias=True, exclude_none=True, exclude={"agent_id"}).encode()


def wire_threat(detected: Verdict) -> Threat:
    """Return the verdict as the contract's model."""
    return Threat(
        type=detected.type,
        confidence=detected.confidence,
        evidence=dict(detected.evidence),
        severity=Severity(detected.severity),
        technique=detected.technique or None,
        rule_id=detected.rule_id,
        count=detected.count,
        first_seen=utc(detected.first_seen),
        last_seen=utc(detected.last_seen),
        vouched=sorted(detected.vouched) or None,
    )
