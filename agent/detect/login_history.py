"""What the detector must remember over a kill: the logins that it has seen, as rows, replayed at the next start.

It is written in the transaction that moves the log's position, so a line is either in both or in none.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import asdict

from agent.detect.brute_force import LOGIN_MEMORY
from agent.logs import EventLog
from agent.parse.sshd import FailedLogin, SuccessfulLogin

MAX_FAILURES = 20_000
"""Failed logins kept; the oldest makes room."""

_MOST_AT_ONCE = 1_000_000
"""More failures than one line of a log can stand for."""

_END_OF_TIME = 253_402_300_800.0
_log = EventLog("login_history")

QUIET = 600.0
"""Seconds, on the events' own clock, after which an address that was quiet is forgotten: twice the detector's window,
behind which its count would begin anew anyway."""


def load_failures(connection: sqlite3.Connection) -> Iterator[FailedLogin]:
    """Yield the failed logins that count still, in the order in which they were seen; what cannot be read is none."""
    unreadable = 0
    for row in connection.execute("SELECT event FROM failed_logins ORDER BY sequence"):
        failure = _failure(row[0])
        if failure is None:
            unreadable += 1
        else:
            yield failure
    if unreadable:
        _log.warning("failed_logins_unreadable", rows=unreadable)


def _failure(text: str) -> FailedLogin | None:
    try:
        failure = FailedLogin(**json.loads(text))
    except (ValueError, TypeError, RecursionError):
        return None
    kept = (failure.at, failure.address, failure.port, failure.user, failure.count, failure.judged)
    if tuple(map(type, kept)) != (float, str, int, str, int, bool) or not 0 < failure.count < _MOST_AT_ONCE:
        return None
    return failure if abs(failure.at) < _END_OF_TIME else None


def load_logins(connection: sqlite3.Connection) -> dict[str, float]:
    """Return when each address last logged in, in epoch seconds."""
    return dict(connection.execute("SELECT address, at FROM last_logins").fetchall())


def keep_events(connection: sqlite3.Connection, events: Iterable[FailedLogin | SuccessfulLogin]) -> None:
    """Keep events within the caller's transaction, and forget those that count no more."""
    failures = []
    for event in events:
        if isinstance(event, FailedLogin):
            failures.append((event.address, event.at, json.dumps(asdict(event))))
        else:
            connection.execute(
                "INSERT INTO last_logins VALUES (?, ?) ON CONFLICT (address) DO UPDATE SET at = MAX(at, excluded.at)",
                (event.address, event.at),
            )
            connection.execute("DELETE FROM last_logins WHERE at < ?", (event.at - LOGIN_MEMORY,))
    if failures:
        connection.executemany("INSERT INTO failed_logins (address, at, event) VALUES (?, ?, ?)", failures)
        _forget_failures(connection, newest=max(at for _, at, _ in failures))


def _forget_failures(connection: sqlite3.Connection, newest: float) -> None:
    connection.execute(
        "DELETE FROM failed_logins WHERE sequence <= (SELECT MAX(sequence) FROM failed_logins) - ?", (MAX_FAILURES,)
    )
    connection.execute(
        "DELETE FROM failed_logins WHERE address IN"
        " (SELECT address FROM failed_logins GROUP BY address HAVING MAX(at) < ?)",
        (newest - QUIET,),
    )
