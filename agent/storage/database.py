"""The guard's SQLite database and its migrations; a commit is durable when it returns."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from agent.errors import StorageError

DATABASE = "guard.db"
"""The database's file name in the data directory."""

MIGRATIONS = (
    """
    CREATE TABLE outbox (sequence INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, body BLOB NOT NULL);
    CREATE TABLE dead_letters (sequence INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, body BLOB NOT NULL,
        reason TEXT NOT NULL, at REAL NOT NULL);
    CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE log_positions (path TEXT PRIMARY KEY, position TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE failed_logins (sequence INTEGER PRIMARY KEY AUTOINCREMENT, address TEXT NOT NULL, at REAL NOT NULL,
        event TEXT NOT NULL);
    CREATE INDEX failed_logins_by_address ON failed_logins (address, at);
    CREATE TABLE last_logins (address TEXT PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID;
    CREATE TABLE policy (only INTEGER PRIMARY KEY CHECK (only = 1), agent_id TEXT NOT NULL, sign_key TEXT NOT NULL,
        document BLOB NOT NULL, sections TEXT NOT NULL, state TEXT NOT NULL, error TEXT);
    CREATE TABLE measures (kind TEXT NOT NULL, value TEXT NOT NULL, reason TEXT, expires_at REAL, incident_id TEXT,
        PRIMARY KEY (kind, value)) WITHOUT ROWID;
    CREATE TABLE own_blocks (value TEXT PRIMARY KEY, reason TEXT NOT NULL, expires_at REAL NOT NULL,
        times INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE blocklist (kind TEXT NOT NULL, value TEXT NOT NULL, reason TEXT, expires_at REAL, incident_id TEXT,
        PRIMARY KEY (kind, value)) WITHOUT ROWID;
    CREATE TABLE blocklist_head (only INTEGER PRIMARY KEY CHECK (only = 1), organization_id TEXT NOT NULL,
        sign_key TEXT NOT NULL, sequence INTEGER NOT NULL);
    """,
    """
    CREATE TABLE source_cursors (source TEXT PRIMARY KEY, cursor TEXT NOT NULL) WITHOUT ROWID;
    INSERT INTO source_cursors SELECT 'file:' || path, position FROM log_positions;
    DROP TABLE log_positions;
    """,
    """
    CREATE TABLE detection_events (sequence INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, login TEXT,
        event TEXT NOT NULL);
    CREATE INDEX detection_events_by_login ON detection_events (login, at);
    DROP TABLE failed_logins;
    DROP TABLE last_logins;
    """,
    """
    DROP INDEX detection_events_by_login;
    CREATE INDEX detection_events_by_login ON detection_events (login, at) WHERE login IS NOT NULL;
    """,
    """
    ALTER TABLE outbox ADD COLUMN severity INTEGER NOT NULL DEFAULT 3;
    CREATE INDEX outbox_by_severity ON outbox (severity, sequence);
    """,
    # Blocks that versions before the fence recorded were never in force: only their number counts for escalation.
    """
    DELETE FROM measures;
    UPDATE own_blocks SET expires_at = MIN(expires_at, CAST(strftime('%s', 'now') AS REAL));
    CREATE TABLE mode_trial (only INTEGER PRIMARY KEY CHECK (only = 1), confirmed INTEGER NOT NULL, reverted TEXT);
    CREATE TABLE host_mode (only INTEGER PRIMARY KEY CHECK (only = 1), mode TEXT NOT NULL);
    """,
    """
    ALTER TABLE mode_trial ADD COLUMN ends REAL;
    ALTER TABLE mode_trial ADD COLUMN boot TEXT;
    """,
    """
    CREATE TABLE kept_reports (sequence INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, body BLOB NOT NULL,
        kept_at REAL NOT NULL, receipted_at REAL, generation INTEGER, again INTEGER NOT NULL DEFAULT 0);
    CREATE INDEX kept_reports_again ON kept_reports (sequence) WHERE again;
    CREATE TABLE store_generation (only INTEGER PRIMARY KEY CHECK (only = 1), owner TEXT NOT NULL,
        generation INTEGER NOT NULL DEFAULT 0, spread REAL NOT NULL DEFAULT 0, mark TEXT);
    """,
    """
    ALTER TABLE store_generation ADD COLUMN former_mark TEXT;
    """,
)


class Database:
    """The database connection of the guard's single thread.

    Write-ahead log with ``synchronous=FULL``: a committed transaction survives a kill of the process and a power cut.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the file, created with mode 0600 if missing, and migrate its tables.

        Raises:
            StorageError: the file cannot be opened, is damaged, or was written by a newer guard.
        """
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            connection = sqlite3.connect(path, isolation_level=None)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA busy_timeout = 5000")
            connection.execute(
                "PRAGMA cache_size = -512"
            )  # cache size in KiB; small, because rows are read once and in order
            database = cls(connection)
            database._migrate(path)
        except (sqlite3.Error, OSError) as error:
            raise StorageError(path, str(error)) from error
        return database

    @classmethod
    @contextmanager
    def opened(cls, directory: Path) -> Iterator[Self]:
        """Open the database of a data directory for one command, and close it.

        Raises:
            StorageError: no guard was ever started in the directory, or the database cannot be used.
        """
        path = directory / DATABASE
        if not path.exists():
            raise StorageError(directory, "no guard was ever started in it")
        database = cls.open(path)
        try:
            yield database
        except sqlite3.Error as error:
            raise StorageError(path, str(error)) from error
        finally:
            database.close()

    def _migrate(self, path: Path) -> None:
        done: int = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if done > len(MIGRATIONS):
            raise StorageError(path, "a newer version of the guard has written it")
        for number, script in enumerate(MIGRATIONS[done:], start=done + 1):
            with self.transaction():
                for statement in filter(str.strip, script.split(";")):
                    self._connection.execute(statement)
                self._connection.execute(f"PRAGMA user_version = {number}")

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Run the block in a transaction: commit at its end, roll back on an exception."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield self._connection
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection, for reading."""
        return self._connection

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


def add_to_counter(connection: sqlite3.Connection, name: str, amount: int) -> None:
    """Increase a persistent counter within the caller's transaction."""
    connection.execute(
        "INSERT INTO counters VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
        (name, amount),
    )


def counter(connection: sqlite3.Connection, name: str) -> int:
    """Return a persistent counter; 0 if it was never increased."""
    row = connection.execute("SELECT value FROM counters WHERE name = ?", (name,)).fetchone()
    return 0 if row is None else int(row[0])
