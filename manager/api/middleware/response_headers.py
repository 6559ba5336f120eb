"""Response headers: the security headers of every answer, request ids, and rendering for the wire."""

import re
import secrets
from collections.abc import Iterable
from http import HTTPStatus
from itertools import count

from manager.api.middleware.client_address import Headers

Header = tuple[bytes, bytes]

DEFAULT_HEADERS: tuple[Header, ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"x-xss-protection", b"0"),
    (b"referrer-policy", b"strict-origin-when-cross-origin"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
)
"""Headers of every answer, unless its route sets its own of the same name."""

HSTS: Header = (b"strict-transport-security", b"max-age=31536000; includeSubDomains")
JSON: Header = (b"content-type", b"application/json")
REQUEST_ID = b"x-request-id"

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus}


class RequestIds:
    """Request ids, which link an answer, the log and the audit log."""

    def __init__(self) -> None:
        self._prefix = secrets.token_hex(10).encode()
        self._numbers = count(1)

    def of(self, headers: Headers) -> bytes:
        """Return the caller's own `X-Request-Id` if it is well-formed, else a new id."""
        given = headers.get(REQUEST_ID)
        return given if given is not None and _REQUEST_ID.fullmatch(given) else self.new()

    def new(self) -> bytes:
        """Return a unique id."""
        return b"%b%012x" % (self._prefix, next(self._numbers))


def render_head(status: int, headers: Iterable[Header]) -> bytes:
    """Render the status line and these headers, each with its line end."""
    return b"HTTP/1.1 %d %b\r\n%b" % (status, _PHRASES[status], render_headers(headers))


def render_headers(headers: Iterable[Header]) -> bytes:
    """Render header lines, each with its line end."""
    return b"".join([b"%b: %b\r\n" % header for header in headers])
