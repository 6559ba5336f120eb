"""Writes a copy of a SQLite store into a PostgreSQL database, in transactions that carry the copy's progress."""

import json
import secrets
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import psycopg
from peewee import DatabaseError, InterfaceError
from psycopg.errors import LockNotAvailable

from manager.domain.ingest.decided_sequences import DecidedSequences
from manager.domain.retention import EARLIEST
from manager.errors import SetupError
from manager.storage.hand_over import PROGRESS
from manager.storage.postgresql.address import DatabaseAddress
from manager.storage.postgresql.connection import PostgresqlStore, migrating
from manager.storage.postgresql.migrate import LOCKS, apply_migrations, migrations_locked
from manager.storage.postgresql.partitions import ThreatPartitions
from manager.storage.postgresql.server_checks import require_usable
from manager.storage.statements import Statements
from manager.storage.store_copy.copied_tables import COPIED_TABLES, CopiedTable, Row, RowsDigest, RowUnfit
from manager.storage.store_copy.row_copy import copy_rows, first_unfit, says_unfit

LOCK_WAIT = "10s"
"""Time within which the server notices that the program of an earlier copy was killed, and ends its lock."""

_LEAVING = 2.0
"""Seconds within which sessions that were closed are gone."""

_COPY_LOCK = 3
_SESSION = "panguard migrate"
_FETCHED = 500
_OF_A_NEW_DATABASE = ("meta", "projection_progress")
"""Tables in which a database without a manager has rows."""

