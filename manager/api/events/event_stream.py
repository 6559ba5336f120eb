"""The fleet's events for those who watch by HTTP: a ring of the newest, and readers of which none holds up another.

The engine hands events over from its own thread and waits for nobody; all else happens in the server's loop.
"""

import asyncio
import json
import secrets
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from itertools import islice
from typing import Any

import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from schemas.fleet import FleetEvent

log = structlog.get_logger(__name__)

KEEPALIVE = 30.0
"""Seconds of silence after which a reader is sent a comment, so that nothing between takes it for dead."""

_KEPT = 1000
_BEHIND = 500
_READERS = 1000


class Reader:
    """One who watches: what it has not been sent yet, and whether it is given up."""

    def __init__(self) -> None:
        self.waiting: deque[bytes] = deque()
        self.something = asyncio.Event()
        self.over = False
        self.task: asyncio.Task[Any] | None = None

    def end(self, *, at_once: bool) -> None:
        """Send no more; `at_once` even what is on its way is given up."""
        self.over = True
        self.something.set()
        if at_once and self.task is not None:
            self.task.cancel()


class EventStream:
    """Keeps the newest events, numbers them, and passes them on.

    Args:
        kept: events that a reader who comes back may have missed.
        behind: events that a reader may lag behind before it is given up.
        readers: how many may watch at once.
        keepalive: seconds of silence after which a reader is sent a comment.
    """

    def __init__(
        self, kept: int = _KEPT, behind: int = _BEHIND, readers: int = _READERS, keepalive: float = KEEPALIVE
    ) -> None:
        self.keepalive = keepalive
        self._ring: deque[tuple[int, bytes]] = deque(maxlen=kept)
        self._behind = behind
        self._most_readers = readers
        self._run = secrets.token_hex(4)
        self._number = 0
        self._coming: deque[FleetEvent] = deque(maxlen=kept)
        self._due = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._readers: set[Reader] = set()
        self.dropped = 0
        """Readers that were too slow."""

    def __len__(self) -> int:
        """Return how many watch."""
        return len(self._readers)

    @property
    def full(self) -> bool:
        """Whether nobody else may watch."""
        return len(self._readers) >= self._most_readers

    def open(self) -> None:
        """Begin to pass events on, in the running loop."""
        self._loop = asyncio.get_running_loop()
        self._take_in()

    def close(self) -> None:
        """End all readers; safe from any thread."""
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # the loop has ended, and they with it
                loop.call_soon_threadsafe(self._end_all)

    def publish(self, event: FleetEvent) -> None:
        """Take an event, in the engine's thread; costs an append, and one call for all that come together."""
        self._coming.append(event)
        loop = self._loop
        if loop is not None and not self._due:
            self._due = True
            with suppress(RuntimeError):  # the loop has ended: nobody watches any more
                loop.call_soon_threadsafe(self._take_in)

    def join(self, last_id: str | None) -> Reader:
        """Return a new reader, with what it missed since the event that it names, as far as the ring holds it."""
        reader = Reader()
        missed = self._since(last_id)
        data = {"resumed": last_id is not None, "missed": len(missed), "readers": len(self._readers) + 1}
        reader.waiting.append(self._text(self._number - len(missed), "connected", json.dumps(data).encode()))
        reader.waiting.extend(missed)
        reader.something.set()
        self._readers.add(reader)
        return reader

    def leave(self, reader: Reader) -> None:
        """Forget a reader."""
        self._readers.discard(reader)

    def _since(self, last_id: str | None) -> list[bytes]:
        if last_id is None:
            return []
        run, _, number = last_id.partition("-")
        seen = int(number) if run == self._run and number.isdecimal() and len(number) < 20 else 0  # noqa: PLR2004 -- digits
        return [text for position, text in self._ring if position > seen]

    def _take_in(self) -> None:
        self._due = False  # before the deque is looked at: what is appended from now on calls again
        texts = []
        while self._coming:
            event = self._coming.popleft()
            self._number += 1
            text = self._text(self._number, event.event, event.body())
            self._ring.append((self._number, text))
            texts.append(text)
        for reader in tuple(self._readers):
            self._pass_on(reader, texts)

    def _pass_on(self, reader: Reader, texts: Iterable[bytes]) -> None:
        reader.waiting.extend(texts)
        reader.something.set()
        if len(reader.waiting) > self._behind + len(self._ring):
            self.dropped += 1
            log.warning("slow_reader_dropped", behind=len(reader.waiting))
            self.leave(reader)
            reader.end(at_once=True)

    def _end_all(self) -> None:
        for reader in tuple(self._readers):
            reader.end(at_once=False)

    def _text(self, number: int, name: str, data: bytes) -> bytes:
        return b"id: %b-%d\nevent: %b\ndata: %b\n\n" % (self._run.encode(), number, name.encode(), data)


class StreamResponse(Response):
    """Sends a reader what it waits for, until it leaves or is given up.

    Args:
        stream: where events come from.
        last_id: the last event that the reader has, if it was here before.
    """

    media_type = "text/event-stream"

    def __init__(self, stream: EventStream, last_id: str | None) -> None:
        super().__init__(headers={"X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._stream = stream
        self._last_id = last_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one reader."""
        if scope["method"] == "HEAD":
            await super().__call__(scope, receive, send)
            return
        reader = self._stream.join(self._last_id)
        reader.task = asyncio.current_task()
        watch = asyncio.create_task(_until_left(receive, reader), name="event-stream-reader")
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            while not reader.over:
                await self._send_waiting(reader, send)
            await send({"type": "http.response.body", "body": b""})
        except asyncio.CancelledError:
            if not reader.over:
                raise  # it is the server that ends, not this reader
        finally:
            watch.cancel()
            self._stream.leave(reader)

    async def _send_waiting(self, reader: Reader, send: Send) -> None:
        reader.something.clear()
        if not reader.waiting:
            try:
                await asyncio.wait_for(reader.something.wait(), self._stream.keepalive)
            except TimeoutError:
                await send({"type": "http.response.body", "body": b": keepalive\n\n", "more_body": True})
            return
        some = [reader.waiting.popleft() for _ in islice(range(len(reader.waiting)), 100)]
        await send({"type": "http.response.body", "body": b"".join(some), "more_body": True})


async def _until_left(receive: Receive, reader: Reader) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    reader.end(at_once=False)


VALID_FOR = 30.0
"""Seconds for which a ticket is good, once."""

_MOST = 1000


class Tickets:
    """Who may open the stream once, soon. Beyond so many unused tickets the oldest is forgotten."""

    def __init__(self) -> None:
        self._good_until: dict[str, float] = {}

    def issue(self, now: float) -> str:
        """Return a new ticket; `now` is in seconds on any clock that is used for all calls."""
        self._good_until = {ticket: until for ticket, until in self._good_until.items() if until > now}
        while len(self._good_until) >= _MOST:
            del self._good_until[next(iter(self._good_until))]
        ticket = secrets.token_urlsafe(24)
        self._good_until[ticket] = now + VALID_FOR
        return ticket

    def redeem(self, ticket: str, now: float) -> bool:
        """Return whether a ticket is good, and use it up."""
        return self._good_until.pop(ticket, now) > now
