"""Stores channels' cursors and messages in the writer's transaction, and the mutes, and bounds their number."""

from manager.engine.batch import Changes
from manager.engine.notifications import MuteNotifications
from manager.storage.statements import Statements

MESSAGES_KEPT = 1_000
"""The number of delivered and failed messages of each channel that are kept; the oldest goes first."""


MUTES_KEPT = 200
"""The number of mutes that are kept, as the judgement keeps them; the oldest goes first."""


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
        for mute, at in changes.mutes:
            self._write_mute(mute, at)

    def _write_mute(self, wanted: MuteNotifications, at: float) -> None:
        scope = {"organization": wanted.organization_id, "site": wanted.site, "agent": wanted.agent_id}
        row = {**scope, "topic": wanted.topic, "at": at}
        self._statements.execute("notifications.delete_mute", row)
        if wanted.until is not None:
            stated = {"author": wanted.author, "reason": wanted.reason, "until": wanted.until}
            self._statements.execute("notifications.insert_mute", row | stated)
            self._statements.execute("notifications.bound_mutes", (MUTES_KEPT,))
