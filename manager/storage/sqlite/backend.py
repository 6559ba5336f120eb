"""Writing to SQLite: one writer holds the lock, and a commit is answered."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event

from peewee import Database

from manager.engine.batch import Changes, ThreatRow
from manager.engine.ports import CommitWork
from manager.storage.connection import close_store
from manager.storage.hand_over import InsertedThreats
from manager.storage.sqlite.page_cache import PageCache
from manager.storage.sqlite.retention import SqliteRetention
from manager.storage.statements import Statements
from manager.storage.wal_bound import WalBound

_LARGE = 500
"""Threats in a transaction from which on another thread commits it: handing it over takes about 0.1 ms."""


class SqliteBackend:
    """SQLite's part in writing.

    Args:
        database: the writer's database.
        statements: its statements.
    """

    def __init__(self, database: Database, statements: Statements) -> None:
        self._database = database
        self._statements = statements
        self._wal = WalBound(database)
        self._committer = ThreadPoolExecutor(1, "commit")
        self._cache = PageCache(database)
        self.retention = SqliteRetention(database, statements)

    def timeline(self) -> str:
        """Return nothing: a file that is replaced by an older copy does not show it."""
        return ""

    def is_in_transaction(self) -> bool:
        """Return whether the transaction goes on; SQLite ends one when the disk is full."""
        return bool(self._database.connection().in_transaction)

    def insert_threats(self, rows: Sequence[ThreatRow]) -> InsertedThreats:
        """Insert threats, one by one; no other process stores any."""
        self._cache.before_reports(len(rows))
        inserted = self._statements.execute_many("threats.insert", rows)
        ((_, last),) = self._statements.rows("threats.sequences")
        return InsertedThreats(inserted, last, [])

    def has_committed(self, _changes: Changes) -> bool:
        """Return False: a commit that failed wrote nothing."""
        return False

    def mark(self, changes: Changes) -> None:
        """Write nothing."""

    def announce(self, changes: Changes) -> None:
        """Tell nobody: no other process keeps agents in memory."""

    def commit(self, end: Callable[[], None], threats: int, work: CommitWork | None) -> None:
        """Commit the transaction, a large one in another thread.

        SQLite writes pages and waits for the disk without the interpreter's lock; `work` has the lock meanwhile. The
        connection is used by one thread at a time: this one goes on with it when the other has ended. Where the system
        has no thread left, this one commits.
        """
        if work is None or threats < _LARGE:
            end()
            return
        is_over = Event()

        def end_and_tell() -> None:
            try:
                end()
            finally:
                is_over.set()

        try:
            committing = self._committer.submit(end_and_tell)
        except RuntimeError:
            end()
            return
        try:
            work(is_over.is_set)
        finally:
            committing.result()

    def after_commit(self) -> None:
        """Bound the WAL, and the cache of pages."""
        self._wal.enforce()
        self._cache.after_commit()

    def close(self) -> None:
        """Checkpoint the WAL into the store's file and close the connection."""
        self._committer.shutdown()
        close_store(self._database)