_MANAGERS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND application_name LIKE 'panguard%%' AND application_name <> %s
"""


class TargetTaken(SetupError):  # noqa: N818 -- a state, not a mistake
    """The database has another store, or a manager or another copy uses it."""


class CopyState(NamedTuple):
    """The copy that a database has.

    Attributes:
        copy_id: Its id.
        store_id: The id of the store that is copied.
        source: The fingerprint of the store's file.
        is_complete: Whether a manager may start on the database.
    """

    copy_id: str
    store_id: str
    source: str
    is_complete: bool


class TableProgress(NamedTuple):
    """The progress of the copy of a table.

    Attributes:
        last_key: The key of the last copied row; None before the first one.
        digest: The digest of the copied rows.
        is_copied: Whether that was the table's last row.
    """

    last_key: Sequence[Any] | None
    digest: RowsDigest
    is_copied: bool


@contextmanager
def open_target(address: DatabaseAddress) -> Iterator["PostgresqlTarget"]:
    """Open the database of a copy.

    Raises:
        TargetTaken: another copy into the database runs.
        SetupError: the database cannot be used, or was lost on the way.
    """
    require_usable(address)
    try:
        with migrating(address) as database:
            yield PostgresqlTarget(database)
    except (psycopg.Error, DatabaseError, InterfaceError) as error:
        first = error if isinstance(error, psycopg.Error) else error.__cause__ or error
        detail = getattr(getattr(first, "diag", None), "message_primary", None) or str(first).strip()
        raise SetupError(
            f"the database {address} failed: {detail}; the store stays as it was: run this again when it works, and"
            " the copy goes on"
        ) from error


class PostgresqlTarget:
    """The database of a copy.

    Args:
        database: open, without limits of time.
    """

    def __init__(self, database: PostgresqlStore) -> None:
        self.address = database.address
        self._database = database
        self._connection: psycopg.Connection[Any] = database.connection()
        self._connection.execute(f"SET application_name = '{_SESSION}'")

    def state(self) -> CopyState | None:
        """Return the copy that the database has; None without one."""
        if not self._exists("store_copy"):
            return None
        found = self._connection.execute("SELECT copy_id, store_id, source, completed_at IS NOT NULL FROM store_copy")
        return next((CopyState(*row) for row in found), None)

    def require_free(self, store_id: str) -> CopyState | None:
        """Return the copy of a store that the database has begun; None for an empty database. Changes nothing.

        Raises:
            TargetTaken: the database has another store or the whole copy, or a manager uses it.
        """
        state = self.state()
        if state is not None and state.store_id != store_id:
            raise TargetTaken(
                f"the database {self.address} has the store {state.store_id}, not {store_id}: name an empty one"
            )
        if state is not None and state.is_complete:
            raise TargetTaken(
                f"the store {store_id} was already moved to the database {self.address}, which has gone on since: to"
                " move this copy of the store, name an empty database"
            )
        if state is None:
            self._require_empty()
        self.require_no_manager()
        return state

    def require_no_manager(self) -> None:
        """Refuse a database that a manager uses.

        Raises:
            TargetTaken: there are sessions of a manager.
        """
        until = time.monotonic() + _LEAVING
        while self._connection.execute(_MANAGERS, (_SESSION,)).fetchone() != (0,):
            if time.monotonic() < until:
                time.sleep(0.05)
                continue
            raise TargetTaken(f"a manager runs on the database {self.address}: stop it, and run this again")

    def claim(self, store_id: str, source: str) -> bool:
        """Begin the copy of a store, or go on with it; return whether rows that were copied before stay.

        A copy of which the store has changed since begins again.

        Args:
            store_id: the store's id.
            source: the fingerprint of its file.

        Raises:
            TargetTaken: the database has another store, or a manager or another copy uses it.
            SetupError: the database was written by a newer release.
        """
        self.lock()
        with migrations_locked(self._database):
            state = self.require_free(store_id)
            apply_migrations(self._database, allows_newer=False)
            if state is not None and state.source == source:
                return True
            with self._connection.transaction():
                self._clear()
                self._connection.execute("DELETE FROM store_copy")
                self._connection.execute(
                    "INSERT INTO store_copy (id, copy_id, store_id, source, begun_at) VALUES (1, %s, %s, %s, %s)",
                    (secrets.token_hex(8), store_id, source, time.time()),
                )
        return False

    def make_partitions(self, times: Iterable[float], length: int) -> None:
        """Make the partitions of threats received at some times; those of times that cannot be right have none.

        Args:
            times: the times of receipt, in seconds since 1970.
            length: the length of partitions in seconds.
        """
        partitions = ThreatPartitions(self._database, Statements(self._database), length)
        for received_at in times:
            if EARLIEST <= received_at <= time.time() + length:
                partitions.cover(received_at)

    def lock(self) -> None:
        """Keep other copies into the database away until the connection ends.

        Raises:
            TargetTaken: another copy runs.
        """
        try:
            with self._connection.transaction():
                self._connection.execute(f"SET LOCAL lock_timeout = '{LOCK_WAIT}'".encode())
                self._connection.execute("SELECT pg_advisory_lock(%s, %s)", (LOCKS, _COPY_LOCK))
        except LockNotAvailable as error:
            raise TargetTaken(f"another copy into the database {self.address} runs: wait for its end") from error

    def progress(self) -> dict[str, TableProgress]:
        """Return the progress of each table that has some."""
        rows = self._connection.execute(
            "SELECT table_name, last_key, row_count, digest, is_copied FROM store_copy_progress"
        ).fetchall()
        return {
            name: TableProgress(json.loads(key), RowsDigest(bytes(digest), count), copied)
            for name, key, count, digest, copied in rows
        }

    def take(self, table: CopiedTable, rows: Sequence[Row], progress: TableProgress) -> None:
        """Write rows and the table's progress after them, in one transaction.

        Raises:
            RowUnfit: a row does not fit the table.
        """
        try:
            with self._connection.transaction():
                copy_rows(self._connection, table, rows)
                self._connection.execute(
                    "INSERT INTO store_copy_progress (table_name, last_key, row_count, digest, is_copied)"
                    " VALUES (%s, %s, %s, %s, %s) ON CONFLICT (table_name) DO UPDATE SET last_key = excluded.last_key,"
                    " row_count = excluded.row_count, digest = excluded.digest, is_copied = excluded.is_copied",
                    (
                        table.name, json.dumps(progress.last_key), progress.digest.count, progress.digest.value,
                        progress.is_copied,
                    ),
                )  # fmt: skip
        except psycopg.Error as error:
            if not says_unfit(error):
                raise
            row, reason = first_unfit(self._connection, table, rows)
            raise RowUnfit(table.place(table.key_of(row)), reason) from error

    def rows(self, table: CopiedTable) -> Generator[Row]:
        """Yield the rows of a table in the order of its key, from one snapshot."""
        with self._connection.transaction():
            self._connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            with self._connection.cursor(name="copied_rows") as cursor:
                cursor.itersize = _FETCHED
                yield from cursor.execute(table.target_sql())

    def complete(self, mark: Callable[[str], None]) -> None:
        """Let managers start on the database, after its counted columns go on behind the copied rows.

        Args:
            mark: marks the store as moved with the copy's id; called when nothing but the commit can fail any more.

        Raises:
            TargetTaken: a manager uses the database.
            SetupError: the answer to the commit was lost.
        """
        self.require_no_manager()
        is_marked = False
        try:
            with self._connection.transaction():
                for table in COPIED_TABLES:
                    if table.counted is not None:
                        self._count_on(table.name, table.counted)
                self._note_decided()
                ((copy_id,),) = self._connection.execute(
                    "UPDATE store_copy SET completed_at = %s RETURNING copy_id", (time.time(),)
                ).fetchall()
                mark(copy_id)
                is_marked = True
        except psycopg.Error as error:
            if not is_marked:
                raise
            raise SetupError(
                f"the database {self.address} did not answer the last commit: run this again, which completes the move;"
                " until then no manager starts on either store"
            ) from error

    def analyze(self) -> None:
        """Let the server look at the tables, so that its first plans are good ones."""
        for table in COPIED_TABLES:
            self._connection.execute(f'ANALYZE "{table.name}"'.encode())

    def begin_again_next_time(self) -> None:
        """Have the next copy begin again."""
        self._connection.execute("UPDATE store_copy SET source = ''")

    def _exists(self, table: str) -> bool:
        ((found,),) = self._connection.execute("SELECT to_regclass(%s) IS NOT NULL", (table,)).fetchall()
        return bool(found)

    def _require_empty(self) -> None:
        for name in (table.name for table in COPIED_TABLES):
            if name in _OF_A_NEW_DATABASE or not self._exists(name):
                continue
            if self._connection.execute(f'SELECT 1 FROM "{name}" LIMIT 1'.encode()).fetchall():  # noqa: S608 -- the models' names
                raise TargetTaken(f"the database {self.address} has {self._whose()}: name an empty one")

    def _whose(self) -> str:
        if self._exists("meta"):
            for (store_id,) in self._connection.execute("SELECT value FROM meta WHERE key = 'store_id'").fetchall():
                return f"the store {store_id}"
        return "rows of another store"

    def _clear(self) -> None:
        """Empty all tables of the copy; the audit log's triggers are for managers' entries."""
        names = ", ".join(f'"{table.name}"' for table in COPIED_TABLES)
        for statement in (
            "ALTER TABLE audit_entry DISABLE TRIGGER USER",
            f"TRUNCATE {names}",
            "ALTER TABLE audit_entry ENABLE TRIGGER USER",
            "DELETE FROM store_copy_progress",
        ):
            self._connection.execute(statement.encode())

    def _note_decided(self) -> None:
        """Write that every moved threat was decided, also for a worker that stores others before a manager leads."""
        ((last,),) = self._connection.execute(
            "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM threat_sequence"
        ).fetchall()
        self._connection.execute(
            "INSERT INTO meta (key, value) VALUES (%s, %s) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            (PROGRESS, DecidedSequences(last).to_text()),
        )

    def _count_on(self, table: str, column: str) -> None:
        if table == "threat":  # the order of storing never goes back, also where all threats of before are deleted
            highest = (
                "SELECT max(number) FROM (SELECT max(sequence) FROM threat UNION ALL SELECT max(last) FROM"
                " projection_progress UNION ALL SELECT max(last_sequence) FROM agent) AS numbers (number)"
            )
            sequence = "'threat_sequence'"
        else:
            highest = f'SELECT max("{column}") FROM "{table}"'  # noqa: S608 -- the models' names
            sequence = f"pg_get_serial_sequence('{table}', '{column}')"
        self._connection.execute(
            f"SELECT setval({sequence}, greatest(highest, 1), coalesce(highest, 0) > 0)"  # noqa: S608 -- the same
            f" FROM ({highest}) AS found (highest)".encode()
        )
