"""Fast decoding of reports over HTTP, in each of their shapes, with msgspec; pydantic remains the contract.

`fast_events` takes a request body only if `HttpEvents` accepts it with the same values, and `stored_report` gives the
very bytes of `ThreatReport.body`, on which the digests of stored reports rest. What it cannot judge, such as a time
as a number, is for `schemas.decoding.decode`, whose answer and error count.
"""

from datetime import datetime
from typing import Annotated, Any, Literal, cast

import msgspec
from msgspec import Meta, Struct, field
from msgspec.structs import force_setattr

from schemas.fast_threats import FastReport, FastResponse, FastThreat, is_plain_response, is_plain_threat
from schemas.http_agents import EVENTS_IN_ONE, evidence_of
from schemas.limits import BODY_LIMIT
from schemas.model import is_plain_time
from schemas.threats import Severity

_LARGEST_COUNT = 2**53 - 1
_LARGEST_FLOAT = 1e16
"""From here on pydantic and msgspec write floats differently."""

_Word = Annotated[str, Meta(min_length=1, max_length=128)]
_Id = Annotated[str, Meta(min_length=1, max_length=1024)]
_Plain = str | int | Annotated[float, Meta(gt=-_LARGEST_FLOAT, lt=_LARGEST_FLOAT)] | bool | None
_Value = _Plain | list[_Plain] | dict[str, _Plain | list[_Plain]]
"""A value of any JSON type, as flat as agents send it: decoders differ in the depth of nesting that they take."""

_ABSENT: Any = None
"""Stands for a member that was not given, until it has its default; never for null, which these members refuse."""


class FastHttpThreat(FastThreat, rename="camel", forbid_unknown_fields=True, frozen=True, gc=False, omit_defaults=True):
    """A threat as given, and once its defaults are set as it is stored: without absent members."""

    evidence: dict[str, _Plain | list[_Plain]] = _ABSENT
    severity: Severity = _ABSENT
    count: Annotated[int, Meta(ge=1, le=_LARGEST_COUNT)] = _ABSENT


class FastHttpResponse(
    FastResponse, rename="camel", forbid_unknown_fields=True, frozen=True, gc=False, omit_defaults=True
):
    """A response as given and as stored: without absent members."""


class FastSecurityEvent(Struct, rename="camel", forbid_unknown_fields=True, frozen=True, gc=False):
    """The `event` of the shipped guard client's reports; its time stays text."""

    id: _Id | None = None
    stamp: str | None = field(name="timestamp", default=None)
    source: str | None = None
    severity: Severity | None = None
    category: _Word | None = None
    description: str | None = None
    raw: _Value = None
    host: _Value = None
    metadata: _Value = None


class FastVerdict(Struct, rename="camel", forbid_unknown_fields=True, frozen=True, gc=False):
    """The `verdict` of the shipped guard client's reports."""

    conclusion: Literal["benign", "suspicious", "malicious"]
    confidence: Annotated[float, Meta(ge=0, le=100)]
    action: _Word | None = None


class FastDetectedEvent(Struct, rename="camel", forbid_unknown_fields=True, frozen=True, gc=False):
    """One element of `events`; its time stays text."""

    type: _Word
    severity: Severity
    id: _Id | None = None
    details: _Value = None
    stamp: str | None = field(name="timestamp", default=None)
    sigma_rule_id: _Word | None = None
    confidence: Annotated[float, Meta(ge=0, le=1)] | None = None


class FastHttpReport(Struct, rename="camel", forbid_unknown_fields=True, frozen=True, gc=False):
    """One report: `{threat, response, timestamp}` of the page, or the shipped client's `{event, verdict}`."""

    threat: FastHttpThreat = _ABSENT
    event: FastSecurityEvent | None = None
    verdict: FastVerdict | None = None
    id: _Id | None = None
    agent_id: str | None = None
    response: _Word | FastHttpResponse | None = None
    stamp: str | None = field(name="timestamp", default=None)


class FastHttpEvents(FastHttpReport, rename="camel", forbid_unknown_fields=True, frozen=True, gc=False):
    """A request body: one report, or several in `threats` or `events`."""

    threats: Annotated[list[FastHttpReport], Meta(max_length=EVENTS_IN_ONE)] | None = None
    events: Annotated[list[FastDetectedEvent], Meta(max_length=EVENTS_IN_ONE)] | None = None
    sent: str | None = field(name="sentAt", default=None)
    reported: str | None = field(name="reportedAt", default=None)
    resent: bool | None = None

    @property
    def sent_at(self) -> datetime | None:
        """The agent's time at sending."""
        return None if self.sent is None else datetime.fromisoformat(self.sent)

    @property
    def reported_at(self) -> datetime | None:
        """The agent's time at sending, as earlier agents state it."""
        return None if self.reported is None else datetime.fromisoformat(self.reported)


