"""Fleet events for HTTP clients: a client that resumes reads the event table first, and then a queue of its own.

The ids are the table's sequences, so they are good after a restart. The engine publishes from its own thread and never
waits; everything else runs in the server's event loop.
"""

import asyncio
import json
from collections import deque
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from itertools import islice
from typing import Any, NamedTuple

import structlog
from fastapi.sse import format_sse_event
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from manager.api.events.stored_events import Backlog, StoredEvents
from manager.engine.events import EventRow

log = structlog.get_logger(__name__)

KEEPALIVE = 30.0
"""Seconds of silence after which a subscriber is sent a comment, so that proxies keep the connection."""

_RING_SIZE = 1000
_MAX_LAG = 500
_MAX_SUBSCRIBERS = 1000
_MAX_OF_TOKEN = 50
_LONGEST_NUMBER = 20
_CHUNK = 100
_APART = 0.1
"""Seconds between two sends to one subscriber: the events of a burst go together, the first of them at once."""

_KEEPALIVE_COMMENT = format_sse_event(comment="keepalive")


class Subscriber:
    """One client of the stream with its unsent events; it gets none until it has joined.

    Args:
        organizations: the only organizations whose events it is sent; None for all events.
        token: identifies the token that opened it; None for the admin token.
    """

    def __init__(self, organizations: Collection[str] | None = None, token: bytes | None = None) -> None:
        self._organizations = organizations
        self.token = token
        self.queue: deque[bytes] = deque()
        self.last: int | None = None
        """The sequence of the last event that it was sent or may not see; None before it has joined."""
        self.wakeup = asyncio.Event()
        self.ended = False
        self.task: asyncio.Task[Any] | None = None

    def may_see(self, organization_id: str | None) -> bool:
        """Return whether it is sent the events of an organization; those of None are for clients without a limit."""
        return self._organizations is None or organization_id in self._organizations

    def end(self, *, at_once: bool) -> None:
        """Send no more events; with `at_once` also cancel the current send."""
        self.ended = True
        self.wakeup.set()
        if at_once and self.task is not None:
            self.task.cancel()


class _Entry(NamedTuple):
    """An event as it is sent; `sequence` is None for one that is not stored."""

    sequence: int | None
    organization_id: str | None
    frame: bytes


class EventStream:
    """Keeps the newest stored events, and passes events to the subscribers.

    Args:
        ring_size: number of stored events that are kept in memory.
        max_lag: number of unsent events after which a subscriber is dropped.
        max_subscribers: number of subscribers at once.
        max_of_token: number of subscribers of one token at once.
        keepalive: seconds of silence after which a subscriber is sent a comment.
    """

    def __init__(
        self,
        ring_size: int = _RING_SIZE,
        max_lag: int = _MAX_LAG,
        max_subscribers: int = _MAX_SUBSCRIBERS,
        max_of_token: int = _MAX_OF_TOKEN,
        keepalive: float = KEEPALIVE,
    ) -> None:
        self.keepalive = keepalive
        self.ring_size = ring_size
        self._ring: deque[_Entry] = deque(maxlen=ring_size)
        self._max_lag = max_lag
        self._max_subscribers = max_subscribers
        self.max_of_token = max_of_token
        self._incoming: deque[EventRow] = deque(maxlen=ring_size)
        self._drain_scheduled = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._subscribers: set[Subscriber] = set()
        self.dropped = 0
        """Subscribers that were dropped for falling behind."""

    def __len__(self) -> int:
        """Return the number of subscribers."""
        return len(self._subscribers)

    @property
    def full(self) -> bool:
        """Whether the maximum of subscribers is reached."""
        return len(self._subscribers) >= self._max_subscribers

    def is_full_for(self, token: bytes | None) -> bool:
        """Return whether one token has the maximum of subscribers; None is the admin token."""
        return sum(each.token == token for each in self._subscribers) >= self.max_of_token

    def open(self) -> None:
        """Start to deliver events, in the running loop."""
        self._loop = asyncio.get_running_loop()
        self._drain()

    def close(self) -> None:
        """End all subscribers; safe from any thread."""
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # the loop is closed, and its subscribers with it
                loop.call_soon_threadsafe(self._end_all)

    def publish(self, row: EventRow) -> None:
        """Queue an event; called in the engine's thread. Each burst costs one call into the loop."""
        self._incoming.append(row)
        loop = self._loop
        if loop is not None and not self._drain_scheduled:
            self._drain_scheduled = True
            with suppress(RuntimeError):  # the loop is closed: there are no subscribers
                loop.call_soon_threadsafe(self._drain)

    def subscribe(self, organizations: Collection[str] | None = None, token: bytes | None = None) -> Subscriber:
        """Return a new subscriber, which counts from now on and gets events once it has joined.

        Only events of `organizations` are sent; None for all. `token` identifies the token; None is the admin token.
        """
        subscriber = Subscriber(organizations, token)
        self._subscribers.add(subscriber)
        return subscriber

    def join(self, subscriber: Subscriber, last: int) -> bool:
        """Send a subscriber the events after a sequence from now on; return False if it must read the table further."""
        first = self._ring[0].sequence if self._ring else None
        if first is not None and first > last + 1:
            return False
        subscriber.last = last
        self._send(subscriber, self._ring)
        return True

    def unsubscribe(self, subscriber: Subscriber) -> None:
        """Remove a subscriber."""
        self._subscribers.discard(subscriber)

    def _drain(self) -> None:
        self._drain_scheduled = False  # before the deque is read: a later append schedules again
        entries: list[_Entry] = []
        while self._incoming:
            row = self._incoming.popleft()
            frame = event_frame(row.sequence, row.event.event, row.body.decode())
            entries.append(_Entry(row.sequence, row.event.organization_id, frame))
        for entry in entries:
            if entry.sequence is not None:
                if self._ring and self._ring[-1].sequence != entry.sequence - 1:
                    self._ring.clear()  # the queue from the engine was full, and dropped events
                self._ring.append(entry)
        for subscriber in tuple(self._subscribers):
            if subscriber.last is not None:
                self._send(subscriber, entries)

    def _send(self, subscriber: Subscriber, entries: Iterable[_Entry]) -> None:
        """Queue the events that a subscriber may see and was not sent; drop a subscriber that has missed one."""
        for entry in entries:
            if entry.sequence is not None:
                last = subscriber.last or 0
                if entry.sequence <= last:
                    continue
                if entry.sequence != last + 1:
                    self._drop(subscriber)
                    return
                subscriber.last = entry.sequence
            if subscriber.may_see(entry.organization_id):
                subscriber.queue.append(entry.frame)
        subscriber.wakeup.set()
        if len(subscriber.queue) > self._max_lag + len(self._ring):
            self._drop(subscriber)

    def _drop(self, subscriber: Subscriber) -> None:
        """End a subscriber that has fallen behind: it resumes from the table."""
        self.dropped += 1
        log.warning("slow_subscriber_dropped", lag=len(subscriber.queue))
        self.unsubscribe(subscriber)
        subscriber.end(at_once=True)

    def _end_all(self) -> None:
        for subscriber in tuple(self._subscribers):
            subscriber.end(at_once=False)


