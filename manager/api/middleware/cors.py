"""Which web pages may read answers: the origins that the operator names, and no other (CORS)."""

from collections.abc import Iterable

from manager.api.middleware.peers import Headers
from manager.api.middleware.responses import Header

_PREFLIGHT = (
    (b"access-control-allow-methods", b"GET, POST, PUT, DELETE"),
    (b"access-control-allow-headers", b"Authorization, Content-Type, If-None-Match, Last-Event-ID, X-Policy-Version"),
    (b"access-control-max-age", b"600"),
)
_EXPOSED = (
    b"access-control-expose-headers",
    b"ETag, Retry-After, X-RateLimit-Limit, X-RateLimit-Remaining, X-Request-Id",
)
_VARY = (b"vary", b"Origin")


class Cors:
    """Answers the questions that browsers ask before they let a page have an answer.

    Args:
        origins: such as ``https://dashboard.example``; ``*`` is every page.
    """

    def __init__(self, origins: Iterable[str] = ()) -> None:
        self._origins = frozenset(origin.strip().rstrip("/").encode() for origin in origins if origin.strip())

    def headers(self, headers: Headers) -> tuple[Header, ...]:
        """Return what an answer to a request has to carry; nothing where no page asks."""
        origin = headers.get(b"origin")
        if origin is None or not self._origins:
            return ()
        if origin not in self._origins and b"*" not in self._origins:
            return (_VARY,)
        return ((b"access-control-allow-origin", origin), _EXPOSED, _VARY)

    def preflight(self, headers: Headers) -> tuple[Header, ...]:
        """Return what the answer to a preflight carries beside that."""
        return _PREFLIGHT if len(self.headers(headers)) > 1 else ()
