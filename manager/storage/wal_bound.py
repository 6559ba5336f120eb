"""Limits the size of the writer's WAL while readers overlap without a gap.

SQLite reuses the WAL from its start only if a commit finds no reader in it. With readers that overlap all the time no
commit does, and the file grows with every write. A checkpoint with TRUNCATE waits for the readers of the moment;
readers that begin meanwhile use the database file alone.
"""

import time
from contextlib import suppress
from pathlib import Path

from peewee import Database, DatabaseError, InterfaceError

LIMIT = 16 * 2**20
"""Bytes; SQLite's own checkpoint keeps the WAL near 8 MiB when readers leave gaps (1,000 pages)."""

_WAIT_MILLISECONDS = 250
_LONGEST_WAIT_MILLISECONDS = 4000
_PAUSES = 10
"""Seconds without an attempt for each second that one took: commits wait for it for a tenth of the time at most."""


class WalBound:
    """Truncates the WAL of one database once it is larger than a limit.

    Args:
        database: the writer's database; no transaction is open when `enforce` is called.
        limit: the size in bytes above which the WAL is truncated.
    """

    def __init__(self, database: Database, limit: int = LIMIT) -> None:
        self._database = database
        store = Path(database.database)
        self._wal = store.with_name(f"{store.name}-wal")
        self._limit = limit
        self._page_size = int(database.execute_sql("PRAGMA page_size").fetchone()[0])
        self._not_before = 0.0
        self._wait = _WAIT_MILLISECONDS

    def enforce(self) -> None:
        """Truncate the WAL if it is too large; wait for readers for 0.25 s, and after each failure twice as long.

        No attempt waits longer than 4 s for the readers of one snapshot, and attempts take a tenth of the time at most.
        Committed transactions are durable before and after one, so an error or a slow reader only delays it.
        """
        now = time.monotonic()
        if now < self._not_before or self._size() <= self._limit:
            return
        with suppress(DatabaseError, InterfaceError):
            if self._used() <= self._limit or self._truncate():
                self._wait = _WAIT_MILLISECONDS
            else:
                self._wait = min(2 * self._wait, _LONGEST_WAIT_MILLISECONDS)
        over = time.monotonic()
        self._not_before = over + _PAUSES * (over - now)

    def _truncate(self) -> bool:
        """Return whether the WAL was truncated."""
        usual = int(self._database.execute_sql("PRAGMA busy_timeout").fetchone()[0])
        try:
            self._database.execute_sql(f"PRAGMA busy_timeout = {self._wait}")
            busy, *_ = self._database.execute_sql("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        finally:
            self._database.execute_sql(f"PRAGMA busy_timeout = {usual}")
        return not busy

    def _used(self) -> int:
        """Return the bytes in use: less than the file's size once SQLite has reused the WAL from its start."""
        _, frames, _ = self._database.execute_sql("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        return int(frames) * self._page_size

    def _size(self) -> int:
        try:
            return self._wal.stat().st_size
        except OSError:
            return 0
