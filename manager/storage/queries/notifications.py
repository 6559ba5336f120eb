"""Channels' cursors and messages, the events that they have not taken, and mutes."""

import json
from collections.abc import Collection
from hashlib import sha256
from typing import Any

from manager.engine.notifications import ChannelCursor, Delivery, NotificationRow, StoredCursor, ToldEvent
from manager.storage.queries.reader import Page, Reader, Record, json_list, moment
from manager.storage.tables import NotificationTable

_MUTE = ("organizationId", "site", "agentId", "hostname", "topic", "author", "reason")
"""The members of a mute before its times."""


def cursors(reader: Reader) -> dict[str, StoredCursor]:
    """Return the stored cursors by channel."""
    rows = reader.select("notifications.cursors")
    return {row[0]: StoredCursor(ChannelCursor(*row[:-1]), row[-1]) for row in rows}


def pending(reader: Reader, channel: str) -> list[NotificationRow]:
    """Return the messages of a channel that are not delivered, in the order in which they were made."""
    rows = map(NotificationRow._make, reader.select("notifications.pending", (channel,)))
    return [row._replace(state=Delivery(row.state)) for row in rows]


def group_is_stored(reader: Reader, group: str) -> bool:
    """Return whether a stored message is of a group."""
    ((is_stored,),) = reader.select("notifications.group_is_stored", (group,))
    return bool(is_stored)


def events_to_tell(reader: Reader, sequence: int, limit: int) -> list[ToldEvent]:
    """Return the first events after a sequence."""
    return [ToldEvent(*row) for row in reader.select("notifications.to_tell", (sequence, limit))]


def untold_events(reader: Reader, sequence: int, last: int) -> list[ToldEvent]:
    """Return the events on an intrusion after a sequence and up to another that the event table has deleted."""
    return [ToldEvent(*row) for row in reader.select("notifications.untold", (sequence, last))]


def page(reader: Reader, channel: str | None, limit: int, cursor: str | None) -> Page:
    """Return messages, of one channel or of all, newest first."""
    table = NotificationTable
    query = table.select()
    if channel is not None:
        query = query.where(table.channel == channel)
    return reader.page(query, table.sequence, _record, limit, cursor)


def mutes(reader: Reader, now: float, organizations: Collection[str] | None) -> list[Record]:
    """Return the mutes in force, the oldest first; of some organizations and of the whole fleet, or all."""
    params = {"now": now, "organizations": json_list(organizations)}
    return [_mute(row) for row in reader.select("notifications.mutes", params)]


def _mute(row: tuple[Any, ...]) -> Record:
    *members, at, until = row
    named = dict(zip(_MUTE, members, strict=True))
    scope = json.dumps([named[each] for each in ("organizationId", "site", "agentId", "topic")])
    mute_id = sha256(scope.encode()).hexdigest()[:8]  # a mute of the same scope replaces it, and has the same id
    return {"id": f"mute-{mute_id}", **named, "mutedAt": moment(at), "mutedUntil": moment(until)}


def _record(row: Record) -> Record:
    return {
        "channel": row["channel"],
        "id": row["message_id"],
        "group": row["group_id"],
        "state": row["state"],
        "attempts": row["attempts"],
        "createdAt": moment(row["created_at"]),
        "nextAt": moment(row["next_at"]) if row["state"] == Delivery.PENDING else None,
        "sentAt": moment(row["sent_at"]),
        "reason": row["reason"],
        **_told(row["content"]),
    }


def _told(content: str) -> Record:
    """Return what a stored message says, as plain text."""
    message = json.loads(content)
    return {
        "organizationId": message["organization_id"],
        "severity": message["severity"],
        "change": message["change"],
        "title": _text(message["title"]),
        "lines": [_text(line) for line in message["lines"]],
    }


def _text(parts: list[list[str]]) -> str:
    return "".join(text for _, text in parts)
