"""Deliveries of one channel: the messages that wait, retries with backoff, and whether the channel fails."""

from collections import deque
from dataclasses import dataclass, replace

from manager.domain.notifications.message import Message
from manager.engine.notifications import ChannelCursor, Delivery, NotificationRow
from manager.notifications.channels.channel import ChannelError
from manager.notifications.stored_message import dump_message

FIRST_RETRY = 5.0
"""Seconds from the first failure to the next try; doubled each time up to `LONGEST_RETRY`."""

LONGEST_RETRY = 300.0
GIVEN_UP_AFTER = 86_400.0
"""Seconds after which a message to people is given up; messages to machines are tried until their event is deleted."""

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
    """

    message: Message
    sequence: int
    row: NotificationRow | None = None
    attempts: int = 0


@dataclass(slots=True)
class Outcome:
    """What is to be stored after a try, and whether the message is done."""

    cursor: ChannelCursor
    rows: tuple[NotificationRow, ...]
    is_done: bool
    retry_at: float = 0.0


def new_row(channel: str, message: Message, now: float) -> NotificationRow:
    """Return the row of a message that is to be delivered now."""
    content = dump_message(message)
    return NotificationRow(channel, message.id, message.group, Delivery.PENDING, 0, now, now, None, None, content)


def delivered(cursor: ChannelCursor, outgoing: Outgoing, now: float) -> Outcome:
    """Return what is to be stored after a delivery."""
    moved = cursor._replace(sequence=max(cursor.sequence, outgoing.sequence), sent=cursor.sent + 1, last_sent_at=now)
    row = outgoing.row
    rows = () if row is None else (row._replace(state=Delivery.SENT, sent_at=now, reason=None),)
    return Outcome(moved, rows, is_done=True)


def failed(cursor: ChannelCursor, outgoing: Outgoing, error: ChannelError, now: float) -> Outcome:
    """Return what is to be stored after a failed try: the next try, or the end of the message."""
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
    return Outcome(cursor, (row._replace(next_at=retry_at),) if is_stored else (), is_done=False, retry_at=retry_at)


class DeliveryQueue:
    """The messages of one channel in their order; the first is tried until it is done."""

    def __init__(self) -> None:
        self._waiting: deque[Outgoing] = deque()
        self.retry_at = 0.0

    def __len__(self) -> int:
        """Return the number of waiting messages."""
        return len(self._waiting)

    def add(self, outgoing: Outgoing) -> None:
        """Add a message behind the others."""
        self._waiting.append(outgoing)

    def first(self) -> Outgoing | None:
        """Return the message that is to be tried next."""
        return self._waiting[0] if self._waiting else None

    def settle(self, outcome: Outcome) -> None:
        """Remove the first message if it is done, or count its failure."""
        outgoing = self._waiting.popleft()
        self.retry_at = outcome.retry_at
        if not outcome.is_done:
            row = outcome.rows[0] if outcome.rows else None
            self._waiting.appendleft(replace(outgoing, row=row, attempts=outgoing.attempts + 1))