def event_frame(sequence: int | None, name: str, document: str) -> bytes:
    """Return an event as the stream sends it; without an id if it has no sequence."""
    return format_sse_event(id=None if sequence is None else str(sequence), event=name, data_str=document)


class StreamResponse(Response):
    """Streams events to one subscriber until it disconnects or is dropped.

    Args:
        stream: source of the events.
        stored: reads the stored events that the client has missed.
        last_id: id of the last event that the client has received before; None for a new client.
        organizations: the only organizations whose events are sent; None for all events.
        token: identifies the client's token; None for the admin token.
        is_allowed: returns whether the client's token is still accepted; the stream ends when it is not.
        alive: seconds of silence after which an `alive` event is sent; None for a comment after the stream's own.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        stream: EventStream,
        stored: StoredEvents,
        last_id: str | None,
        organizations: Collection[str] | None = None,
        *,
        token: bytes | None = None,
        is_allowed: Callable[[], bool] = lambda: True,
        alive: float | None = None,
    ) -> None:
        super().__init__(headers={"X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._stream = stream
        self._stored = stored
        self._last_id = last_id
        self._organizations = organizations
        self._token = token
        self._is_allowed = is_allowed
        self._silence = stream.keepalive if alive is None else alive
        self._sign = _KEEPALIVE_COMMENT if alive is None else event_frame(None, "alive", "{}")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one subscriber.

        Raises:
            StoreUnavailable: the event table cannot be read.
        """
        if scope["method"] == "HEAD":
            await super().__call__(scope, receive, send)
            return
        subscriber = self._stream.subscribe(self._organizations, self._token)
        subscriber.task = asyncio.current_task()
        watch = asyncio.create_task(_end_on_disconnect(receive, subscriber), name="event-stream-disconnect")
        try:
            backlog = await self._stored.backlog(self._last_id, self._stream.ring_size)
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await self._catch_up(subscriber, backlog, send)
            while not subscriber.ended and self._is_allowed():
                await self._send_queued(subscriber, send)
            await send({"type": "http.response.body", "body": b""})
        except asyncio.CancelledError:
            if not subscriber.ended:
                raise  # the server is stopping
        finally:
            watch.cancel()
            self._stream.unsubscribe(subscriber)

    async def _catch_up(self, subscriber: Subscriber, backlog: Backlog, send: Send) -> None:
        """Send the `connected` event and the stored events up to those in memory, and join the stream."""
        data = {
            "resumed": backlog.resumed,
            "missed": backlog.missed,
            "dropped": backlog.dropped,
            "readers": len(self._stream),
        }
        await _send_body(send, event_frame(backlog.after, "connected", json.dumps(data)))
        last = backlog.after
        while not subscriber.ended and self._is_allowed():
            page = await self._stored.after(last)
            if page.events:
                frames = (event_frame(each.sequence, each.name, each.document) for each in page.events)
                await _send_body(send, b"".join(frames))
            last = page.reached
            if page.is_last and self._stream.join(subscriber, last):
                return

    async def _send_queued(self, subscriber: Subscriber, send: Send) -> None:
        subscriber.wakeup.clear()
        if not subscriber.queue:
            try:
                await asyncio.wait_for(subscriber.wakeup.wait(), self._silence)
            except TimeoutError:
                await _send_body(send, self._sign)
            return
        chunk = [subscriber.queue.popleft() for _ in islice(range(len(subscriber.queue)), _CHUNK)]
        await _send_body(send, b"".join(chunk))
        if len(subscriber.queue) < _CHUNK:
            await asyncio.sleep(_APART)


async def _end_on_disconnect(receive: Receive, subscriber: Subscriber) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    subscriber.end(at_once=False)


async def _send_body(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})
