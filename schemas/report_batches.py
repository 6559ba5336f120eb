"""Several threat reports of one agent in one message, with one code: ``{"reports":[…]}``.

`reports` is the first member, without white space before it. Each report has the bytes that it has when it is sent
alone, so that a repetition in the other form is the same report.
"""

import re
from collections.abc import Iterable, Sequence

from schemas.limits import REPORTS_IN_BATCH, THREAT_LIMIT

FEATURE = "threats.batch"
"""The name under which `ManagerKeys.accepts` lists that a manager takes such messages."""

PATIENCE = 60.0
"""Seconds without a receipt for a report sent in a batch, after which a guard sends each report alone."""

AT_ONCE = 50
"""The maximum number of reports that a guard sends in one message."""

_FRAME = 128
"""At least the bytes of a message that are no report: brackets and code."""

_HEAD = b'{"reports"'
_ID_NAME = b'"id"'
_ID = re.compile(rb'\{(?:"agentId":"[^"\\]{1,64}",)?"id":"([A-Za-z0-9._:-]{1,64})"')


def batch_body(reports: Iterable[bytes], *, resent: bool = False) -> bytes:
    """Return the message with these reports, without its code; `resent` if they are sent again after a receipt."""
    return b'{"reports":[%b]%b}' % (b",".join(reports), b',"resent":true' if resent else b"")


def fitting(lengths: Sequence[int]) -> int:
    """Return how many reports of these lengths, from the first on, a guard sends in one message: at least one."""
    size = _FRAME
    for number, length in enumerate(lengths[:AT_ONCE]):
        size += length + 1
        if number and size > THREAT_LIMIT:
            return number
    return min(len(lengths), AT_ONCE)


def is_batch(payload: bytes) -> bool:
    """Return whether a message on the topic of threats has several reports."""
    return payload.startswith(_HEAD)


def stated_count(payload: bytes) -> int:
    """Return the number of reports for which an undecoded message counts: at least the number that it has.

    It is the number of members named `id`; a batch of more reports than that is refused.
    """
    return max(1, payload.count(_ID_NAME)) if is_batch(payload) else 1


def stated_ids(payload: bytes) -> list[str]:
    """Return the ids of the reports in an undecoded, unverified message, as guards write them; at most 1,000."""
    if not is_batch(payload):
        found = _ID.match(payload)
        return [found[1].decode()] if found else []
    if payload.count(_ID_NAME) > REPORTS_IN_BATCH:
        return []
    return [found[1].decode() for found in _ID.finditer(payload)]
