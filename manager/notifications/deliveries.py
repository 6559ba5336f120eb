"""Deliveries of one channel: the messages that wait, retries with backoff, and whether the channel fails."""

from collections import deque
from dataclasses import dataclass, replace
from math import inf

from manager.domain.notifications.message import Message
from manager.engine.notifications import ChannelCursor, Delivery, NotificationRow
from manager.notifications.channels.channel import ChannelError
from manager.notifications.stored_message import dump_message

FIRST_RETRY = 5.0
"""Seconds from the first failure to the next try; doubled each time up to `LONGEST_RETRY`."""

LONGEST_RETRY = 300.0
GIVEN_UP_AFTER = 86_400.0
"""Seconds after which a stored message is given up; the others are tried until their event is deleted."""

SET_ASIDE_AFTER = 3
"""The number of answered tries after which a message is set aside: it is stored, and later ones go before it.

Once one is set aside, the next ones are after one such try.
"""

MOST_ASIDE = 100
"""The maximum of messages that are set aside at once; beyond it the first is tried until it is done."""

NEXT_AFTER = 1.0
"""Seconds from the failure of a message that is set aside to the try of another one."""

FAILURES_TOLD = 3
"""The number of failures in a row from which a channel counts as failing."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to deliver.

    Attributes:
        message: The message.
        sequence: The sequence up to which the channel has taken all events once the message is delivered.
        row: The stored message; None for one that is made of its event again after a restart.
        attempts: The number of failed tries.
        next_at: When it is tried again, in seconds since 1970, if it is set aside.
    """

    message: Message
    sequence: int
    row: NotificationRow | None = None
    attempts: int = 0
    next_at: float = 0.0


@dataclass(slots=True)
class Outcome:
    """The result of one try: the rows to store, and the further course of the message.

    Attributes:
        cursor: The channel's position after it.
        rows: The messages to store, the one that was tried first.
        is_done: Whether the message is delivered or given up.
        is_delivered: Whether it is delivered.
        retry_at: When the channel tries a message again, in seconds since 1970.
        next_at: When the message itself is tried again if it is set aside; None if it keeps its place.
        dropped: A message set aside that is given up to make room.
    """

    cursor: ChannelCursor
    rows: tuple[NotificationRow, ...]
    is_done: bool
    is_delivered: bool = False
    retry_at: float = 0.0
    next_at: float | None = None
    dropped: Outgoing | None = None


def new_row(channel: str, message: Message, now: float) -> NotificationRow:
    """Return the row of a message that is to be delivered now."""
    content = dump_message(message)
    return NotificationRow(channel, message.id, message.group, Delivery.PENDING, 0, now, now, None, None, content)


def delivered(cursor: ChannelCursor, outgoing: Outgoing, now: float) -> Outcome:
    """Return what is to be stored after a delivery."""
    moved = cursor._replace(sequence=max(cursor.sequence, outgoing.sequence), sent=cursor.sent + 1, last_sent_at=now)
    row = outgoing.row
    rows = () if row is None else (row._replace(state=Delivery.SENT, sent_at=now, reason=None),)
    return Outcome(moved, rows, is_done=True, is_delivered=True)


def failed(
    cursor: ChannelCursor, outgoing: Outgoing, error: ChannelError, now: float, queue: "DeliveryQueue"
) -> Outcome:
    """Return what is to be stored after a failed try: the next try, a place behind others, or the message's end."""
    attempts = outgoing.attempts + 1
    row, is_stored = outgoing.row, outgoing.row is not None
    if row is None:
        row = new_row(cursor.channel, outgoing.message, now)
    row = row._replace(attempts=attempts, reason=error.reason)
    gives_up = is_stored and now - row.created_at > GIVEN_UP_AFTER
    if not error.retry or gives_up:
        state = Delivery.GIVEN_UP if error.retry else Delivery.FAILED
        moved = cursor._replace(sequence=max(cursor.sequence, outgoing.sequence), given_up=cursor.given_up + 1)
        return Outcome(moved, (row._replace(state=state),), is_done=True)
    retry_at = now + min(LONGEST_RETRY, FIRST_RETRY * 2 ** min(attempts - 1, 16))
    row = row._replace(next_at=retry_at)
    if error.answered and queue.sets_aside(outgoing):
        moved = cursor._replace(sequence=max(cursor.sequence, outgoing.sequence))
        rows: tuple[NotificationRow, ...] = (row,)
        dropped = None
        if queue.is_full and not queue.is_aside(outgoing) and (dropped := queue.replaceable()) and dropped.row:
            moved = moved._replace(given_up=moved.given_up + 1)
            rows += (dropped.row._replace(state=Delivery.GIVEN_UP),)
        return Outcome(moved, rows, is_done=False, retry_at=now + NEXT_AFTER, next_at=retry_at, dropped=dropped)
    return Outcome(cursor, (row,) if is_stored else (), is_done=False, retry_at=retry_at)


