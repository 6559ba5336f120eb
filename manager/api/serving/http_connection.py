"""HTTP connection: limits the size of request heads, and the time a client may take to send and to read.

Without these limits anybody could hold the server by opening connections and staying silent. Every connection has a
time limit for its next head, for each body, and for reading its last answer.
"""

import asyncio
import secrets
import time
from typing import Any, cast

import uvloop
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from manager.api.agents.fast_lane import ConnectionHandle, FastLane, FastRequest
from manager.api.middleware.response_headers import DEFAULT_HEADERS, HSTS, JSON, REQUEST_ID, render_head

HEAD_LIMIT = 64 * 1024
"""Largest request line plus headers in bytes."""

HEAD_TIMEOUT = 10.0
"""Seconds from the opening of a connection, or from the first byte of a request, to the end of its head."""

BODY_TIMEOUT = 30.0
"""Seconds from the end of a head to the end of the body."""

CLOSE_TIMEOUT = 10.0
"""Seconds that a client may take to read what was sent before its connection was closed."""

CHECK_INTERVAL = 1.0
"""Seconds between two checks of the time limits."""

_CLOSE = (b"connection", b"close")
_SENTENCES = {
    408: b"the request came too slowly",
    431: b"the request's head is too large: at most 64 KiB are taken",
    400: b"the request is no HTTP",
}


class HttpConnection(HttpToolsProtocol):
    """A uvicorn connection with limits, which passes plain requests to the fast lane."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lane: FastLane | None = getattr(self.app, "fast_lane", None)
        self._handle = ConnectionHandle(None, secure=False, write=self._write, server_headers=self._server_headers)
        self._in_head = True
        self._head_size = 0
        self._since = time.monotonic()
        self._closing_since: float | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Callback: a client connected."""
        super().connection_made(transport)
        self._handle = ConnectionHandle(self.client, self.scheme == "https", self._write, self._server_headers)

    def on_message_begin(self) -> None:
        """Callback: a request begins."""
        self.url, self.headers, self.expect_100_continue = b"", [], False
        self._in_head, self._head_size, self._since = True, 0, time.monotonic()

    def on_headers_complete(self) -> None:
        """Callback: a head is complete. A plain request takes the fast lane, any other goes to the application."""
        self._in_head, self._since = False, time.monotonic()
        request = self._fast_request()
        if request is not None:
            self.cycle = cast("RequestResponseCycle", request)
            return
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers += headers
        super().on_headers_complete()

    def _fast_request(self) -> FastRequest | None:
        """Return the request if the fast lane may serve it, else None.

        It may not while an earlier request of the connection is unanswered, nor while the client does not read.
        """
        parser, before = self.parser, cast("RequestResponseCycle | None", self.cycle)
        if self._lane is None or self.flow.write_paused or (before is not None and not before.response_complete):
            return None
        if parser.get_method() != b"POST" or parser.get_http_version() != "1.1":
            return None
        if not parser.should_keep_alive() or parser.should_upgrade():
            return None
        return self._lane.match(self.url, self.headers, self._handle)

    def on_message_complete(self) -> None:
        """Callback: a request is complete."""
        super().on_message_complete()
        cycle: object = self.cycle
        if isinstance(cycle, FastRequest) and self._lane is not None and not cycle.done():
            self._lane.serve(cycle)

    def _server_headers(self) -> list[tuple[bytes, bytes]]:
        return self.server_state.default_headers

    def _write(self, answer: bytes, last: bool) -> None:
        """Send an answer of the fast lane; close the connection after the last one."""
        if self.transport.is_closing():
            return
        self.transport.write(answer)
        if last:
            self.transport.close()
        self.on_response_complete()

    def data_received(self, data: bytes) -> None:
        """Parse received bytes; those of an incomplete head count towards its size limit."""
        super().data_received(data)
        if self._in_head:
            self._head_size += len(data)
            if self._head_size > HEAD_LIMIT and not self.transport.is_closing():
                self._refuse(431)
        elif self.cycle is not None and self.cycle.response_complete and not self.cycle.more_body:
            # Empty lines between two requests begin none, and must not keep the connection open either.
            self._in_head, self._head_size, self._since = True, 0, time.monotonic()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 -- uvicorn's text does not reach the client
        """Answer bytes that are no HTTP, in the shape of all answers."""
        self._refuse(400)

    def enforce_timeouts(self, now: float) -> None:
        """Close the connection if its client exceeded a time limit."""
        if self.transport.is_closing():
            self._closing_since = self._closing_since or now
            if now - self._closing_since >= CLOSE_TIMEOUT:
                self.transport.abort()
            return
        waited = now - self._since
        cycle = self.cycle
        if self._in_head:
            if waited >= HEAD_TIMEOUT and self._head_size:
                self._refuse(408)
            elif waited >= HEAD_TIMEOUT:
                self.transport.close()
        elif cycle is not None and cycle.more_body and waited >= BODY_TIMEOUT:  # whether or not it is answered already
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started:
                self.transport.close()
            else:
                self._refuse(408)

    def _refuse(self, status: int) -> None:
        body = b'{"ok":false,"error":"%b"}' % _SENTENCES[status]
        secure = (HSTS,) if self.scheme == "https" else ()
        own = ((REQUEST_ID, secrets.token_hex(16).encode()), (b"content-length", b"%d" % len(body)), _CLOSE)
        head = render_head(status, (JSON, *DEFAULT_HEADERS, *secure, *own))
        self.transport.write(b"%b\r\n%b" % (head, body))
        self.transport.close()


async def enforce_timeouts(connections: set[Any]) -> None:
    """Check the time limits of all connections once a second, until cancelled."""
    while True:
        await asyncio.sleep(CHECK_INTERVAL)
        now = time.monotonic()
        for connection in tuple(connections):
            cast("HttpConnection", connection).enforce_timeouts(now)


HANDSHAKE_TIMEOUT = 10.0
"""Seconds from the opening of a connection to the end of its TLS handshake."""


class HandshakeLoop(uvloop.Loop):
    """Event loop whose TLS servers limit the handshake to HANDSHAKE_TIMEOUT; uvloop's default is a minute."""

    async def create_server(self, *args: Any, **kwargs: Any) -> asyncio.Server:
        """Create a server; connections that exceed the handshake timeout are closed."""
        if kwargs.get("ssl") is not None:
            kwargs["ssl_handshake_timeout"] = HANDSHAKE_TIMEOUT
        return cast("asyncio.Server", await super().create_server(*args, **kwargs))
