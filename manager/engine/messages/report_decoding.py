"""Decodes the threat reports of a verified message: one, or several in a batch, each by itself."""

import re
from typing import Annotated

import msgspec
from msgspec import Meta, Raw, Struct

from schemas.decoding import DecodeError, decode
from schemas.fast_threats import AnyReport, fast_report
from schemas.identifiers import is_threat_id
from schemas.limits import REPORTS_IN_BATCH
from schemas.message_codes import without_mac
from schemas.report_batches import is_batch, stated_count, stated_ids
from schemas.threats import ThreatReport
from schemas.topics import THREATS


class DecodedReport(Struct, frozen=True, gc=False):
    """A threat report; `body` is its JSON without a message code, `document` the same as text.

    `resent`: its message says that the agent has a receipt for it.
    """

    report: AnyReport
    body: bytes
    document: str
    resent: bool = False


class UndecodedReport(Struct, frozen=True, gc=False):
    """A threat report that cannot be decoded, with the reason; its id if that can be read."""

    report_id: str | None
    reason: str
    body: bytes


class _Batch(Struct):
    reports: Annotated[list[Raw], Meta(min_length=1, max_length=REPORTS_IN_BATCH)]
    resent: bool | None = None


class _Identified(Struct):
    id: str


_decode_batch = msgspec.json.Decoder(_Batch).decode
_decode_id = msgspec.json.Decoder(_Identified).decode
_MSGSPEC_ERRORS = (msgspec.MsgspecError, ValueError, RecursionError)

_NO_ID = 'without a member "id", written in these letters; the first is kept'
_NO_BATCH = f"no JSON object with a list of 1 to {REPORTS_IN_BATCH} reports"
_LIST_START = re.compile(rb'\{"reports"\s*:\s*\[')
_TOKENS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{},]', re.DOTALL)
"""Strings, which are skipped, and the signs that structure JSON; an open string reaches to the end."""

_MOST_TOKENS = 20_000
"""Bounds the work on a hostile message: the 50 reports of a guard's message have far fewer."""


def decode_reports(agent_id: str, payload: bytes) -> list[DecodedReport | UndecodedReport]:
    """Return the reports in a message, in its order.

    Reports of a batch that have no member `id` in these letters, and so did not count for the sender's budget, are one
    undecoded report at the end: the first of them, with their number in the reason.

    Args:
        agent_id: the id of the sender.
        payload: the message with its code, which is right.

    Raises:
        DecodeError: it is a batch from which no reports can be read.
    """
    body = without_mac(payload)
    if not is_batch(payload):
        return [_decode_report(agent_id, body)]
    reports, resent = _reports_in(body)
    if len(reports) <= stated_count(payload):
        return [_decode_report(agent_id, report, resent=resent) for report in reports]
    found = [_decode_report(agent_id, report, resent=resent) for report in reports if b'"id"' in report]
    without = [report for report in reports if b'"id"' not in report]
    return [*found, UndecodedReport(None, f"{len(without)} {_NO_ID}", without[0])]


def _reports_in(body: bytes) -> tuple[list[bytes], bool]:
    """Return the JSON of each report in a batch, and whether they are resent.

    A report that is no JSON does not keep the others out.

    Raises:
        DecodeError: the list of reports has no end, more than 1,000 elements, or none.
    """
    try:
        batch = _decode_batch(body)
        return [bytes(report) for report in batch.reports], bool(batch.resent)
    except _MSGSPEC_ERRORS as error:
        reports = _split(body)
        if not 1 <= len(reports) <= REPORTS_IN_BATCH or not reports[0]:
            raise DecodeError(_NO_BATCH) from error
        return reports, False


def _split(body: bytes) -> list[bytes]:
    """Return the elements of a batch whose brackets and strings are whole, whatever else they are; else nothing."""
    opening = _LIST_START.match(body)
    if opening is None:
        return []
    elements: list[bytes] = []
    start, depth = opening.end(), 0
    for number, token in enumerate(_TOKENS.finditer(body, start)):
        sign = token[0]
        if number >= _MOST_TOKENS or len(elements) > REPORTS_IN_BATCH:
            break
        if sign in b"[{":
            depth += 1
        elif depth and sign in b"]}":
            depth -= 1
        elif not depth and sign in b",]}":
            elements.append(body[start : token.start()].strip())
            start = token.end()
            if sign != b",":
                return elements if sign == b"]" and body[start:].strip() == b"}" else []
    return []


def _decode_report(agent_id: str, body: bytes, *, resent: bool = False) -> DecodedReport | UndecodedReport:
    try:
        report = fast_report(body, agent_id) or decode(ThreatReport, body, THREATS.limit)
        return DecodedReport(report, body, body.decode(), resent)
    except DecodeError as error:
        return UndecodedReport(_id_of(body), str(error), body)


def _id_of(body: bytes) -> str | None:
    """Return the id in a document that is no report; of one that is no JSON, if it begins as guards write it."""
    try:
        found = _decode_id(body).id
    except _MSGSPEC_ERRORS:
        return None if is_batch(body) else next(iter(stated_ids(body)), None)
    return found if is_threat_id(found) else None
