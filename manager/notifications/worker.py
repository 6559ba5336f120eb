"""Worker of one channel: its own thread takes events behind its cursor, and delivers messages one after another."""

import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import structlog

from manager.domain.notifications.event import Event
from manager.domain.notifications.message import Message
from manager.engine.notifications import ChannelCursor, NotificationRow, RecordNotifications, SendTest, TellChannelState
from manager.errors import ManagerError, StoreUnavailable
from manager.notifications import deliveries
from manager.notifications.channels.channel import Channel, ChannelError
from manager.notifications.deliveries import DeliveryQueue, Outcome, Outgoing
from manager.notifications.engine_commands import EngineCommands, StoppedError
from manager.notifications.ports import NotificationQueries
from manager.notifications.selection import Selected, Selection
from manager.notifications.stored_message import load_message
from manager.notifications.told_events import chosen_event, dropped_message
from manager.notifications.watchdog import Watchdog
from schemas.threats import Severity

log = structlog.get_logger(__name__)

_PAGE = 200
_IDLE = 5.0
"""The maximum wait for an event in seconds; an event wakes the worker at once."""

_SHORTEST = 0.5
"""The minimum wait for what is due by time, in seconds."""

_SAVE_EVERY = 60.0
"""Seconds between two writings of a cursor that moved without a message."""

_MOST_URGENT = 4
_URGENT_AGAIN = 60.0
"""Seconds between two tries of an urgent message."""

_REPAIR = 5.0
"""Seconds to wait after an unexpected error."""


@dataclass(slots=True)
class Health:
    """Whether a channel delivers; read by other threads.

    Attributes:
        failures: The number of failures in a row.
        failing_since: When the first of them was, in seconds since 1970; None if the last try succeeded.
        reason: The reason of the last one.
        told: Whether the others were told that it fails.
    """

    failures: int = 0
    failing_since: float | None = None
    reason: str | None = None
    told: bool = False


