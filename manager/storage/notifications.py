"""Stores channels' cursors and messages in the writer's transaction, and bounds the number of messages."""

from manager.engine.batch import Changes
from manager.storage.statements import Statements

MESSAGES_KEPT = 1_000
"""The number of delivered and failed messages of each channel that are kept; the oldest goes first."""


class StoredNotifications:
    """Writes the notification tables.

    Args:
        statements: those of the writer's database.
    """

    def __init__(self, statements: Statements) -> None:
        self._statements = statements

    def write(self, changes: Changes) -> None:
        """Write cursors, messages and pauses; a channel is paused after its first cursor was written."""
        write = self._statements.execute_many
        if changes.notifications:
            write("notifications.upsert_cursor", [each.cursor for each in changes.notifications])
            rows = [row for each in changes.notifications for row in each.rows]
            if rows:
                write("notifications.upsert_message", rows)
                channels = {row.channel for row in rows}
                write("notifications.bound_messages", [(each, each, MESSAGES_KEPT) for each in channels])
        if changes.notifications_paused:
            rows_paused = [(until, channel) for channel, until in changes.notifications_paused.items()]
            write("notifications.pause", rows_paused)
