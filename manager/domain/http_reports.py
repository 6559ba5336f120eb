"""Conversion of the documented HTTP report shapes into threat reports (the contract, section 3)."""

import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple, cast

from uuid_utils import uuid7

from manager.errors import Invalid
from schemas.fast_http_reports import (
    FastDetectedEvent,
    FastHttpEvents,
    FastHttpReport,
    FastHttpThreat,
    FastSecurityEvent,
    FastVerdict,
    stored_report,
)
from schemas.fast_threats import AnyReport
from schemas.http_agents import DetectedEvent, HttpEvents, HttpReport, SecurityEvent, Verdict, evidence_of
from schemas.identifiers import THREAT_ID
from schemas.limits import THREAT_LIMIT
from schemas.message_codes import content_digest
from schemas.model import utc
from schemas.threats import Severity, Threat, ThreatReport

_TECHNIQUE = re.compile(r"T[0-9]{4}(\.[0-9]{3})?")
_ID = re.compile(THREAT_ID)
_BY_CONCLUSION = {"benign": Severity.LOW, "suspicious": Severity.MEDIUM, "malicious": Severity.HIGH}
_UNKNOWN_CONFIDENCE = 50.0
_NO_TIME = datetime.fromtimestamp(0, UTC)
_NO_STAMP = "1970-01-01T00:00:00Z"


class PreparedReport(NamedTuple):
    """A report, its content digest, and its JSON."""

    report: AnyReport
    digest: bytes
    document: str


def prepare(agent_id: str, events: HttpEvents | FastHttpEvents, received: float) -> list[PreparedReport]:
    """Convert a request body into reports, in its order.

    Args:
        agent_id: the reporting agent.
        events: the body, in any of its shapes.
        received: seconds since 1970; the timestamp of a report without one.

    Raises:
        Invalid: an element is not a report; the message names its index.
    """
    if isinstance(events, FastHttpEvents):
        return _of_fast(agent_id, events, received)
    if events.threats is not None:
        given = [_of_report(agent_id, report, f"threats.{index}: ") for index, report in enumerate(events.threats)]
        return [_prepared(agent_id, one, received, f"threats.{index}: ") for index, one in enumerate(given)]
    if events.events is not None:
        found = [(event, Threat.model_construct(**_of_detected(event))) for event in events.events]
        given = [_Given(event.id, threat, None, event.timestamp) for event, threat in found]
        return [_prepared(agent_id, one, received, f"events.{index}: ") for index, one in enumerate(given)]
    return [_prepared(agent_id, _of_report(agent_id, events, ""), received, "")]


class _Given(NamedTuple):
    id: str | None
    threat: Threat
    response: Any
    timestamp: datetime | None


class _FastGiven(NamedTuple):
    id: str | None
    threat: FastHttpThreat
    response: Any
    stamp: str | None


def _of_report(agent_id: str, report: HttpReport, path: str) -> _Given:
    if report.agent_id is not None and report.agent_id != agent_id:
        raise Invalid(f"{path}agentId is not the one of the path")
    if report.threat is not None:
        return _Given(report.id, report.threat, report.response, report.timestamp)
    if report.event is not None and report.verdict is not None:
        event = report.event
        threat = Threat.model_construct(**_of_event(event, report.verdict))
        return _Given(event.id or report.id, threat, report.verdict.action, event.timestamp or report.timestamp)
    if path:
        raise Invalid(f"{path}either threat, or event and verdict, must be there")
    raise Invalid("one of these must be there: threat, events, threats, or event and verdict")


def _of_event(event: SecurityEvent | FastSecurityEvent, verdict: Verdict | FastVerdict) -> dict[str, Any]:
    """Return the threat's members; a benign event keeps its text but contributes no indicator."""
    about = {
        "conclusion": verdict.conclusion,
        "description": event.description,
        "source": event.source,
        "host": event.host,
        "raw": event.raw,
    }
    about = {name: value for name, value in about.items() if value is not None}
    benign = verdict.conclusion == "benign"
    if benign or not isinstance(event.metadata, Mapping):
        evidence = about if event.metadata is None else {**about, "metadata": event.metadata}
    else:
        evidence = _evidence({**event.metadata, **about})
    type_, technique = _classified(event.category, event.source)
    return {
        "type": type_,
        "confidence": verdict.confidence,
        "evidence": evidence,
        "severity": Severity.LOW if benign else event.severity or _BY_CONCLUSION[verdict.conclusion],
        "technique": None if benign else technique,
        "rule_id": None,
        "count": 1,
    }


