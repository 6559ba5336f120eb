"""The audit log as the API shows it."""

import json
from typing import NamedTuple

from peewee import Expression

from manager.storage.queries.reader import Page, Reader, Record, moment
from manager.storage.tables import AuditEntryTable


class AuditFilter(NamedTuple):
    """Which entries are wanted; None is any. `since` is in seconds since 1970; `action` may be its first word."""

    since: float | None = None
    actor: str | None = None
    action: str | None = None
    target: str | None = None

    def conditions(self) -> list[Expression]:
        """Return what the rows must meet."""
        entry, wanted = AuditEntryTable, []
        if self.since is not None:
            wanted.append(entry.at >= self.since)
        if self.actor is not None:
            wanted.append(entry.actor == self.actor)
        if self.action is not None:
            wanted.append((entry.action == self.action) | entry.action.startswith(f"{self.action}."))
        if self.target is not None:
            wanted.append(entry.target == self.target)
        return wanted


def page(reader: Reader, wanted: AuditFilter, limit: int, cursor: str | None) -> Page:
    """Return entries, newest first."""
    query = AuditEntryTable.select()
    conditions = wanted.conditions()
    if conditions:
        query = query.where(*conditions)
    return reader.page(query, AuditEntryTable.id, record_of, limit, cursor)


def record_of(row: Record) -> Record:
    """Return one entry."""
    return {
        "id": row["id"],
        "at": moment(row["at"]),
        "actor": row["actor"],
        "action": row["action"],
        "target": row["target"],
        "address": row["address"],
        "requestId": row["request_id"],
        "before": None if row["before"] is None else json.loads(row["before"]),
        "after": None if row["after"] is None else json.loads(row["after"]),
    }