class DeliveryQueue:
    """The messages of one channel in their order; the first is tried until it is done or set aside.

    A receiver that answers may refuse one message and take the others. So what fails again and again with an answer is
    set aside, and tried at its own times, in turn with the others.
    """

    def __init__(self) -> None:
        self._waiting: deque[Outgoing] = deque()
        self._aside: list[Outgoing] = []
        self._is_turn_of_aside = False
        self._outlived = 0  # number of messages set aside, the oldest ones, that were so when another was delivered
        self.retry_at = 0.0

    def __len__(self) -> int:
        """Return the number of messages that wait, those set aside included."""
        return len(self._waiting) + len(self._aside)

    @property
    def due(self) -> float:
        """When the next message that is set aside is tried again; infinity for none."""
        return min((each.next_at for each in self._aside), default=inf)

    @property
    def is_full(self) -> bool:
        """Whether the maximum of messages is set aside."""
        return len(self._aside) >= MOST_ASIDE

    def add(self, outgoing: Outgoing) -> None:
        """Add a message behind the others."""
        self._waiting.append(outgoing)

    def first(self, now: float) -> Outgoing | None:
        """Return the message that is to be tried next."""
        if self._is_turn_of_aside or not self._waiting:
            due = next((each for each in self._aside if each.next_at <= now), None)
            if due is not None:
                return due
        return self._waiting[0] if self._waiting else None

    def is_aside(self, outgoing: Outgoing) -> bool:
        """Return whether a message is set aside."""
        return any(each is outgoing for each in self._aside)

    def sets_aside(self, outgoing: Outgoing) -> bool:
        """Return whether a message that fails with an answer goes, or stays, behind the others."""
        if self.is_aside(outgoing):
            return True
        if self.is_full and self.replaceable() is None:
            return False
        return bool(self._aside) or outgoing.attempts + 1 >= SET_ASIDE_AFTER

    def replaceable(self) -> Outgoing | None:
        """Return the oldest message that failed again and again while the receiver took others; None for none."""
        return next((each for each in self._aside[: self._outlived] if each.attempts >= SET_ASIDE_AFTER), None)

    def forget_unstored(self) -> None:
        """Remove the messages that are made of their events again."""
        self._waiting = deque(each for each in self._waiting if each.row is not None)
        self.retry_at = 0.0

    def settle(self, outgoing: Outgoing, outcome: Outcome) -> None:
        """Remove a message that was tried if it is done, or count its failure."""
        was_aside = self.is_aside(outgoing)
        self._is_turn_of_aside = not was_aside
        self.retry_at = outcome.retry_at
        row = outcome.rows[0] if outcome.rows else None
        kept = replace(outgoing, row=row, attempts=outgoing.attempts + 1, next_at=outcome.next_at or outcome.retry_at)
        if outcome.dropped is not None:
            self._leave(outcome.dropped)
        if was_aside and not outcome.is_done:
            self._aside = [kept if each is outgoing else each for each in self._aside]
        elif was_aside:
            self._leave(outgoing)
        else:
            self._waiting.popleft()
            if outcome.next_at is not None:
                self._aside.append(kept)
            elif not outcome.is_done:
                self._waiting.appendleft(kept)
        if outcome.is_delivered:
            self._outlived = len(self._aside)

    def _leave(self, outgoing: Outgoing) -> None:
        """Remove a message that is set aside."""
        index = next(index for index, each in enumerate(self._aside) if each is outgoing)
        del self._aside[index]
        if index < self._outlived:
            self._outlived -= 1
