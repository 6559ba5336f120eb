"""Reads a SQLite store for a copy: rows in the order of their keys, while nothing else can write to it."""

import hashlib
import sqlite3
from collections.abc import Generator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from manager.errors import SetupError
from manager.storage.moved_store import Move, mark_moved, unmark_moved
from manager.storage.store_copy.copied_tables import COPIED_TABLES, CopiedTable, Row, text_of

_HEADER = 100
_OWNER_READS = 0o400


class SqliteSource:
    """A store that is copied; a context manager that holds the store's write lock.

    Args:
        path: the store's file, without transactions in its WAL.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._database = sqlite3.connect(path, isolation_level=None, timeout=1)
        self._database.text_factory = text_of

    def __enter__(self) -> Self:
        """Take the write lock.

        Raises:
            SetupError: another program uses the store.
        """
        try:
            self._database.execute("PRAGMA synchronous = full")
            self._database.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            self._database.close()
            raise SetupError(
                f"another program uses the store {self.path} ({error}): end it, and run this again"
            ) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release the lock; what was not committed is undone."""
        if self._database.in_transaction:
            self._database.rollback()
        self._database.close()

    def fingerprint(self) -> str:
        """Return a text that changes when the store's file is written, in place or by another file.

        Raises:
            SetupError: the store has transactions in its WAL, which another program keeps there.
        """
        wal = self.path.with_name(f"{self.path.name}-wal")
        if wal.exists() and wal.stat().st_size:
            raise SetupError(f"another program reads the store {self.path}: end it, and run this again")
        with self.path.open("rb") as file:
            header = hashlib.sha256(file.read(_HEADER)).hexdigest()[:16]
        found = self.path.stat()
        return f"{found.st_ino} {found.st_size} {found.st_mtime_ns} {header}"

    def counts(self) -> dict[str, int]:
        """Return the number of rows of each table of the copy."""
        return {table.name: self._database.execute(table.count_sql()).fetchone()[0] for table in COPIED_TABLES}

    def value(self, key: str) -> str | None:
        """Return a single value of the store."""
        found = self._database.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if found is None else found[0]

    def times_of_receipt(self, length: int) -> list[int]:
        """Return the begins of the periods in which threats were received that are kept, the newest first.

        Args:
            length: the length of a period in seconds.
        """
        found = self._database.execute("SELECT DISTINCT CAST(received_at / ? AS INTEGER) FROM threat", (length,))
        return sorted((period * length for (period,) in found), reverse=True)

    def rows(self, table: CopiedTable, after: Sequence[Any] | None = None) -> Generator[Row]:
        """Yield the rows of a table in the order of its key, as SQLite gives them.

        Args:
            table: the table.
            after: the key after which the rows begin; all of them by default.
        """
        parameters = () if after is None else table.parameters(after)
        yield from self._database.execute(table.source_sql(after=after is not None), parameters)

    def mark_moved(self, move: Move) -> None:
        """Mark the store as moved, durable when this returns."""
        mark_moved(self._database, move)
        self._database.execute("COMMIT")

    def unmark_moved(self) -> None:
        """Remove the marker, durable when this returns."""
        unmark_moved(self._database)
        self._database.execute("COMMIT")

    def make_read_only(self) -> None:
        """Leave the store as one file that its owner can read, and nobody can write without changing its mode."""
        if self._database.in_transaction:
            self._database.rollback()
        with suppress(sqlite3.OperationalError):  # while another program reads, the WAL stays
            self._database.execute("PRAGMA journal_mode = delete")
        self.path.chmod(_OWNER_READS)