def _of_detected(event: DetectedEvent | FastDetectedEvent) -> dict[str, Any]:
    """Return the threat's members."""
    details = event.details if event.details is None or isinstance(event.details, dict) else {"details": event.details}
    type_, technique = _classified(event.type, None)
    confidence = _UNKNOWN_CONFIDENCE if event.confidence is None else round(event.confidence * 100, 6)
    return {
        "type": type_,
        "confidence": confidence,
        "evidence": _evidence(details),
        "severity": event.severity,
        "technique": technique,
        "rule_id": event.sigma_rule_id,
        "count": 1,
    }


def _evidence(given: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", evidence_of(given))


def _classified(category: str | None, source: str | None) -> tuple[str, str | None]:
    """Return type and technique of a category; an ATT&CK id is the technique, and the type if no other is given."""
    if category is None:
        return (source or "unclassified")[:128] or "unclassified", None
    return category, category if _TECHNIQUE.fullmatch(category) else None


def _prepared(agent_id: str, given: _Given, received: float, path: str) -> PreparedReport:
    timestamp = given.timestamp
    report = ThreatReport.model_construct(
        id=_id_of(given.id),
        agent_id=agent_id,
        threat=given.threat,
        response=given.response,
        timestamp=timestamp or utc(received),
    )
    body = report.body()
    _require_size(body, path)
    named = body if timestamp is not None else report.model_copy(update={"timestamp": _NO_TIME}).body()
    return PreparedReport(report, content_digest(named), body.decode())


def _of_fast(agent_id: str, events: FastHttpEvents, received: float) -> list[PreparedReport]:
    if events.events is not None:
        found = [(event, FastHttpThreat(**_of_detected(event))) for event in events.events]
        given, name = [_FastGiven(event.id, threat, None, event.stamp) for event, threat in found], "events"
    else:
        given = [_fast_given(report) for report in ([events] if events.threats is None else events.threats)]
        name = "" if events.threats is None else "threats"
    path = f"{name}.{{}}: " if name else ""
    return [_fast_prepared(agent_id, one, received, path.format(index)) for index, one in enumerate(given)]


def _fast_given(report: FastHttpReport) -> _FastGiven:
    event, verdict = report.event, report.verdict
    if event is None or verdict is None:
        return _FastGiven(report.id, report.threat, report.response, report.stamp)
    threat = FastHttpThreat(**_of_event(event, verdict))
    return _FastGiven(event.id or report.id, threat, verdict.action, event.stamp or report.stamp)


def _fast_prepared(agent_id: str, given: _FastGiven, received: float, path: str) -> PreparedReport:
    report_id, threat, response, stamp = _id_of(given.id), given.threat, given.response, given.stamp
    moment = utc(received).isoformat().replace("+00:00", "Z") if stamp is None else stamp
    report, body = stored_report(report_id, agent_id, threat, response, moment)
    _require_size(body, path)
    named = body if stamp is not None else stored_report(report_id, agent_id, threat, response, _NO_STAMP)[1]
    return PreparedReport(report, content_digest(named), body.decode())


def _require_size(body: bytes, path: str) -> None:
    if len(body) > THREAT_LIMIT:
        raise Invalid(f"{path}{len(body)} bytes; at most {THREAT_LIMIT} are taken for one threat")


def _id_of(given: str | None) -> str:
    """Return the report's id; an id outside the grammar is replaced by its digest."""
    if given is None:
        return str(uuid7())
    if _ID.fullmatch(given):
        return given
    return f"h-{hashlib.sha256(given.encode()).hexdigest()[:40]}"
