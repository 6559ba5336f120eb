"""HTTP connection: limits the size of request heads, and the time a client may take to send and to read.

Without these limits silent connections could block the server. Every connection has a
time limit for its next head, for each body, and for reading its last answer. Requests that RFC 9112 calls invalid are
refused here, before either lane sees them.
"""

import asyncio
import re
import secrets
import time
from collections.abc import Callable
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
"""Seconds for which a closing connection waits for its client to read the buffered bytes."""

LINGER_BYTES = 4 * 1024 * 1024
LINGER_HEAD_BYTES = 512 * 1024
LINGER_TIMEOUT = 5.0
"""The limits, in bytes and seconds, up to which the rest of a refused request is read and dropped. Closing at once
would reset the connection, and the client would lose the answer."""

CHECK_INTERVAL = 1.0
"""Seconds between two checks of the time limits."""

_CLOSE = (b"connection", b"close")
_HOST = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=:\[\]%-]*")

_TOO_SLOW = "the request came too slowly"
_TOO_LARGE = "the request's head is too large: at most 64 KiB are taken"
_NO_HTTP = "the request is no HTTP"


class _LingeringTransport(asyncio.Transport):
    """A transport whose `close` first reads and drops the client's remaining bytes, within limits.

    Args:
        transport: the real one.
        must_linger: returns whether a request is incomplete.
    """

    def __init__(self, transport: asyncio.Transport, must_linger: Callable[[], bool]) -> None:
        super().__init__()
        self._transport = transport
        self._must_linger = must_linger
        self.write = transport.write  # type: ignore[method-assign]  # without a call in between: it is in the hot path
        self.lingering_since: float | None = None

    def close(self) -> None:
        """Send the buffered bytes and the end of the stream; close at the client's end of stream or at a limit."""
        if self.lingering_since is not None or self._transport.is_closing() or not self._must_linger():
            self._transport.close()
            return
        self.lingering_since = time.monotonic()
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._transport.resume_reading()

    def is_closing(self) -> bool:
        """Return whether the transport is closing, so that nothing may be written."""
        return self.lingering_since is not None or self._transport.is_closing()

    def abort(self) -> None:
        """Close immediately."""
        self._transport.abort()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return information on the socket."""
        return self._transport.get_extra_info(name, default)

    def pause_reading(self) -> None:
        """Stop reading."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Resume reading."""
        self._transport.resume_reading()


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
        self._received = 0
        self._refused = False
        self._dropped = 0
        self._lingering: _LingeringTransport | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Callback: a client connected."""
        self._lingering = _LingeringTransport(transport, self._is_incomplete)
        super().connection_made(self._lingering)
        self._handle = ConnectionHandle(self.client, self.scheme == "https", self._write, self._server_headers)

    def on_message_begin(self) -> None:
        """Callback: a request begins."""
        self.url, self.headers, self.expect_100_continue = b"", [], False
        self._in_head, self._head_size, self._since, self._dropped = True, 0, time.monotonic(), 0

    def on_headers_complete(self) -> None:
        """Callback: a head is complete. The fast lane serves plain requests, the application all others."""
        self._in_head, self._since = False, time.monotonic()
        fault = self._fault()
        if fault is not None:
            self._refuse_request(*fault)
            return
        request = self._fast_request()
        if request is not None:
            self.cycle = cast("RequestResponseCycle", request)
            return
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers += headers
        super().on_headers_complete()

    def _fault(self) -> tuple[int, str] | None:
        """Return status and error message for a head that is invalid (RFC 9112) or not supported."""
        if self._head_size + self._received > HEAD_LIMIT and self._exact_head_size() > HEAD_LIMIT:
            return 431, _TOO_LARGE
        version = self.parser.get_http_version()
        if version not in {"1.0", "1.1"}:
            return 505, "this server speaks HTTP/1.1"
        hosts = credentials = 0
        is_host = True
        for name, value in self.headers:  # one loop: every request passes it
            if name == b"host":
                hosts += 1
                is_host = is_host and _HOST.fullmatch(value) is not None
            elif name == b"authorization":
                credentials += 1
        if hosts != 1 and (version == "1.1" or hosts):
            return 400, "a request has exactly one Host header (RFC 9112, section 3.2)"
        if credentials > 1:
            return 400, "a request has at most one Authorization header (RFC 9110, section 5.3)"
        if not is_host:
            return 400, "the Host header is no host (RFC 9112, section 3.2)"
        return None

    def _exact_head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + len(b": \r\n") for name, value in self.headers)

    def _refuse_request(self, status: int, sentence: str) -> None:
        """Answer an invalid head; if an earlier request is unanswered, only close the connection after its answer."""
        self._refused = True
        before = cast("RequestResponseCycle | None", self.cycle)
        if before is None or before.response_complete:
            self._refuse(status, sentence)
        else:
            before.keep_alive = False

    def _is_incomplete(self) -> bool:
        """Return whether the client is in the middle of a request."""
        cycle = self.cycle
        return self._refused or (self._in_head and self._head_size > 0) or (cycle is not None and cycle.more_body)

    def _fast_request(self) -> FastRequest | None:
        """Return the request if the fast lane may serve it, else None.

        The fast lane may not serve it while an earlier request is unanswered or the client does not read.
        """
        parser, before = self.parser, cast("RequestResponseCycle | None", self.cycle)
        if self._lane is None or self.flow.write_paused or (before is not None and not before.response_complete):
            return None
        if parser.get_method() != b"POST" or parser.get_http_version() != "1.1":
            return None
        if not parser.should_keep_alive() or parser.should_upgrade():
            return None
        return self._lane.match(self.url, self.headers, self._handle)

    def on_body(self, body: bytes) -> None:
        """Callback: a part of a body arrived; the body of a refused request is dropped."""
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Callback: a request is complete."""
        if self._refused:
            return
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
        if self.pipeline or self.flow.read_paused:
            self.on_response_complete()
            return
        self.server_state.total_requests += 1
        self._since = time.monotonic()  # `enforce_timeouts` closes an idle connection: no timer for each answer

    def data_received(self, data: bytes) -> None:
        """Parse received bytes; bytes of an incomplete head count towards the size limit of heads."""
        if self._refused or self._is_lingering:
            self._drop(data)
            return
        cycle = self.cycle
        answered = cycle is not None and cycle.response_complete
        if answered and cycle.more_body:
            self._drop(data)  # answered before its end and kept alive: the parser searches for the end of the body
        between = answered and not cycle.more_body and not self._in_head
        if between and self._serve_known(data):
            return
        begins = between or (self._in_head and not self._head_size)
        self._received = len(data)
        super().data_received(data)
        if begins and self.cycle is not cycle:
            self._keep_head(data)
        if self._in_head:
            self._head_size += len(data)
            if self._head_size > HEAD_LIMIT and not self.transport.is_closing():
                self._refuse(431, _TOO_LARGE)
        elif self.cycle is not None and self.cycle.response_complete and not self.cycle.more_body:
            # Empty lines between two requests begin no request, and must not keep the connection open.
            self._in_head, self._head_size, self._since = True, 0, time.monotonic()

    def _serve_known(self, data: bytes) -> bool:
        """Serve a request whose head is known from before, without the parser; return whether `data` was one."""
        lane = self._lane
        request = None if lane is None or self.flow.write_paused else lane.match_known(data, self._handle)
        if request is None:
            return False
        self._unset_keepalive_if_required()
        self.cycle = cast("RequestResponseCycle", request)
        request.head.lane.serve(request)
        return True

    def _keep_head(self, data: bytes) -> None:
        """Keep the head of the request that is the whole of `data`, if the fast lane took it."""
        cycle: object = self.cycle
        if isinstance(cycle, FastRequest) and self._lane is not None:
            self._lane.keep(data, cycle)

    @property
    def _is_lingering(self) -> bool:
        return self._lingering is not None and self._lingering.lingering_since is not None

    def _drop(self, data: bytes) -> None:
        """Count dropped bytes; too many of them close the connection."""
        self._dropped += len(data)
        if self._dropped > (LINGER_HEAD_BYTES if self._in_head else LINGER_BYTES):
            self.transport.abort()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 -- uvicorn's text does not reach the client
        """Answer bytes that are not HTTP with an error in the format of all answers."""
        if not self.transport.is_closing():
            self._refused = True
            self._refuse(400, _NO_HTTP)

    def enforce_timeouts(self, now: float) -> None:
        """Close the connection if its client exceeded a time limit."""
        if self.transport.is_closing():
            self._closing_since = self._closing_since or now
            patience = LINGER_TIMEOUT if self._is_lingering else CLOSE_TIMEOUT
            if now - self._closing_since >= patience:
                self.transport.abort()
            return
        waited = now - self._since
        cycle = self.cycle
        if self._in_head:
            if waited >= HEAD_TIMEOUT and self._head_size:
                self._refuse(408, _TOO_SLOW)
            elif waited >= HEAD_TIMEOUT:
                self.transport.close()
        elif cycle is not None and cycle.more_body and waited >= BODY_TIMEOUT:  # even if it is already answered
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started:
                self.transport.close()
            else:
                self._refuse(408, _TOO_SLOW)
        elif self._is_idle and waited >= self.timeout_keep_alive:
            self.transport.close()

    @property
    def _is_idle(self) -> bool:
        """Return whether the last request was the fast lane's and is answered; uvicorn has a timer for any other."""
        cycle = self.cycle
        answered = cycle is not None and cycle.response_complete and not cycle.more_body
        return answered and self.timeout_keep_alive_task is None

    def _refuse(self, status: int, sentence: str) -> None:
        body = b'{"ok":false,"error":"%b"}' % sentence.encode()
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
