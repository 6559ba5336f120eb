"""CORS: Starlette's middleware for the configured origins; a preflight is answered with 204 and no body."""

from collections.abc import Iterable

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

_ALLOWED_HEADERS = ("Authorization", "Content-Type", "If-None-Match", "Last-Event-ID", "X-Policy-Version")
_EXPOSED_HEADERS = ("ETag", "Retry-After", "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-Request-Id")


class Cors(CORSMiddleware):
    """Lets web pages of the configured origins read answers.

    Args:
        app: the application that answers all but preflights.
        origins: such as ``https://dashboard.example``; ``*`` is every origin.
    """

    def __init__(self, app: ASGIApp, origins: Iterable[str] = ()) -> None:
        super().__init__(
            app,
            allow_origins=[origin.strip().rstrip("/") for origin in origins if origin.strip()],
            allow_methods=("GET", "POST", "PUT", "DELETE"),
            allow_headers=_ALLOWED_HEADERS,
            expose_headers=_EXPOSED_HEADERS,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; without an `Origin` header it is passed on unchanged, because answers are never cached."""
        if any(name == b"origin" for name, _ in scope["headers"]):
            await super().__call__(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def preflight_response(self, request_headers: Headers) -> Response:
        """Return 204; `Access-Control-Allow-Origin` is set only for an allowed origin."""
        headers = super().preflight_response(request_headers).headers
        kept = {name: value for name, value in headers.items() if not name.startswith("content-")}
        return Response(status_code=204, headers=kept)