class ChannelWorker(threading.Thread):
    """Delivers to one channel; a channel that hangs delays nothing but itself.

    Args:
        channel_name: the channel's name.
        channel: delivers messages.
        selection: returns the selection with a stored state, None for a new channel.
        queries: reads the store.
        engine: writes the store.
        clock: seconds since 1970.
        hand_over: gives a stored message to another channel.
        watchdog: is called after test events that were delivered; None for none.
    """

    def __init__(
        self,
        channel_name: str,
        channel: Channel,
        *,
        selection: Callable[[str | None], Selection],
        queries: NotificationQueries,
        engine: EngineCommands,
        clock: Callable[[], float],
        hand_over: Callable[[str, NotificationRow], None],
        watchdog: Watchdog | None = None,
    ) -> None:
        super().__init__(name=f"notify-{channel_name}", daemon=True)
        self.channel_name = channel_name
        self.health = Health()
        self.tests: dict[str, str | None] = {}
        """The reason why a test was not delivered, None for a delivered one, by the test's id."""
        self.paused_until: float | None = None
        self._channel = channel
        self._make_selection = selection
        self._queries = queries
        self._engine = engine
        self._clock = clock
        self._hand_over = hand_over
        self._watchdog = watchdog
        self._wake = threading.Event()
        self._stopping = False
        self._queue = DeliveryQueue()
        self._handed: deque[NotificationRow] = deque()
        self._read: set[str] = set()
        """The ids of the stored messages that a start has read: they may be handed over as well, then or later."""
        self._urgent: deque[Message] = deque(maxlen=_MOST_URGENT)
        self._urgent_at = 0.0
        self._cursor: ChannelCursor | None = None
        self._selection: Selection | None = None
        self._saved = 0.0
        self._moved = False  # whether the cursor moved since it was stored
        self._testing: dict[str, str] = {}

    @property
    def cursor(self) -> ChannelCursor | None:
        """The channel's position; None until it was read."""
        return self._cursor

    @property
    def waiting(self) -> int:
        """The number of messages that wait for delivery."""
        return len(self._queue) + len(self._handed)

    def wake(self) -> None:
        """Make it look for events now; safe from any thread."""
        if not self._wake.is_set():
            self._wake.set()

    def pause(self, until: float | None) -> None:
        """Deliver nothing until a time; None continues. Safe from any thread."""
        self.paused_until = until
        self.wake()

    def add(self, row: NotificationRow) -> None:
        """Deliver a stored message of another channel's judgement; safe from any thread."""
        self._handed.append(row)
        self.wake()

    def add_urgent(self, message: Message) -> None:
        """Deliver a message past the event table and the store, which cannot commit; safe from any thread."""
        self._urgent.append(message)
        self.wake()

    def stop(self) -> None:
        """End after the current try; safe from any thread."""
        self._stopping = True
        self.wake()

    def run(self) -> None:
        """Work until `stop`."""
        while not self._stopping:
            try:
                wait = self._step()
            except StoppedError:
                break
            except StoreUnavailable as error:
                log.warning("notifier_waits_for_store", channel=self.channel_name, reason=str(error))
                wait = self._reset()
            except Exception:
                log.exception("notifier_failed", channel=self.channel_name)
                wait = self._reset()
            if wait > 0:
                self._wake.wait(wait)
            self._wake.clear()
        if self._moved:
            with suppress(ManagerError):
                self._save(self._clock())
        self._channel.close()

    def _step(self) -> float:
        """Do the next piece of work; return the seconds to wait for the one after it."""
        self._deliver_urgent()
        now = self._clock()
        if self._cursor is None:
            self._start_at(now)
        if self.paused_until is not None:
            if now < self.paused_until:
                return min(_IDLE, self.paused_until - now)
            self.paused_until = None
        while self._handed:
            row = self._handed.popleft()
            if row.message_id not in self._read:
                self._queue_stored(row)
        outgoing = self._queue.first(now)
        if outgoing is None:
            if self._watchdog is not None and self._watchdog.is_due(now):
                self._run(SendTest(self.channel_name, self._watchdog.begin(now)))
            return min(self._take_events(now), max(0.0, self._queue.due - now))
        if now < self._queue.retry_at:
            return min(_IDLE, self._queue.retry_at - now)
        if outgoing.attempts and self._is_deleted(outgoing):
            self._queue.forget_unstored()
        else:
            self._deliver(outgoing)
        return 0.0

    def _is_deleted(self, outgoing: Outgoing) -> bool:
        """Return whether a message's event is not kept any more: what is left is taken again, and the rest counted."""
        cursor, _ = self._state()
        if outgoing.row is not None or outgoing.sequence <= cursor.sequence:
            return False
        return outgoing.sequence < self._queries.event_bounds()[0]

    def _reset(self) -> float:
        """Begin again from the stored state, because the one in memory is in doubt; return the seconds to wait."""
        self._cursor = self._selection = None
        self._queue = DeliveryQueue()
        return _REPAIR

    def _start_at(self, now: float) -> None:
        """Read the cursor and the messages that wait; a new channel begins with the events from now on."""
        stored = self._queries.notification_cursors().get(self.channel_name)
        _, highest = self._queries.event_bounds()
        cursor = ChannelCursor(self.channel_name, highest) if stored is None else stored.cursor
        if stored is not None:
            self.paused_until = stored.paused_until
        for row in self._queries.pending_notifications(self.channel_name):
            self._read.add(row.message_id)
            self._queue_stored(row)
        self._selection = self._make_selection(cursor.judgement)
        self._cursor = cursor._replace(sequence=min(cursor.sequence, highest))  # a store restored from an older copy
        if stored is None:
            self._save(now)

    def _take_events(self, now: float) -> float:
        """Take the next events; return the seconds to wait."""
        cursor, selection = self._state()
        rows = self._queries.events_to_tell(after=cursor.sequence, limit=_PAGE)
        if rows and rows[0].sequence > cursor.sequence + 1:
            self._take_gap(rows[0].sequence - 1, now)
            return 0.0
        selected: list[Selected] = []
        for row in rows:
            chosen = chosen_event(row)
            found = selection.take(chosen, now)
            self._note_test(chosen.event, found)
            selected += found
        reached = rows[-1].sequence if rows else cursor.sequence
        if len(rows) < _PAGE:
            selected += selection.tick(reached, now)
        if not selected:
            self._cursor = cursor._replace(sequence=reached)
        elif selection.is_judged:
            self._store(selected, cursor._replace(sequence=reached, judgement=selection.state()), now)
        else:
            for each in selected:
                self._queue.add(Outgoing(each.message, each.sequence))
        if not selected:
            self._moved = self._moved or cursor.sequence != reached
            if self._moved and now - self._saved > _SAVE_EVERY:
                self._save(now)
        if selected or len(rows) == _PAGE:
            return 0.0
        return max(_SHORTEST, min(_IDLE, selection.due - now))

    def _store(self, selected: list[Selected], cursor: ChannelCursor, now: float) -> None:
        """Store the messages of a judgement together with its state, and queue them."""
        rows = tuple(deliveries.new_row(each.second or self.channel_name, each.message, now) for each in selected)
        self._run(RecordNotifications(cursor, rows))
        self._cursor, self._saved, self._moved = cursor, now, False
        for each, row in zip(selected, rows, strict=True):
            if each.second is None:
                self._queue_stored(row)
            else:
                self._hand_over(each.second, row)

    def _queue_stored(self, row: NotificationRow) -> None:
        """Queue a stored message; a damaged one is left where it is."""
        try:
            self._queue.add(Outgoing(load_message(row.content), 0, row, row.attempts))
        except ValueError:
            log.error("notification_unreadable", channel=self.channel_name, id=row.message_id)  # noqa: TRY400 -- any text

    def _deliver(self, outgoing: Outgoing) -> None:
        cursor, _ = self._state()
        test_id = self._testing.get(outgoing.message.id)
        error = self._try(outgoing.message)
        if error is not None:
            self._record(outgoing, deliveries.failed(cursor, outgoing, error, self._clock(), self._queue))
            self._note_failure(error.reason)
            if test_id is not None:
                self.tests[test_id] = error.reason
            return
        self._record(outgoing, deliveries.delivered(cursor, outgoing, self._clock()))
        self._note_success()
        if test_id is not None:
            del self._testing[outgoing.message.id]
            self.tests[test_id] = None
            if self._watchdog is not None:
                self._watchdog.delivered(test_id)

    def _run(self, request: Any) -> None:
        """Let the engine carry out a command; while the store cannot commit, urgent messages are delivered."""
        self._engine.run(request, self._deliver_urgent)

    def _deliver_urgent(self) -> None:
        """Try the first urgent message, which nothing records."""
        if self._urgent and self._clock() >= self._urgent_at:
            self._urgent_at = self._clock() + _URGENT_AGAIN
            if self._try(self._urgent[0]) is None:
                self._urgent.popleft()
                self._urgent_at = 0.0

    def _try(self, message: Message) -> ChannelError | None:
        """Deliver a message; return the error, None if it was delivered."""
        try:
            self._channel.deliver(message)
        except ChannelError as error:
            return error
        except Exception as error:
            log.exception("channel_broken", channel=self.channel_name)
            return ChannelError(f"the channel failed on it ({type(error).__name__})", retry=True)
        return None

    def _record(self, outgoing: Outgoing, outcome: Outcome) -> None:
        """Store the outcome of a try before the next one; what the store rejects is not delivered again in this run."""
        self._cursor = outcome.cursor
        self._queue.settle(outgoing, outcome)
        if outcome.is_done or outcome.rows:
            try:
                self._save(self._clock(), outcome.rows)
            except StoppedError:
                raise
            except ManagerError as error:
                self._moved = True
                log.warning("notification_not_recorded", channel=self.channel_name, reason=str(error))

    def _save(self, now: float, rows: tuple[NotificationRow, ...] = ()) -> None:
        """Store messages and the cursor, with the state that the events up to the cursor have led to."""
        cursor, selection = self._state()
        self._cursor = cursor._replace(judgement=selection.state())
        self._run(RecordNotifications(self._cursor, rows))
        self._saved, self._moved = now, False

    def _take_gap(self, last: int, now: float) -> None:
        """Pass the events up to a sequence, which were deleted: count them, and take those on an intrusion."""
        cursor, selection = self._state()
        kept = self._queries.untold_events(after=cursor.sequence, last=last)
        count = last - cursor.sequence - len(kept)
        selected: list[Selected] = []
        if count:
            data = {"channel": self.channel_name, "count": count}
            event = Event(last, now, "events_dropped", Severity.HIGH, data=data)
            log.warning("events_not_told", channel=self.channel_name, count=count)
            message = dropped_message(event, cursor.sequence, for_machines=not selection.is_judged)
            selected.append(Selected(message, last))
        for row in kept:
            selected += selection.take(chosen_event(row), now)
        passed = cursor._replace(sequence=last, not_told=cursor.not_told + count, judgement=selection.state())
        self._store(selected, passed, now)

    def _note_test(self, event: Event, found: list[Selected]) -> None:
        if event.name == "notification_test" and found:
            while len(self._testing) + len(self.tests) > _PAGE:
                (self._testing or self.tests).pop(next(iter(self._testing or self.tests)))
            self._testing[found[0].message.id] = str(event.data.get("testId"))

    def _note_failure(self, reason: str) -> None:
        health = self.health
        health.failures += 1
        health.reason = reason
        health.failing_since = health.failing_since or self._clock()
        log.warning("notification_failed", channel=self.channel_name, reason=reason, failures=health.failures)
        if health.failures >= deliveries.FAILURES_TOLD and not health.told:
            health.told = True
            self._tell_state(reason)

    def _note_success(self) -> None:
        told = self.health.told
        self.health = Health()
        if told:
            self._tell_state(None)

    def _tell_state(self, reason: str | None) -> None:
        """Let the other channels be told."""
        try:
            self._run(TellChannelState(self.channel_name, reason))
        except StoppedError:
            raise
        except ManagerError as error:
            log.warning("channel_state_not_told", channel=self.channel_name, reason=str(error))

    def _state(self) -> tuple[ChannelCursor, Selection]:
        if self._cursor is None or self._selection is None:
            raise RuntimeError("the worker has not started")
        return self._cursor, self._selection
