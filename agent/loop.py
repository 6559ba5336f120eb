"""The guard's main loop: link events, deadlines of the parts, and the request to stop."""

import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator

from agent.clock import Clock
from agent.connection.reconnect_loop import Connector
from agent.guard import Guard
from agent.link.link import Delivered, Event, Link
from agent.logs import EventLog
from agent.service_manager import Watchdog, notify

_log = EventLog("loop")

# Seconds within which the loop notices a stop that a signal handler requested.
_LONGEST_SLEEP = 0.25
_FAREWELL = 2.0
_AFTER_A_FAILURE = 1.0
_CAPACITY = 256
_AT_ONCE = 100
_POST_PATIENCE = 0.5


class LinkEventQueue:
    """Bounded queue of link events between the links' threads and the loop; a full queue blocks the link.

    `Delivered` needs no room: paho calls back with the lock that its `publish` takes, so a link that waited there would
    block the loop, which alone makes room. There are as many of them as messages in flight.
    """

    def __init__(self) -> None:
        self._events: queue.SimpleQueue[tuple[Link, Event]] = queue.SimpleQueue()
        self._room = threading.Semaphore(_CAPACITY)

    def post(self, link: Link, event: Event) -> None:
        """Add an event to the queue; wait up to 0.5 s for room, for `Delivered` not at all.

        Raises:
            queue.Full: there was no room; try again.
        """
        if not isinstance(event, Delivered) and not self._room.acquire(timeout=_POST_PATIENCE):
            raise queue.Full
        self._events.put((link, event))

    def take(self, patience: float) -> Iterator[tuple[Link, Event]]:
        """Yield the queued events; wait at most `patience` seconds for the first one."""
        try:
            yield self._next(patience)
            for _ in range(_AT_ONCE):
                yield self._next(0.0)
        except queue.Empty:
            return

    def _next(self, patience: float) -> tuple[Link, Event]:
        link, event = self._events.get(block=patience > 0, timeout=patience or None)
        if not isinstance(event, Delivered):
            self._room.release()
        return link, event


class Loop:
    """Runs a guard in the calling thread.

    Args:
        guard: The guard.
        connection: The guard's connector.
        mailbox: The queue of link events.
        clock: The host's clocks.
        report: Updates the status file; called in every round.
    """

    def __init__(
        self, guard: Guard, connection: Connector, mailbox: LinkEventQueue, clock: Clock, report: Callable[[], None]
    ) -> None:
        self._guard = guard
        self._connection = connection
        self._mailbox = mailbox
        self._clock = clock
        self._report = report
        self._not_before = 0.0
        self._watchdog = Watchdog()

    def run(self, stopping: Callable[[], bool]) -> None:
        """Run until `stopping` returns True.

        Raises:
            EnrollmentError: the manager rejected the guard permanently.
        """
        notify("READY=1")
        while not stopping():
            now = self._clock.monotonic()
            self._watchdog.alive(now)
            try:
                self._connection.tick(now)
                if now >= self._not_before:
                    self._guard.tick(now)
                self._report()
                due = min(max(self._guard.due, self._not_before), self._connection.due)
                wait = min(max(due - self._clock.monotonic(), 0.0), _LONGEST_SLEEP)
                for link, event in self._mailbox.take(wait):
                    self._connection.handle(link, event, self._clock.monotonic())
                    if stopping():  # whoever sends much may make each event expensive
                        break
            except sqlite3.Error as error:
                self._guard.make_room(error)
                _log.exception("storage_failed", advice="see that the disk of the data directory is not full")
                self._not_before = now + _AFTER_A_FAILURE

    def sign_off(self) -> None:
        """Publish `offline`, wait at most 2 s for its acknowledgement, and disconnect without a last will."""
        notify("STOPPING=1")
        said = self._connection.sign_off()
        deadline = self._clock.monotonic() + _FAREWELL
        while said is not None and self._clock.monotonic() < deadline:
            for link, event in self._mailbox.take(_LONGEST_SLEEP):
                if link is said[0] and event == Delivered(said[1]):
                    said = None
                    break
        self._connection.close()
