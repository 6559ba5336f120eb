"""What every answer carries, and how one looks on the wire."""

import re
import secrets
from collections.abc import Iterable
from http import HTTPStatus
from itertools import count

from manager.api.middleware.peers import Headers

Header = tuple[bytes, bytes]

EVERY_ANSWER: tuple[Header, ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"x-xss-protection", b"0"),
    (b"referrer-policy", b"strict-origin-when-cross-origin"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
)
"""The headers of every answer, where its route sets no others of the same names."""

OVER_TLS: Header = (b"strict-transport-security", b"max-age=31536000; includeSubDomains")
JSON: Header = (b"content-type", b"application/json")
REQUEST_ID = b"x-request-id"

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus}


class RequestIds:
    """Names requests, so that an answer, the log and the audit log can be laid side by side."""

    def __init__(self) -> None:
        self._prefix = secrets.token_hex(10).encode()
        self._numbers = count(1)

    def of(self, headers: Headers) -> bytes:
        """Return the caller's own id for a request where it gives a plain one, else a new one."""
        given = headers.get(REQUEST_ID)
        return given if given is not None and _REQUEST_ID.fullmatch(given) else self.new()

    def new(self) -> bytes:
        """Return an id that no request had before."""
        return b"%b%012x" % (self._prefix, next(self._numbers))


def head_of(status: int, headers: Iterable[Header]) -> bytes:
    """Return an answer's first lines: its status and these headers, each with its line's end."""
    return b"HTTP/1.1 %d %b\r\n%b" % (status, _PHRASES[status], lines_of(headers))


def lines_of(headers: Iterable[Header]) -> bytes:
    """Return headers as lines, each with its end."""
    return b"".join([b"%b: %b\r\n" % header for header in headers])
