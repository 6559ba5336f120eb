"""One client's connection: how large a head may be, and how long a client may take over what it sends and reads.

A server that waits for slow clients for ever can be held by anybody who opens connections and is silent. So every
connection has a time for its next head, a time for each body, and a time to take its last answer.
"""

import asyncio
import secrets
import time
from typing import Any, cast

import uvloop
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from manager.api.agents.fast_lane import Exchange, FastLane, Wire
from manager.api.middleware.responses import EVERY_ANSWER, JSON, OVER_TLS, REQUEST_ID, head_of

HEAD_LIMIT = 64 * 1024
"""Bytes that a request's line and headers may have."""

HEAD_WITHIN = 10.0
"""Seconds from a connection's first word, or from its opening, to the end of the head."""

BODY_WITHIN = 30.0
"""Seconds from the end of a head to the end of the body."""

CLOSED_WITHIN = 10.0
"""Seconds that a client may take to read what was said before its connection was closed."""

LOOK_EVERY = 1.0

_CLOSE = (b"connection", b"close")
_SENTENCES = {
    408: b"the request came too slowly",
    431: b"the request's head is too large: at most 64 KiB are taken",
    400: b"the request is no HTTP",
}


class Connection(HttpToolsProtocol):
    """A connection that ends when its client oversteps a bound."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lane: FastLane | None = getattr(self.app, "fast_lane", None)
        self._wire = Wire(None, secure=False, write=self._write, standing=self._standing)
        self._in_head = True
        self._head = 0
        self._since = time.monotonic()
        self._closing_since: float | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client is there."""
        super().connection_made(transport)
        self._wire = Wire(self.client, self.scheme == "https", self._write, self._standing)

    def on_message_begin(self) -> None:
        """A request begins."""
        self.url, self.headers, self.expect_100_continue = b"", [], False
        self._in_head, self._head, self._since = True, 0, time.monotonic()

    def on_headers_complete(self) -> None:
        """A head is whole: a plain request takes the fast lane, any other the application."""
        self._in_head, self._since = False, time.monotonic()
        exchange = self._plain()
        if exchange is not None:
            self.cycle = cast("RequestResponseCycle", exchange)
            return
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers += headers
        super().on_headers_complete()

    def _plain(self) -> Exchange | None:
        """Return the exchange of a request that may take the fast lane; None where it may not.

        It may not behind another one that is under way, nor while the client does not read its answers.
        """
        parser, before = self.parser, cast("RequestResponseCycle | None", self.cycle)
        if self._lane is None or self.flow.write_paused or (before is not None and not before.response_complete):
            return None
        if parser.get_method() != b"POST" or parser.get_http_version() != "1.1":
            return None
        if not parser.should_keep_alive() or parser.should_upgrade():
            return None
        return self._lane.exchange(self.url, self.headers, self._wire)

    def on_message_complete(self) -> None:
        """A request is whole."""
        super().on_message_complete()
        cycle: object = self.cycle
        if isinstance(cycle, Exchange) and self._lane is not None and not cycle.done():
            self._lane.serve(cycle)

    def _standing(self) -> list[tuple[bytes, bytes]]:
        return self.server_state.default_headers

    def _write(self, answer: bytes, last: bool) -> None:
        """Send an answer of the fast lane; after the last one the connection ends."""
        if self.transport.is_closing():
            return
        self.transport.write(answer)
        if last:
            self.transport.close()
        self.on_response_complete()

    def data_received(self, data: bytes) -> None:
        """Take bytes; what came in vain is counted while a head goes on."""
        super().data_received(data)
        if self._in_head:
            self._head += len(data)
            if self._head > HEAD_LIMIT and not self.transport.is_closing():
                self._refuse(431)
        elif self.cycle is not None and self.cycle.response_complete and not self.cycle.more_body:
            # Empty lines between requests begin none; they must not keep a connection either.
            self._in_head, self._head, self._since = True, 0, time.monotonic()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 -- the words are the framework's
        """Answer what is no HTTP, in the shape of all answers."""
        self._refuse(400)

    def look(self, now: float) -> None:
        """End the connection if its client has taken too long."""
        if self.transport.is_closing():
            self._closing_since = self._closing_since or now
            if now - self._closing_since >= CLOSED_WITHIN:
                self.transport.abort()
            return
        waited = now - self._since
        cycle = self.cycle
        if self._in_head:
            if waited >= HEAD_WITHIN and self._head:
                self._refuse(408)
            elif waited >= HEAD_WITHIN:
                self.transport.close()
        elif cycle is not None and cycle.more_body and waited >= BODY_WITHIN:  # answered already or not
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started:
                self.transport.close()
            else:
                self._refuse(408)

    def _refuse(self, status: int) -> None:
        body = b'{"ok":false,"error":"%b"}' % _SENTENCES[status]
        secure = (OVER_TLS,) if self.scheme == "https" else ()
        own = ((REQUEST_ID, secrets.token_hex(16).encode()), (b"content-length", b"%d" % len(body)), _CLOSE)
        head = head_of(status, (JSON, *EVERY_ANSWER, *secure, *own))
        self.transport.write(b"%b\r\n%b" % (head, body))
        self.transport.close()


async def mind(connections: set[Any]) -> None:
    """Look at all connections, once a second, for ever."""
    while True:
        await asyncio.sleep(LOOK_EVERY)
        now = time.monotonic()
        for connection in tuple(connections):
            cast("Connection", connection).look(now)


HANDSHAKE_WITHIN = 10.0
"""Seconds from a connection's opening to the end of its handshake."""


class HandshakeLoop(uvloop.Loop):
    """A loop whose TLS servers wait for no client longer than that; uvloop's own servers wait a minute."""

    async def create_server(self, *args: Any, **kwargs: Any) -> asyncio.Server:
        """Serve; a client that does not finish its handshake in time is cut."""
        if kwargs.get("ssl") is not None:
            kwargs["ssl_handshake_timeout"] = HANDSHAKE_WITHIN
        return cast("asyncio.Server", await super().create_server(*args, **kwargs))
