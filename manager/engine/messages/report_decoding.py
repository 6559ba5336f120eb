"""Decodes the threat reports of a verified message: one, or several in a batch, each by itself."""

from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta, Raw, Struct

from schemas.decoding import DecodeError, decode
from schemas.fast_threats import AnyReport, fast_report
from schemas.identifiers import is_threat_id
from schemas.limits import REPORTS_IN_BATCH
from schemas.message_codes import without_mac
from schemas.report_batches import is_batch, stated_count
from schemas.threats import ThreatReport
from schemas.topics import THREATS


class DecodedReport(NamedTuple):
    """A threat report; `body` is its JSON without a message code, `document` the same as text."""

    report: AnyReport
    body: bytes
    document: str


class UndecodedReport(NamedTuple):
    """What stands in place of a report and is none, with the reason; its id if that can be read."""

    report_id: str | None
    reason: str
    body: bytes


class _Batch(Struct):
    reports: Annotated[list[Raw], Meta(min_length=1, max_length=REPORTS_IN_BATCH)]


class _Identified(Struct):
    id: str


_decode_batch = msgspec.json.Decoder(_Batch).decode
_decode_id = msgspec.json.Decoder(_Identified).decode
_MSGSPEC_ERRORS = (msgspec.MsgspecError, ValueError, RecursionError)


def decode_reports(agent_id: str, payload: bytes) -> list[DecodedReport | UndecodedReport]:
    """Return the reports in a message, in its order.

    Args:
        agent_id: the id of the sender.
        payload: the message with its code, which is right.

    Raises:
        DecodeError: it is a batch from which no reports can be read.
    """
    body = without_mac(payload)
    if not is_batch(payload):
        return [_decode_report(agent_id, body)]
    try:
        reports = _decode_batch(body).reports
    except _MSGSPEC_ERRORS as error:
        raise DecodeError(f"no JSON object with a list of 1 to {REPORTS_IN_BATCH} reports") from error
    if len(reports) > stated_count(payload):
        raise DecodeError('a report without a member "id", written in these letters')
    return [_decode_report(agent_id, bytes(report)) for report in reports]


def _decode_report(agent_id: str, body: bytes) -> DecodedReport | UndecodedReport:
    try:
        report = fast_report(body, agent_id) or decode(ThreatReport, body, THREATS.limit)
        return DecodedReport(report, body, body.decode())
    except DecodeError as error:
        return UndecodedReport(_id_of(body), str(error), body)


def _id_of(body: bytes) -> str | None:
    """Return the id in a document that is no report, if it is JSON and has a valid one."""
    try:
        found = _decode_id(body).id
    except _MSGSPEC_ERRORS:
        return None
    return found if is_threat_id(found) else None
