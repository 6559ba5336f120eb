"""Fleet events for HTTP clients: a ring buffer of the newest events, and a separate queue for each subscriber.

The engine publishes from its own thread and never waits; everything else runs in the server's event loop.
"""

import asyncio
import json
import secrets
from collections import deque
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from itertools import islice
from typing import Any, NamedTuple

import structlog
from fastapi.sse import format_sse_event
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from schemas.fleet import FleetEvent

log = structlog.get_logger(__name__)

KEEPALIVE = 30.0
"""Seconds of silence after which a subscriber is sent a comment, so that proxies keep the connection."""

_RING_SIZE = 1000
_MAX_LAG = 500
_MAX_SUBSCRIBERS = 1000
_LONGEST_NUMBER = 20
_CHUNK = 100
_KEEPALIVE_COMMENT = format_sse_event(comment="keepalive")


class Subscriber:
    """One client of the stream with its unsent events.

    Args:
        organizations: the only organizations whose events it is sent; None for all events.
    """

    def __init__(self, organizations: Collection[str] | None = None) -> None:
        self._organizations = organizations
        self.queue: deque[bytes] = deque()
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
    """A numbered event as it is sent."""

    number: int
    organization_id: str | None
    frame: bytes


class EventStream:
    """Numbers fleet events, keeps the newest, and passes them to the subscribers.

    Args:
        ring_size: number of events that are kept for resuming subscribers.
        max_lag: number of unsent events after which a subscriber is dropped.
        max_subscribers: number of subscribers at once.
        keepalive: seconds of silence after which a subscriber is sent a comment.
    """

    def __init__(
        self,
        ring_size: int = _RING_SIZE,
        max_lag: int = _MAX_LAG,
        max_subscribers: int = _MAX_SUBSCRIBERS,
        keepalive: float = KEEPALIVE,
    ) -> None:
        self.keepalive = keepalive
        self._ring: deque[_Entry] = deque(maxlen=ring_size)
        self._max_lag = max_lag
        self._max_subscribers = max_subscribers
        self._run = secrets.token_hex(4)
        self._number = 0
        self._incoming: deque[FleetEvent] = deque(maxlen=ring_size)
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

    def publish(self, event: FleetEvent) -> None:
        """Queue an event; called in the engine's thread. Each burst costs one call into the loop."""
        self._incoming.append(event)
        loop = self._loop
        if loop is not None and not self._drain_scheduled:
            self._drain_scheduled = True
            with suppress(RuntimeError):  # the loop is closed: there are no subscribers
                loop.call_soon_threadsafe(self._drain)

    def subscribe(self, last_id: str | None, organizations: Collection[str] | None = None) -> Subscriber:
        """Return a new subscriber; with `last_id` its queue begins with the kept events after that one.

        Only events of `organizations` are sent; None for all.
        """
        subscriber = Subscriber(organizations)
        missed = self._since(last_id, subscriber)
        data = {"resumed": last_id is not None, "missed": len(missed), "readers": len(self._subscribers) + 1}
        subscriber.queue.append(self._frame(self._number - len(missed), "connected", json.dumps(data)))
        subscriber.queue.extend(missed)
        subscriber.wakeup.set()
        self._subscribers.add(subscriber)
        return subscriber

    def unsubscribe(self, subscriber: Subscriber) -> None:
        """Remove a subscriber."""
        self._subscribers.discard(subscriber)

    def _since(self, last_id: str | None, subscriber: Subscriber) -> list[bytes]:
        if last_id is None:
            return []
        run, _, number = last_id.partition("-")
        is_ours = run == self._run and number.isdecimal() and len(number) < _LONGEST_NUMBER
        seen = int(number) if is_ours else 0
        return [each.frame for each in self._ring if each.number > seen and subscriber.may_see(each.organization_id)]

    def _drain(self) -> None:
        self._drain_scheduled = False  # before the deque is read: a later append schedules again
        entries: list[_Entry] = []
        while self._incoming:
            event = self._incoming.popleft()
            self._number += 1
            frame = self._frame(self._number, event.event, event.body().decode())
            entry = _Entry(self._number, event.organization_id, frame)
            self._ring.append(entry)
            entries.append(entry)
        for subscriber in tuple(self._subscribers):
            self._send(subscriber, [each.frame for each in entries if subscriber.may_see(each.organization_id)])

    def _send(self, subscriber: Subscriber, frames: Iterable[bytes]) -> None:
        subscriber.queue.extend(frames)
        subscriber.wakeup.set()
        if len(subscriber.queue) > self._max_lag + len(self._ring):
            self.dropped += 1
            log.warning("slow_subscriber_dropped", lag=len(subscriber.queue))
            self.unsubscribe(subscriber)
            subscriber.end(at_once=True)

    def _end_all(self) -> None:
        for subscriber in tuple(self._subscribers):
            subscriber.end(at_once=False)

    def _frame(self, number: int, name: str, data: str) -> bytes:
        return format_sse_event(id=f"{self._run}-{number}", event=name, data_str=data)


class StreamResponse(Response):
    """Streams events to one subscriber until it disconnects or is dropped.

    Args:
        stream: source of the events.
        last_id: id of the last event that the client has received before; None for a new client.
        organizations: the only organizations whose events are sent; None for all events.
        is_allowed: returns whether the client's token is still accepted; the stream ends when it is not.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        stream: EventStream,
        last_id: str | None,
        organizations: Collection[str] | None = None,
        is_allowed: Callable[[], bool] = lambda: True,
    ) -> None:
        super().__init__(headers={"X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._stream = stream
        self._last_id = last_id
        self._organizations = organizations
        self._is_allowed = is_allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one subscriber."""
        if scope["method"] == "HEAD":
            await super().__call__(scope, receive, send)
            return
        subscriber = self._stream.subscribe(self._last_id, self._organizations)
        subscriber.task = asyncio.current_task()
        watch = asyncio.create_task(_end_on_disconnect(receive, subscriber), name="event-stream-disconnect")
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            while not subscriber.ended and self._is_allowed():
                await self._send_queued(subscriber, send)
            await send({"type": "http.response.body", "body": b""})
        except asyncio.CancelledError:
            if not subscriber.ended:
                raise  # the server is stopping
        finally:
            watch.cancel()
            self._stream.unsubscribe(subscriber)

    async def _send_queued(self, subscriber: Subscriber, send: Send) -> None:
        subscriber.wakeup.clear()
        if not subscriber.queue:
            try:
                await asyncio.wait_for(subscriber.wakeup.wait(), self._stream.keepalive)
            except TimeoutError:
                await send({"type": "http.response.body", "body": _KEEPALIVE_COMMENT, "more_body": True})
            return
        chunk = [subscriber.queue.popleft() for _ in islice(range(len(subscriber.queue)), _CHUNK)]
        await send({"type": "http.response.body", "body": b"".join(chunk), "more_body": True})


async def _end_on_disconnect(receive: Receive, subscriber: Subscriber) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    subscriber.end(at_once=False)
