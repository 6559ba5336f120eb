"""The outermost layer of every request: who asks and how often, its id, the headers of every answer, the last catch."""

import re
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from itertools import count
from typing import Protocol

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from manager.api.connections import WHOLE_ANSWER
from manager.api.cors import Cors, Header
from manager.api.credentials import Caller
from manager.api.errors import BodyTooLarge, answer_to, internal_error
from manager.api.gate import Gate
from manager.api.peers import Headers
from manager.api.traffic import UNMATCHED, Traffic
from manager.engine.origin import current_origin

log = structlog.get_logger(__name__)

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_EVERY_ANSWER = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"x-xss-protection", b"0"),
    (b"referrer-policy", b"strict-origin-when-cross-origin"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
)
_OVER_TLS = (b"strict-transport-security", b"max-age=31536000; includeSubDomains")
_JSON = (b"content-type", b"application/json")
_PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus}
_HOT_PREFIX = "/api/agents/"


class HotRoute(Protocol):
    """A route that is served without the framework, because it is asked most."""

    template: str

    async def __call__(self, agent_id: str, caller: Caller | None, headers: Headers, body: bytes) -> tuple[int, bytes]:
        """Return status and body of the answer, or raise what the error map knows."""
        ...


class Boundary:
    """Wraps the application; it runs inside nothing that could answer without it.

    Args:
        app: the application.
        hot: the routes below ``/api/agents/{agent_id}/`` that are served here, by their last word.
        gate: who asks, and how often.
        cors: which pages may read answers.
        traffic: is told of every request.
        body_limit: bytes that a request's body may have.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        hot: Mapping[str, HotRoute],
        gate: Gate,
        cors: Cors,
        traffic: Traffic,
        body_limit: int,
    ) -> None:
        self._app = app
        self._hot = hot
        self._gate = gate
        self._cors = cors
        self._traffic = traffic
        self._body_limit = body_limit
        self._id_prefix = secrets.token_hex(10).encode()
        self._numbers = count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        headers = dict(scope["headers"])
        request_id = self._request_id(headers)
        answer = _Answer(send, (*self._headers(scope, headers), (b"x-request-id", request_id)))
        route = None
        try:
            if scope["method"] == "OPTIONS" and b"access-control-request-method" in headers:
                await answer.send_whole(204, b"", self._cors.preflight(headers))
                return
            caller = self._gate.admit(scope, headers)
            _refuse_if_longer(headers, self._body_limit)
            hot, agent_id = self._hot_route(scope)
            if hot is None:
                scope["caller"] = caller
                current_origin.set(self._gate.origin(scope, headers, caller, request_id))
                await self._app(scope, _limited(receive, self._body_limit), answer.send)
            else:
                route = hot.template
                body = await _whole_body(receive, self._body_limit)
                status, content = await hot(agent_id, caller, headers, body)
                await answer.send_whole(status, content, (_JSON,), scope.get("extensions", {}).get(WHOLE_ANSWER))
        except ClientDisconnect:
            log.info("client_left", path=scope["path"], request_id=request_id.decode())
        except Exception as error:  # noqa: BLE001 -- this is the last catch: all of them are answered or raised again
            await self._fail(error, scope, receive, answer, request_id.decode())
        finally:
            template = route or getattr(scope.get("route"), "path", UNMATCHED)
            self._traffic.record(scope["method"], str(template), answer.status, time.perf_counter() - began)

    async def _fail(self, error: Exception, scope: Scope, receive: Receive, answer: "_Answer", request_id: str) -> None:
        response = answer_to(error)
        if response is None:
            log.error(
                "request_failed", exc_info=error, method=scope["method"], path=scope["path"], request_id=request_id
            )
            response = internal_error(request_id)
        if answer.status:
            raise error  # half an answer cannot be mended: the server ends the connection
        await response(scope, receive, answer.send)

    def _headers(self, scope: Scope, headers: Headers) -> tuple[Header, ...]:
        secure = (_OVER_TLS,) if scope["scheme"] == "https" else ()
        return (*_EVERY_ANSWER, *secure, *self._cors.headers(headers))

    def _request_id(self, headers: Headers) -> bytes:
        """Return the caller's own id for a request where it gives a plain one, else a new one."""
        given = headers.get(b"x-request-id")
        if given is not None and _REQUEST_ID.fullmatch(given):
            return given
        return b"%b%012x" % (self._id_prefix, next(self._numbers))

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

    async def send_whole(
        self,
        status: int,
        body: bytes,
        headers: tuple[Header, ...],
        write: Callable[[bytes], bool] | None = None,
    ) -> None:
        """Send an answer that sets none of the headers of every answer; by `write` in one piece, where that can be."""
        self.status = status
        if write is not None and write(_rendered(status, headers + self._headers, body)):
            return
        length = () if status == 204 else ((b"content-length", b"%d" % len(body)),)  # noqa: PLR2004 -- it has no body
        start = {"type": "http.response.start", "status": status, "headers": [*headers, *length, *self._headers]}
        await self._send(start)
        await self._send({"type": "http.response.body", "body": body})


def _rendered(status: int, headers: tuple[Header, ...], body: bytes) -> bytes:
    """Return an answer as it goes over the wire."""
    lines = b"".join([b"%b: %b\r\n" % header for header in headers])
    return b"HTTP/1.1 %d %b\r\n%bcontent-length: %d\r\n\r\n%b" % (status, _PHRASES[status], lines, len(body), body)


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
