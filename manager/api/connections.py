"""One client's connection: how large a head may be, and how long a client may take over what it sends and reads.

A server that waits for slow clients for ever can be held by anybody who opens connections and is silent. So every
connection has a time for its next head, a time for each body, and a time to take its last answer.
"""

import asyncio
import time
from functools import partial
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

WHOLE_ANSWER = "panguard.whole_answer"
"""The extension by which an application writes an answer in one piece: takes its bytes, returns whether it did."""

HEAD_LIMIT = 64 * 1024
"""Bytes that a request's line and headers may have."""

HEAD_WITHIN = 10.0
"""Seconds from a connection's first word, or from its opening, to the end of the head."""

BODY_WITHIN = 30.0
"""Seconds from the end of a head to the end of the body."""

CLOSED_WITHIN = 10.0
"""Seconds that a client may take to read what was said before its connection was closed."""

LOOK_EVERY = 1.0

_SAID = {
    408: b"Request Timeout",
    431: b"Request Header Fields Too Large",
    400: b"Bad Request",
}
_SENTENCES = {
    408: b"the request came too slowly",
    431: b"the request's head is too large: at most 64 KiB are taken",
    400: b"the request is no HTTP",
}


class Connection(HttpToolsProtocol):
    """A connection that ends when its client oversteps a bound."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_head = True
        self._head = 0
        self._since = time.monotonic()
        self._closing_since: float | None = None

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._in_head, self._head, self._since = True, 0, time.monotonic()

    def on_headers_complete(self) -> None:
        """A head is whole; the application, which runs later, may write its whole answer at once."""
        super().on_headers_complete()
        cast("dict[str, Any]", self.scope)["extensions"] = {WHOLE_ANSWER: partial(self._write_whole, self.cycle)}
        self._in_head, self._since = False, time.monotonic()

    def data_received(self, data: bytes) -> None:
        """Take bytes; what came in vain is counted while a head goes on."""
        super().data_received(data)
        if self._in_head:
            self._head += len(data)
            if self._head > HEAD_LIMIT and not self.transport.is_closing():
                self._refuse(431)

    def _write_whole(self, cycle: RequestResponseCycle, answer: bytes) -> bool:
        """Write an answer from its status line to its end, as the server's own steps would; False if they must do it.

        They look at each header with two regular expressions: for a small answer that is most of its cost.
        """
        if cycle.response_started or cycle.disconnected or not cycle.keep_alive or self.flow.write_paused:
            return False
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        cycle.message_event.set()
        self.transport.write(answer)
        cycle.on_response()
        return True

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
        elif cycle is not None and cycle.more_body and not cycle.response_complete and waited >= BODY_WITHIN:
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started:
                self.transport.close()
            else:
                self._refuse(408)

    def _refuse(self, status: int) -> None:
        body = b'{"ok":false,"error":"%b"}' % _SENTENCES[status]
        self.transport.write(
            b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
            b"x-content-type-options: nosniff\r\nconnection: close\r\n\r\n%b" % (status, _SAID[status], len(body), body)
        )
        self.transport.close()


async def mind(connections: set[Any]) -> None:
    """Look at all connections, once a second, for ever."""
    while True:
        await asyncio.sleep(LOOK_EVERY)
        now = time.monotonic()
        for connection in tuple(connections):
            cast("Connection", connection).look(now)
