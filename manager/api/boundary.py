"""The outermost layer of every request: its id, the headers of every answer, the size of bodies, the last catch."""

import re
from collections.abc import Awaitable, Callable
from uuid import uuid4

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from manager.api.errors import BodyTooLarge, answer_to, internal_error

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


class Boundary:
    """Wraps the application; it runs inside nothing that could answer without it.

    Args:
        app: the application.
        body_limit: bytes that a request's body may have.
    """

    def __init__(self, app: ASGIApp, body_limit: int) -> None:
        self._app = app
        self._body_limit = body_limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        answer = _Answer(send, request_id, secure=scope["scheme"] == "https")
        try:
            _refuse_if_longer(scope, self._body_limit)
            await self._app(scope, _limited(receive, self._body_limit), answer.send)
        except ClientDisconnect:
            log.info("client_left", path=scope["path"], request_id=request_id.decode())
        except Exception as error:
            response = answer_to(error)
            if response is None:
                log.exception(
                    "request_failed", method=scope["method"], path=scope["path"], request_id=request_id.decode()
                )
                response = internal_error(request_id.decode())
            if answer.started:
                raise  # half an answer cannot be mended: the server ends the connection
            await response(scope, receive, answer.send)


class _Answer:
    """Adds the headers of every answer, where a route did not set its own."""

    def __init__(self, send: Send, request_id: bytes, *, secure: bool) -> None:
        self._send = send
        self._headers = (*_EVERY_ANSWER, (b"x-request-id", request_id), *((_OVER_TLS,) if secure else ()))
        self.started = False

    async def send(self, message: Message) -> None:
        """Pass a message on to the server."""
        if message["type"] == "http.response.start":
            self.started = True
            headers = list(message.get("headers", ()))
            present = {name.lower() for name, _ in headers}
            headers += [header for header in self._headers if header[0] not in present]
            message = {**message, "headers": headers}
        await self._send(message)


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


def _request_id(scope: Scope) -> bytes:
    """Return the caller's own id for a request where it gives a plain one, else a new one."""
    given = _header(scope, b"x-request-id")
    return given if _REQUEST_ID.fullmatch(given) else uuid4().hex.encode()


def _refuse_if_longer(scope: Scope, limit: int) -> None:
    given = _header(scope, b"content-length")
    if given.isdigit() and int(given) > limit:
        raise BodyTooLarge


def _header(scope: Scope, name: bytes) -> bytes:
    return next((value for key, value in scope["headers"] if key == name), b"")
