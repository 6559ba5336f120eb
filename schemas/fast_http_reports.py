"""Fast decoding of the lifecycle page's reports over HTTP with msgspec; pydantic remains the contract.

`fast_events` takes a request body only if `HttpEvents` accepts it with the same values, and `stored_report` gives the
very bytes of `ThreatReport.body`, on which the digests of stored reports rest. What it cannot judge, such as a body of
another shape, is for `schemas.decoding.decode`, whose answer and error count.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, cast

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


class FastHttpReport(Struct, rename="camel", forbid_unknown_fields=True, frozen=True, gc=False):
    """One report of the page's shape, `{threat, response, timestamp}`."""

    threat: FastHttpThreat
    id: _Id | None = None
    agent_id: str | None = None
    response: _Word | FastHttpResponse | None = None
    stamp: str | None = field(name="timestamp", default=None)


class FastHttpEvents(FastHttpReport, rename="camel", forbid_unknown_fields=True, frozen=True, gc=False):
    """A request body: one report of the page's shape, or several in `threats`."""

    threat: FastHttpThreat = _ABSENT
    threats: Annotated[list[FastHttpReport], Meta(max_length=EVENTS_IN_ONE)] | None = None
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

    @property
    def reports(self) -> Sequence[FastHttpReport]:
        """The reports, in the order of the body."""
        return (self,) if self.threats is None else self.threats


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
        if not _has_one_shape(events) or not _is_moment(events.sent) or not _is_moment(events.reported):
            return None
        for report in events.reports:
            if (report.agent_id is not None and report.agent_id != agent_id) or not _is_in_order(report):
                return None
            _complete(report.threat, report.response)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return events


def stored_report(given: FastHttpReport, report_id: str, agent_id: str, stamp: str) -> tuple[FastReport, bytes]:
    """Return a report and its JSON, which is that of `ThreatReport.body`.

    Args:
        given: the report.
        report_id: its id in the store.
        agent_id: the reporting agent.
        stamp: its detection time, as text.
    """
    threat, response, kept = given.threat, given.response, stored_moment(stamp)
    document = _encode(_Document(report_id, agent_id, threat, response))
    report = FastReport(report_id, agent_id, threat, kept, response)
    return report, b'%b,"timestamp":"%b"}' % (document[:-1], kept.encode())


def stored_moment(text: str) -> str:
    """Return a time in the form of stored documents: without a fraction, or with microseconds."""
    seconds, _, fraction = text[:-1].partition(".")
    return f"{seconds}.{fraction:0<6}Z" if fraction.strip("0") else f"{seconds}Z"


def _has_one_shape(events: FastHttpEvents) -> bool:
    """Return whether a body has one report, or several and no member of a single one."""
    if events.threats is None:
        return events.threat is not _ABSENT
    single = events.threat, events.id, events.agent_id, events.response, events.stamp
    return single == (_ABSENT, None, None, None, None)


def _is_in_order(report: FastHttpReport) -> bool:
    response = report.response
    return (
        is_plain_threat(report.threat)
        and (response is None or is_plain_response(response))
        and _is_moment(report.stamp)
    )


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
