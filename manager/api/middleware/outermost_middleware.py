"""Outermost ASGI middleware: request id, response headers, CORS, admission, body limit, metrics, last error handler.

It also serves the hot routes of agents in front of the framework.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from manager.api.agents.fast_lane import FastLane
from manager.api.agents.hot_routes import HotRoute
from manager.api.errors import BodyTooLarge, closing_answer, error_response
from manager.api.http_metrics import UNMATCHED, RequestMetrics
from manager.api.middleware.admission import Admission
from manager.api.middleware.client_address import Headers
from manager.api.middleware.cors import Cors
from manager.api.middleware.response_headers import DEFAULT_HEADERS, HSTS, JSON, REQUEST_ID, Header, RequestIds
from manager.api.ports import CommandGateway
from manager.api.sessions import CookieSessions
from manager.engine.origin import current_origin
from manager.errors import NotFound

log = structlog.get_logger(__name__)

_HOT_PREFIX = "/api/agents/"
_NOT_FOUND = "Not found"


class OutermostMiddleware:
    """Outermost ASGI middleware: handles all requests except those of the fast lane.

    Args:
        app: the application.
        hot_routes: the routes below ``/api/agents/{agent_id}/`` that are served here, by their last path segment.
        engine: executes the commands of the hot routes.
        admission: authentication and rate limit.
        sessions: identifies callers by the console's cookie.
        cors_origins: origins of the web pages that may read answers.
        metrics: records every request.
        request_ids: generates request ids.
        body_limit: largest request body in bytes.
        fast_lane: serves plain requests before the middleware; the server reads this attribute.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        hot_routes: Mapping[str, HotRoute],
        engine: CommandGateway,
        admission: Admission,
        sessions: CookieSessions,
        cors_origins: Iterable[str],
        metrics: RequestMetrics,
        request_ids: RequestIds,
        body_limit: int,
        fast_lane: FastLane | None = None,
    ) -> None:
        self._app = app
        self._hot_routes = hot_routes
        self._engine = engine
        self._admission = admission
        self._sessions = sessions
        self._cors = Cors(self._serve, cors_origins)
        self._metrics = metrics
        self._request_ids = request_ids
        self._body_limit = body_limit
        self.fast_lane = fast_lane

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        request_id = scope["request_id"] = self._request_ids.of(dict(scope["headers"]))
        secure = (HSTS,) if scope["scheme"] == "https" else ()
        answer = _DefaultHeaders(send, (*DEFAULT_HEADERS, *secure, (REQUEST_ID, request_id)))
        try:
            await self._cors(scope, receive, answer.send)
        finally:
            template = getattr(scope.get("route"), "path", UNMATCHED)
            self._metrics.observe(scope["method"], str(template), answer.status, time.perf_counter() - began)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request other than a preflight; every exception becomes an answer."""
        request_id: bytes = scope["request_id"]
        started = False

        async def send_and_note(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._dispatch(scope, receive, send_and_note, request_id)
        except ClientDisconnect:
            log.info("client_disconnected", path=scope["path"], request_id=request_id.decode())
        except asyncio.CancelledError:
            if started:
                raise
            await closing_answer()(scope, receive, send)
        except Exception as error:
            response = error_response(error, method=scope["method"], path=scope["path"], request_id=request_id.decode())
            if started:
                raise  # an answer that has begun cannot be replaced: the server closes the connection
            await response(scope, receive, send)

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send, request_id: bytes) -> None:
        """Admit a request and pass it to a hot route or to the application."""
        headers = dict(scope["headers"])
        signed_in = self._sessions.caller(scope, headers)
        caller = self._admission.admit(scope["path"], scope["client"], headers, signed_in)
        refuse_large_body(headers, self._body_limit)
        if b"%2f" in scope["raw_path"].lower():  # an encoded slash is no separator (RFC 3986), and ids contain none
            raise NotFound(_NOT_FOUND)
        hot, agent_id = self._hot_route(scope)
        if hot is None:
            scope["caller"] = caller
            current_origin.set(self._admission.origin(scope, headers, caller, request_id))
            await self._app(scope, _limited(receive, self._body_limit), send)
            return
        scope["route"] = hot
        body = await whole_body(receive, self._body_limit)
        command = hot.prepare(agent_id, caller, headers, body)
        status, content = command.render(await self._engine.submit(command.request))
        start = [JSON, (b"content-length", b"%d" % len(content))]
        await send({"type": "http.response.start", "status": status, "headers": start})
        await send({"type": "http.response.body", "body": content})

    def _hot_route(self, scope: Scope) -> tuple[HotRoute | None, str]:
        path: str = scope["path"]
        if scope["method"] != "POST" or not path.startswith(_HOT_PREFIX):
            return None, ""
        agent_id, _, last = path[len(_HOT_PREFIX) :].partition("/")
        return self._hot_routes.get(last), agent_id


class _DefaultHeaders:
    """Adds default headers that the route did not set. `status` is 0 until an answer begins."""

    def __init__(self, send: Send, headers: tuple[Header, ...]) -> None:
        self._send = send
        self._headers = headers
        self.status = 0

    async def send(self, message: Message) -> None:
        """Pass a message on to the server."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = list(message.get("headers", ()))
            present = {name.lower() for name, _ in headers}
            headers += [header for header in self._headers if header[0] not in present]
            message = {**message, "headers": headers}
        await self._send(message)


async def whole_body(receive: Receive, limit: int) -> bytes:
    """Return the body of a request.

    Raises:
        BodyTooLarge: it exceeds the limit.
        ClientDisconnect: the client left before its end.
    """
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body"):
        message = await receive()
        body += message.get("body", b"")
        if len(body) > limit:
            raise BodyTooLarge
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    if len(body) > limit:
        raise BodyTooLarge
    return body


def _limited(receive: Receive, limit: int) -> Callable[[], Awaitable[Message]]:
    taken = 0

    async def receive_limited() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > limit:
            raise BodyTooLarge
        return message

    return receive_limited


def refuse_large_body(headers: Headers, limit: int) -> None:
    """Raise BodyTooLarge for a declared length beyond the limit."""
    given = headers.get(b"content-length", b"")
    if given.isdigit() and int(given[:20]) > limit:
        raise BodyTooLarge
