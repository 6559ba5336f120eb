"""Stores the events that detectors need again after a restart, to replay them in the order in which they came.

They are written in the transaction that moves the source's cursor, so a record is either in both or in none.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator

from agent.analyze.acquaintances import LOGIN_MEMORY
from agent.events import NOTHING_VOUCHED, Event, EventKind
from agent.logs import EventLog
from agent.parse.addresses import normal_address
from agent.parse.reader import MAX_COUNT

MAX_EVENTS = 20_000
"""Events stored that are no logins; the oldest makes room. The same bound holds for logins."""

DAY = 86_400.0
"""Seconds, on the events' own clock, for which failures are kept, and every single login."""

STORED = frozenset(
    {
        EventKind.LOGIN_FAILED,
        EventKind.LOGIN_SUCCEEDED,
        EventKind.INVALID_USER,
        EventKind.USER_REFUSED,
        EventKind.MAX_ATTEMPTS,
        EventKind.CONNECTION_CLOSED,
        EventKind.PENALTY,
        EventKind.SUDO_FAILED,
        EventKind.SU_FAILED,
        EventKind.LOCAL_LOGIN_FAILED,
    }
)
"""Contacts that name no user are not stored: after a restart they are counted anew."""

_END_OF_TIME = 253_402_300_800.0
_MAX_FIELDS = 16
_log = EventLog("event_store")


def load(connection: sqlite3.Connection) -> Iterator[Event]:
    """Yield the stored events in the order in which they came; those that cannot be read are left out and counted."""
    unreadable = 0
    for row in connection.execute("SELECT event FROM detection_events ORDER BY sequence"):
        event = _decoded(row[0])
        if event is None:
            unreadable += 1
        else:
            yield event
    if unreadable:
        _log.warning("stored_events_unreadable", rows=unreadable)


def save(connection: sqlite3.Connection, events: Iterable[Event]) -> None:
    """Store events within the caller's transaction, and delete those that count no more."""
    rows = [(event.at, _login_key(event), _encoded(event)) for event in events if event.kind in STORED]
    if not rows:
        return
    connection.executemany("INSERT INTO detection_events (at, login, event) VALUES (?, ?, ?)", rows)
    newest = max(at for at, _, _ in rows)
    logins = {login for _, login, _ in rows if login is not None}
    connection.executemany(
        "DELETE FROM detection_events WHERE login = ? AND at < ?", [(login, newest - DAY) for login in logins]
    )
    connection.execute(
        "WITH newest AS (SELECT MAX(sequence) AS sequence FROM detection_events)"
        " DELETE FROM detection_events WHERE login IS NULL AND sequence < MAX("
        " COALESCE((SELECT sequence FROM detection_events WHERE login IS NULL AND at >= ? ORDER BY sequence LIMIT 1),"
        " (SELECT sequence + 1 FROM newest)), (SELECT sequence + 1 FROM newest) - ?)",
        (newest - DAY, MAX_EVENTS),
    )
    if logins:
        connection.execute("DELETE FROM detection_events WHERE login IS NOT NULL AND at < ?", (newest - LOGIN_MEMORY,))
        connection.execute(
            "DELETE FROM detection_events WHERE login IS NOT NULL"
            " AND sequence <= (SELECT MAX(sequence) FROM detection_events) - ?",
            (MAX_EVENTS,),
        )


def _login_key(event: Event) -> str | None:
    """The user and address of a login, of which the latest is kept for longer."""
    if event.kind is not EventKind.LOGIN_SUCCEEDED:
        return None
    return json.dumps([event.text("user"), event.text("sourceIp"), bool(event.vouched)])


def _encoded(event: Event) -> str:
    """Time, kind, fields, whether all of the fields are vouched or none is, and count."""
    return json.dumps((event.at, event.kind, event.fields, bool(event.vouched), event.count))


def _decoded(text: str) -> Event | None:
    try:
        at, kind, fields, vouched, count = json.loads(text)
        known = EventKind(kind)
    except (ValueError, TypeError, RecursionError):
        return None
    whole = type(at) in (int, float) and abs(at) < _END_OF_TIME and type(count) is int and 0 < count <= MAX_COUNT
    if not whole or not _are_fields(fields) or type(vouched) is not bool:
        return None
    return Event(float(at), known, fields, frozenset(fields) if vouched else NOTHING_VOUCHED, count)


def _are_fields(fields: object) -> bool:
    if not isinstance(fields, dict) or len(fields) > _MAX_FIELDS:
        return False
    address = fields.get("sourceIp")
    if address is not None and (not isinstance(address, str) or normal_address(address) != address):
        return False
    return all(type(value) in (str, int) for value in fields.values())
