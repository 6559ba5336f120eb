"""Stores the guard's own blocks and the number of blocks for each address."""

import sqlite3
from collections.abc import Iterable

from agent.respond.responder import Measure
from agent.storage.database import Database

_KEPT = 10_000
_MEMORY = 30 * 86_400.0


class OwnBlocks:
    """A bounded table: rows expire after 30 days; beyond 10,000 the first to expire is deleted.

    Args:
        database: The guard's database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def times(self, value: str) -> int:
        """Return the number of blocks of an address."""
        row = self._database.connection.execute("SELECT times FROM own_blocks WHERE value = ?", (value,)).fetchone()
        return 0 if row is None else int(row[0])

    def add(self, value: str, reason: str, now: float, until: float) -> None:
        """Add a block from `now` to `until`; it counts as a repetition only if the last block is over."""
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO own_blocks VALUES (:value, :reason, :until, 1) ON CONFLICT (value) DO UPDATE SET"
                " times = times + (expires_at <= :now), reason = :reason, expires_at = MAX(expires_at, :until)",
                {"value": value, "reason": reason, "until": until, "now": now},
            )
            _forget(connection, now)

    def end_all_but(self, values: Iterable[str], now: float) -> None:
        """End the blocks that do not hold any more: the fence lists those that do."""
        kept = set(values)
        ended = [(now, measure.value) for measure in self.measures(now) if measure.value not in kept]
        if ended:
            with self._database.transaction() as connection:
                connection.executemany("UPDATE own_blocks SET expires_at = ? WHERE value = ?", ended)

    def measures(self, now: float) -> list[Measure]:
        """Return the current blocks."""
        rows = self._database.connection.execute(
            "SELECT value, reason, expires_at FROM own_blocks WHERE expires_at > ?", (now,)
        )
        return [Measure("ip", value, reason, expires_at) for value, reason, expires_at in rows]


def _forget(connection: sqlite3.Connection, now: float) -> None:
    connection.execute("DELETE FROM own_blocks WHERE expires_at < ?", (now - _MEMORY,))
    connection.execute(
        "DELETE FROM own_blocks WHERE value IN"
        " (SELECT value FROM own_blocks ORDER BY expires_at DESC LIMIT -1 OFFSET ?)",
        (_KEPT,),
    )
