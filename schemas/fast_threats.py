"""Fast decoding of threat reports with msgspec, for those whose form leaves no doubt; pydantic remains the contract.

`fast_report` returns a report only if `ThreatReport` accepts the payload with the same values. It returns None for each
payload that it refuses or cannot judge, such as one with an unknown member, an escaped name, or a time in an unusual
form; the caller then decodes that payload with `schemas.decoding.decode`, whose answer and error count.
"""

import re
from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta, Struct, field

from schemas.identifiers import is_threat_id
from schemas.model import is_plain_time
from schemas.threats import Severity, ThreatReport

_LARGEST_COUNT = 2**53 - 1
_Word = Annotated[str, Meta(min_length=1, max_length=128)]
_Text = Annotated[str, Meta(max_length=1024)]
_Plain = str | int | float | bool | None
_is_technique = re.compile(r"T[0-9]{4}(?:\.[0-9]{3})?").fullmatch


class FastThreat(Struct, rename="camel", forbid_unknown_fields=True, frozen=True, gc=False):
    """The members of `Threat`, decoded fast; its times stay text.

    Evidence is as flat as guards send it: decoders differ in the depth of nesting that they take.
    """

    type: _Word
    confidence: Annotated[float, Meta(ge=0, le=100)]
    evidence: dict[str, _Plain | list[_Plain]] = {}
    severity: Severity = Severity.MEDIUM
    technique: str | None = None
    rule_id: _Word | None = None
    count: Annotated[int, Meta(ge=1, le=_LARGEST_COUNT)] = 1
    first_seen: str | None = None
    last_seen: str | None = None
    vouched: Annotated[list[_Word], Meta(max_length=64)] | None = None


class FastResponse(Struct, rename="camel", forbid_unknown_fields=True, frozen=True, gc=False):
    """The members of `ResponseTaken`, decoded fast; its time stays text."""

    action: _Word
    target: _Text | None = None
    outcome: _Text | None = None
    expires_at: str | None = None
    connections: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None


class FastReport(Struct, rename="camel", forbid_unknown_fields=True, frozen=True, gc=False):
    """The members of `ThreatReport`, decoded fast."""

    id: str
    agent_id: str
    threat: FastThreat
    stamp: str = field(name="timestamp")
    response: _Word | FastResponse | None = None

    @property
    def timestamp(self) -> datetime:
        """Detection time, on the agent's clock."""
        return datetime.fromisoformat(self.stamp)


AnyReport = ThreatReport | FastReport
"""A decoded threat report, whichever decoder made it."""

_decode = msgspec.json.Decoder(FastReport).decode


def fast_report(payload: bytes, agent_id: str) -> FastReport | None:
    """Return the report in a payload, or None if only `ThreatReport` can judge it.

    Args:
        payload: JSON, with or without its message code.
        agent_id: the id of the agent, in its grammar; a report of any other is not judged.
    """
    try:
        report = _decode(payload)
        return report if report.agent_id == agent_id and _is_in_order(report) else None
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _is_in_order(report: FastReport) -> bool:
    """Return whether the texts of a report are in the grammar, so far as that is easily told.

    Raises:
        ValueError: a time is none of the calendar.
    """
    response = report.response
    return (
        is_threat_id(report.id) is not None
        and is_plain_time(report.stamp)
        and is_plain_threat(report.threat)
        and (response is None or is_plain_response(response))
    )


def is_plain_threat(threat: FastThreat) -> bool:
    """Return whether the texts of a threat are in the grammar, so far as that is easily told.

    Raises:
        ValueError: a time is none of the calendar.
    """
    return (
        threat.type.isprintable()
        and (threat.technique is None or _is_technique(threat.technique) is not None)
        and (threat.rule_id is None or threat.rule_id.isprintable())
        and (threat.first_seen is None or is_plain_time(threat.first_seen))
        and (threat.last_seen is None or is_plain_time(threat.last_seen))
        and (threat.vouched is None or all(map(str.isprintable, threat.vouched)))
    )


def is_plain_response(response: str | FastResponse) -> bool:
    """Return whether the texts of a response are in the grammar, so far as that is easily told.

    Raises:
        ValueError: its time is none of the calendar.
    """
    if isinstance(response, str):
        return response.isprintable()
    return response.action.isprintable() and (response.expires_at is None or is_plain_time(response.expires_at))
