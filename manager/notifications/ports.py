"""Ports of the notifier: the stored events, cursors and messages that it reads."""

from typing import Protocol

from manager.engine.notifications import NotificationRow, StoredCursor, ToldEvent


class NotificationQueries(Protocol):
    """Read-only queries; each thread may call them.

    Raises:
        StoreUnavailable: by any query, if the store cannot be read.
    """

    def event_bounds(self) -> tuple[int, int]:
        """Return the lowest and the highest sequence of the stored events; (1, 0) where there is none."""
        ...

    def events_to_tell(self, *, after: int, limit: int) -> list[ToldEvent]:
        """Return the first events after a sequence."""
        ...

    def untold_events(self, *, after: int, last: int) -> list[ToldEvent]:
        """Return the events on an intrusion after a sequence, up to the last one of a gap among the stored events."""
        ...

    def notification_cursors(self) -> dict[str, StoredCursor]:
        """Return the stored cursors by channel."""
        ...

    def pending_notifications(self, channel: str) -> list[NotificationRow]:
        """Return the messages of a channel that are not delivered, in the order in which they were made."""
        ...
