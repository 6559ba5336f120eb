"""The outermost layer of every request: who asks and how often, its id, the headers of every answer, the last catch."""

import time
from collections.abc import Awaitable, Callable, Mapping

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from manager.api.agents.fast_lane import FastLane
from manager.api.agents.hot_routes import HotRoute
from manager.api.errors import BodyTooLarge, refusal
from manager.api.metrics import UNMATCHED, Traffic
from manager.api.middleware.cors import Cors
from manager.api.middleware.gate import Gate
from manager.api.middleware.peers import Headers
from manager.api.middleware.responses import EVERY_ANSWER, JSON, OVER_TLS, REQUEST_ID, Header, RequestIds
from manager.api.ports import Door
from manager.engine.origin import current_origin

log = structlog.get_logger(__name__)

_HOT_PREFIX = "/api/agents/"


class Boundary:
    """Wraps the application; it runs inside nothing that could answer without it.

    Args:
        app: the application.
        hot: the routes below ``/api/agents/{agent_id}/`` that are served here, by their last word.
        door: the way to the engine, for those.
        gate: who asks, and how often.
        cors: which pages may read answers.
        traffic: is told of every request.
        body_limit: bytes that a request's body may have.
        fast_lane: what serves the plainest requests before they come here; the server asks for it.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        hot: Mapping[str, HotRoute],
        door: Door,
        gate: Gate,
        cors: Cors,
        traffic: Traffic,
        ids: RequestIds,
        body_limit: int,
        fast_lane: FastLane | None = None,
    ) -> None:
        self._app = app
        self._hot = hot
        self._door = door
        self._gate = gate
        self._cors = cors
        self._traffic = traffic
        self._ids = ids
        self._body_limit = body_limit
        self.fast_lane = fast_lane

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        headers = dict(scope["headers"])
        request_id = self._ids.of(headers)
        answer = _Answer(send, (*self._headers(scope, headers), (REQUEST_ID, request_id)))
        route = None
        try:
            if scope["method"] == "OPTIONS" and b"access-control-request-method" in headers:
                await answer.send_whole(204, b"", self._cors.preflight(headers))
                return
            caller = self._gate.admit(scope["path"], scope["client"], headers)
            _refuse_if_longer(headers, self._body_limit)
            hot, agent_id = self._hot_route(scope)
            if hot is None:
                scope["caller"] = caller
                current_origin.set(self._gate.origin(scope, headers, caller, request_id))
                await self._app(scope, _limited(receive, self._body_limit), answer.send)
            else:
                route = hot.template
                body = await _whole_body(receive, self._body_limit)
                question = hot.ask(agent_id, caller, headers, body)
                status, content = question.answer(await self._door.submit(question.command))
                await answer.send_whole(status, content, (JSON,))
        except ClientDisconnect:
            log.info("client_left", path=scope["path"], request_id=request_id.decode())
        except Exception as error:  # noqa: BLE001 -- this is the last catch: all of them are answered or raised again
            await self._fail(error, scope, receive, answer, request_id.decode())
        finally:
            template = route or getattr(scope.get("route"), "path", UNMATCHED)
            self._traffic.record(scope["method"], str(template), answer.status, time.perf_counter() - began)

    async def _fail(self, error: Exception, scope: Scope, receive: Receive, answer: "_Answer", request_id: str) -> None:
        response = refusal(error, method=scope["method"], path=scope["path"], request_id=request_id)
        if answer.status:
            raise error  # half an answer cannot be mended: the server ends the connection
        await response(scope, receive, answer.send)

    def _headers(self, scope: Scope, headers: Headers) -> tuple[Header, ...]:
        secure = (OVER_TLS,) if scope["scheme"] == "https" else ()
        return (*EVERY_ANSWER, *secure, *self._cors.headers(headers))

    def _hot_route(self, scope: Scope) -> tuple[HotRoute | None, str]:
        path: str = scope["path"]
        if scope["method"] != "POST" or not path.startswith(_HOT_PREFIX):
            return None, ""
        agent_id, _, last = path[len(_HOT_PREFIX) :].partition("/")
        return self._hot.get(last), agent_id


class _Answer:
    """Adds the headers of every answer, where a route did not set its own. `status` is 0 until one is sent."""

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

    async def send_whole(self, status: int, body: bytes, headers: tuple[Header, ...]) -> None:
        """Send an answer that sets none of the headers of every answer."""
        self.status = status
        length = () if status == 204 else ((b"content-length", b"%d" % len(body)),)  # noqa: PLR2004 -- it has no body
        start = {"type": "http.response.start", "status": status, "headers": [*headers, *length, *self._headers]}
        await self._send(start)
        await self._send({"type": "http.response.body", "body": body})


async def _whole_body(receive: Receive, limit: int) -> bytes:
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


def _refuse_if_longer(headers: Headers, limit: int) -> None:
    given = headers.get(b"content-length", b"")
    if given.isdigit() and int(given[:20]) > limit:
        raise BodyTooLarge