class _Document(Struct, rename="camel", omit_defaults=True, gc=False):
    """A report as it is stored, up to its timestamp."""

    id: str
    agent_id: str
    threat: FastHttpThreat
    response: str | FastHttpResponse | None = None


_decode = msgspec.json.Decoder(FastHttpEvents).decode
_encode = msgspec.json.Encoder().encode


def fast_events(body: bytes, agent_id: str) -> FastHttpEvents | None:
    """Return the reports in a request body, or None if only `HttpEvents` can judge it.

    Args:
        body: JSON, UTF-8.
        agent_id: the agent of the request's path, in its grammar; a report of another is not judged.
    """
    if len(body) > BODY_LIMIT:
        return None
    try:
        events = _decode(body)
        return events if _is_plain_body(events, agent_id) else None
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def stored_report(
    report_id: str, agent_id: str, threat: FastHttpThreat, response: str | FastHttpResponse | None, stamp: str
) -> tuple[FastReport, bytes]:
    """Return a report and its JSON, which is that of `ThreatReport.body`.

    Args:
        report_id: its id in the store.
        agent_id: the reporting agent.
        threat: what was found, without absent members.
        response: what the agent did.
        stamp: its detection time, as text.
    """
    kept = stored_moment(stamp)
    document = _encode(_Document(report_id, agent_id, threat, response))
    report = FastReport(report_id, agent_id, threat, kept, response)
    return report, b'%b,"timestamp":"%b"}' % (document[:-1], kept.encode())


def stored_moment(text: str) -> str:
    """Return a time in the form of stored documents: without a fraction, or with microseconds."""
    seconds, _, fraction = text[:-1].partition(".")
    return f"{seconds}.{fraction:0<6}Z" if fraction.strip("0") else f"{seconds}Z"


def _is_plain_body(events: FastHttpEvents, agent_id: str) -> bool:
    """Return whether a body has one of the shapes, and its reports are this agent's with texts in the grammar.

    Raises:
        ValueError: a time is none of the calendar.
    """
    if not _is_moment(events.sent) or not _is_moment(events.reported):
        return False
    if events.threats is None and events.events is None:
        return _is_plain_report(events, agent_id)
    if not _has_no_report(events) or (events.threats is not None and events.events is not None):
        return False
    reports, detected = events.threats or (), events.events or ()
    return all(_is_plain_report(each, agent_id) for each in reports) and all(map(_is_plain_event, detected))


def _has_no_report(events: FastHttpEvents) -> bool:
    """Return whether a body with several reports has no member of a single one."""
    single = events.threat, events.event, events.verdict, events.id, events.agent_id, events.response, events.stamp
    return single == (_ABSENT, None, None, None, None, None, None)


def _is_plain_report(report: FastHttpReport, agent_id: str) -> bool:
    """Return whether a report of this agent has one shape, with texts in the grammar; complete it if it is one.

    Raises:
        ValueError: a time is none of the calendar.
    """
    if (report.agent_id is not None and report.agent_id != agent_id) or not _is_moment(report.stamp):
        return False
    if report.threat is _ABSENT:
        return _is_plain_detection(report)
    if report.event is not None or report.verdict is not None or not is_plain_threat(report.threat):
        return False
    if report.response is not None and not is_plain_response(report.response):
        return False
    _complete(report.threat, report.response)
    return True


def _is_plain_detection(report: FastHttpReport) -> bool:
    event, verdict = report.event, report.verdict
    if event is None or verdict is None or report.response is not None or not _is_moment(event.stamp):
        return False
    return all(word is None or word.isprintable() for word in (event.category, verdict.action))


def _is_plain_event(event: FastDetectedEvent) -> bool:
    rule = event.sigma_rule_id
    return event.type.isprintable() and (rule is None or rule.isprintable()) and _is_moment(event.stamp)


def _is_moment(text: str | None) -> bool:
    return text is None or is_plain_time(text)


def _complete(threat: FastHttpThreat, response: str | FastHttpResponse | None) -> None:
    """Set the defaults of absent members, and write times as they are stored."""
    force_setattr(threat, "evidence", evidence_of(cast("object", threat.evidence)))
    if threat.severity is _ABSENT:
        force_setattr(threat, "severity", Severity.MEDIUM)
    if threat.count is _ABSENT:
        force_setattr(threat, "count", 1)
    if threat.first_seen is not None:
        force_setattr(threat, "first_seen", stored_moment(threat.first_seen))
    if threat.last_seen is not None:
        force_setattr(threat, "last_seen", stored_moment(threat.last_seen))
    if isinstance(response, FastHttpResponse) and response.expires_at is not None:
        force_setattr(response, "expires_at", stored_moment(response.expires_at))
