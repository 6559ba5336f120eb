"""Stored cursors: the position at which each source continues after a restart."""

import sqlite3


def load(connection: sqlite3.Connection, source: str) -> str | None:
    """Return a source's cursor; None if it was never read."""
    row = connection.execute("SELECT cursor FROM source_cursors WHERE source = ?", (source,)).fetchone()
    return None if row is None else str(row[0])


def save(connection: sqlite3.Connection, source: str, cursor: str) -> None:
    """Store a source's cursor, within the caller's transaction."""
    connection.execute("INSERT OR REPLACE INTO source_cursors VALUES (?, ?)", (source, cursor))
