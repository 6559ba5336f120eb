"""Stores the events that detectors need after a restart, for replay in their original order.

Events are written in the transaction that moves the source's cursor, so both or neither are stored.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator
from functools import lru_cache

from pydantic_core import to_json

from agent.analyze.known_login_sources import LOGIN_MEMORY
from agent.events import NOTHING_VOUCHED, Event, EventKind
from agent.logs import EventLog
from agent.parse.addresses import normal_address
from agent.parse.record_parser import MAX_COUNT

MAX_EVENTS = 20_000
"""The maximum number of stored events other than logins; the oldest is evicted. The same limit applies to logins."""

DAY = 86_400.0
"""Seconds, by the events' times, for which failures and individual logins are kept."""

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
"""Kinds of events that are stored. Contacts that name no user are not; their count restarts at 0.

Ends of sessions are not: thousands of a day would push out failures, and after a restart a session that had ended
counts as one whose end was not seen.
"""

_END_OF_TIME = 253_402_300_800.0
_MAX_FIELDS = 16
_log = EventLog("event_store")


def load(connection: sqlite3.Connection) -> Iterator[Event]:
    """Yield the stored events in their original order; unreadable ones are skipped and counted."""
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
    """Store events within the caller's transaction, and delete expired ones."""
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
    """Return the key of a login, its user and address; the latest login of each key is kept for longer."""
    if event.kind is not EventKind.LOGIN_SUCCEEDED:
        return None
    return _key(event.text("user"), event.text("sourceIp"), bool(event.vouched))


@lru_cache(maxsize=256)
def _key(user: str, address: str, vouched: bool) -> str:
    return json.dumps([user, address, vouched])


def _encoded(event: Event) -> str:
    """Return an event's row: time, kind, fields, whether its fields are vouched, count."""
    kind = str.__str__(event.kind)  # an enumeration's member takes twice as long to encode as its text
    return to_json((event.at, kind, event.fields, bool(event.vouched), event.count)).decode()


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
