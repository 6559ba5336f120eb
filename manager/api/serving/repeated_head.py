"""Repeated request head: a client that keeps its connection sends the same head again, but for the body's length.

A head that the parser has read and the fast lane has taken is kept with its connection. The next request that begins
with the same bytes means the same, so it needs no parser. Measured in docs/performance.md.
"""

import re

from manager.api.agents.fast_lane import BODY_LIMIT, FastRequest, RequestHead

HEAD_LIMIT = 2048
"""The largest head that is kept, in bytes; each connection keeps at most `HEADS_KEPT`."""

HEADS_KEPT = 2
"""A head for heartbeats and one for events."""

_METHOD = b"POST /"
_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length: ?([0-9]{1,5})\r\n", re.IGNORECASE)
_LENGTH_DIGITS = 5


class RepeatedHead:
    """The head of a request that the fast lane took, as the bytes before and after its content length.

    Args:
        before: from the request line to the content length.
        after: from there to the empty line, which ends the head.
        head: what the parser and the fast lane made of it.
    """

    __slots__ = ("_after", "_before", "_head")

    def __init__(self, before: bytes, after: bytes, head: RequestHead) -> None:
        self._before = before
        self._after = after
        self._head = head

    @classmethod
    def of(cls, data: bytes, request: FastRequest) -> "RepeatedHead | None":
        """Return the head of `request`, which was the whole of `data`; None for one that is not kept."""
        end = data.find(_END)
        if not data.startswith(_METHOD) or not 0 < end <= HEAD_LIMIT:
            return None
        head, body = data[: end + len(_END)], len(data) - end - len(_END)
        length = _LENGTH.search(head)
        if length is None or int(length[1]) != body:
            return None
        return cls(head[: length.start(1)], head[length.end(1) :], request.head)

    def match(self, data: bytes) -> FastRequest | None:
        """Return the request in `data` if that is this head and exactly its body; else None."""
        before, after = self._before, self._after
        if not data.startswith(before):
            return None
        start = len(before)
        end = data.find(b"\r", start, start + _LENGTH_DIGITS + 1)
        digits = data[start:end]
        if end < 0 or not digits.isdigit() or not data.startswith(after, end):
            return None
        length, body = int(digits), data[end + len(after) :]
        if length != len(body) or length > BODY_LIMIT:
            return None
        return FastRequest(self._head, body)
