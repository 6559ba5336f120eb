"""The marker of a SQLite store whose content was moved to PostgreSQL: nothing opens the store any more."""

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from manager.errors import SetupError
from manager.storage.damage import is_empty

_KEY = "moved_to"
_MIGRATION = "9999_moved_to_postgresql"
"""A migration that no release has: releases that do not know the marker say that the store is too new for them."""


class Move(NamedTuple):
    """The database that a store's content was moved to.

    Attributes:
        database: the URL of the PostgreSQL database, without a password.
        copy: the id of the copy, which the database holds too.
        at: the time, in seconds since 1970.
    """

    database: str
    copy: str
    at: float


def move_of(path: Path) -> Move | None:
    """Return the move that is marked in a store; None without one, or for a file that cannot be read."""
    if not path.exists() or is_empty(path):
        return None
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            found = database.execute("SELECT value FROM meta WHERE key = ?", (_KEY,)).fetchone()
        return None if found is None else _move(found[0])
    except sqlite3.Error:  # who opens the store says why it cannot be read
        return None


def _move(text: str) -> Move:
    """Return the move in a marker; one that nobody can read says that there was a move."""
    try:
        marker = json.loads(text)
        datetime.fromtimestamp(marker["at"], UTC)
        return Move(str(marker["database"]), str(marker["copy"]), marker["at"])
    except (ValueError, TypeError, LookupError, ArithmeticError, OSError, RecursionError):
        return Move("another database", "", 0.0)


def refuse_moved(path: Path) -> None:
    """Refuse a store whose content was moved.

    Raises:
        SetupError: it was; the message says where to and what to do.
    """
    move = move_of(path)
    if move is not None:
        raise SetupError(moved_sentence(path, move))


def moved_sentence(path: Path, move: Move) -> str:
    """Return the error message for a moved store."""
    at = datetime.fromtimestamp(move.at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return (
        f"the store {path} was moved to {move.database} on {at}, and takes nothing more: start the manager, and give"
        f" commands that open its store, with --database {move.database} and the same key file; if no manager was"
        " started on it yet, `panguard manager migrate` with the same --to says whether the move is complete"
    )


def mark_moved(database: sqlite3.Connection, move: Move) -> None:
    """Write the marker, in the transaction of the caller."""
    database.execute("INSERT INTO meta (key, value) VALUES (?, ?)", (_KEY, json.dumps(move._asdict())))
    applied = datetime.fromtimestamp(move.at, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    database.execute("INSERT INTO schema_migration (name, applied) VALUES (?, ?)", (_MIGRATION, applied))


def unmark_moved(database: sqlite3.Connection) -> None:
    """Remove the marker, in the transaction of the caller."""
    database.execute("DELETE FROM meta WHERE key = ?", (_KEY,))
    database.execute("DELETE FROM schema_migration WHERE name = ?", (_MIGRATION,))
