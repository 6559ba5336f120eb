"""Migrates a PostgreSQL database to this release's schema; of several managers that start at once, one does."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import structlog
from peewee import DatabaseError, InterfaceError
from playhouse.migrations import Runner
from psycopg.errors import DeadlockDetected, IdleInTransactionSessionTimeout, LockNotAvailable, QueryCanceled

from manager.domain.rolling_upgrade import LiveManager, Migration, SchemaRefused, pending_migrations
from manager.errors import SetupError
from manager.storage.postgresql.address import DatabaseAddress
from manager.storage.postgresql.connection import PostgresqlStore, migrating
from manager.storage.postgresql.schema_versions import (
    MIGRATIONS,
    known_migrations,
    live_managers,
    require_knowledge,
    schema_state,
)

log = structlog.get_logger(__name__)

LOCKS = 0x50616E67
"""The first number of this program's advisory locks; they are of one database, so that others may use it too."""

_MIGRATION_LOCK = 1

LOCK_WAIT = 0.5
"""Seconds that a migration waits for the lock of a table; others that want the table wait behind it meanwhile."""

LOCK_PATIENCE = 60.0
"""Seconds for which a migration is tried again whose tables are locked by others."""

_PAUSE = 1.0
STATEMENT_LIMIT = 10.0
"""Seconds that a statement of a migration may take while other managers work with its tables, and that it may let pass
between two statements, as one that is stopped does."""

TURN_PATIENCE = 300.0
"""Seconds for which a program waits for another one that migrates the database."""

_TURN_LOOK = 0.2

_OPEN_TRANSACTIONS = """
SELECT format('%s (process %s)', coalesce(nullif(application_name, ''), usename), pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND clock_timestamp() - xact_start > interval '1 second'
ORDER BY xact_start LIMIT 3
"""
_MIGRATING_NOW = """
SELECT format('process %%s from %%s', pid, coalesce(host(client_addr), 'the server''s host'))
FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE locktype = 'advisory' AND classid = %s AND objid = %s AND granted AND datname = current_database()
"""


def migrate_postgresql(address: DatabaseAddress) -> list[str]:
    """Apply the pending migrations; return their names. Nothing is done to a newer schema that this release can use.

    Raises:
        SetupError: the database cannot be used, was written by a newer release that this one does not work beside, is
            used by a manager that could not work with it afterwards, or has a part of a SQLite store.
    """
    with migrating(address) as database, migrations_locked(database):
        applied = apply_migrations(database)
        _refuse_incomplete_copy(database)
        return applied


@contextmanager
def migrations_locked(database: PostgresqlStore) -> Iterator[None]:
    """Wait until no other program migrates the database, and keep others away; the lock ends with the connection.

    Raises:
        SetupError: another program has the lock, and keeps it.
    """
    _wait_for_turn(database)
    yield
    database.connection().execute("SELECT pg_advisory_unlock(%s, %s)", (LOCKS, _MIGRATION_LOCK))


def _wait_for_turn(database: PostgresqlStore) -> None:
    until, is_told = time.monotonic() + TURN_PATIENCE, False
    lock = LOCKS, _MIGRATION_LOCK
    while database.connection().execute("SELECT pg_try_advisory_lock(%s, %s)", lock).fetchone() != (True,):
        holder = ", ".join(name for (name,) in database.connection().execute(_MIGRATING_NOW, lock)) or "it has ended"
        if time.monotonic() >= until:
            raise SetupError(
                f"another program has kept the database {database.address} locked for migrations for more than"
                f" {TURN_PATIENCE:g} s ({holder}): start this one again after its end; if it is stopped or hangs,"
                " end it first, by pg_terminate_backend() with the number of the process"
            )
        if not is_told:
            log.info("migration_of_another_program_awaited", holder=holder)
            is_told = True
        time.sleep(_TURN_LOOK)


def apply_migrations(database: PostgresqlStore, *, allows_newer: bool = True) -> list[str]:
    """Apply the pending migrations to a database whose lock is held; return their names.

    Args:
        database: the database.
        allows_newer: whether it may have a schema of a newer release that says that this one works with it.

    Raises:
        SetupError: the schema is too new, or cannot be changed now.
    """
    connection = database.connection()
    schema = schema_state(connection)
    managers = list(live_managers(connection))
    try:
        pending = pending_migrations(known_migrations(), schema, managers)
    except SchemaRefused as refusal:
        raise SetupError(str(refusal)) from refusal
    newer = sorted(schema.applied - {migration.name for migration in known_migrations()})
    if newer and not allows_newer:
        raise SetupError(f"the store was written by a newer release ({newer[-1]}); use that release for this")
    if newer:
        log.info("schema_of_a_newer_release", migrations=newer)
    runner = Runner(database, str(MIGRATIONS))
    for migration in pending:
        _apply(database, runner, migration, managers)
    return [migration.name for migration in pending]


def _apply(database: PostgresqlStore, runner: Runner, migration: Migration, managers: list[LiveManager]) -> None:
    """Apply one migration; again while other transactions keep its tables locked.

    Raises:
        SetupError: they kept them, the migration took too long beside other managers, or its connection was lost.
    """
    connection = database.connection()
    until = time.monotonic() + LOCK_PATIENCE
    while True:
        try:
            _apply_at_once(database, runner, migration, is_bounded=bool(managers))
        except (psycopg.Error, DatabaseError, InterfaceError) as error:
            if connection.closed:
                raise SetupError(_lost(migration, error)) from error
            if managers and _is_caused_by(error, QueryCanceled):
                raise SetupError(
                    f"the migration {migration.name} has a statement that takes more than {STATEMENT_LIMIT:g} s here,"
                    f" for which managers that work would stand still ({', '.join(each.name for each in managers)}):"
                    " stop them, and start this one again; this migration has changed nothing"
                ) from error
            if not _is_caused_by(error, LockNotAvailable, DeadlockDetected):
                raise
            if time.monotonic() >= until:
                raise SetupError(
                    f"the migration {migration.name} did not get the locks of its tables within {LOCK_PATIENCE:g} s,"
                    f" because of transactions of others ({_open_transactions(database)}): end them, and start this one"
                    " again; this migration has changed nothing"
                ) from error
            log.info("migration_waits", migration=migration.name)
            time.sleep(_PAUSE)
        else:
            return


def _apply_at_once(database: PostgresqlStore, runner: Runner, migration: Migration, *, is_bounded: bool) -> None:
    """Apply one migration in one transaction, with what it says of the releases that work with the schema then."""
    with database.atomic():
        connection = database.connection()
        connection.execute(f"SET LOCAL lock_timeout = {LOCK_WAIT * 1000:.0f}".encode())
        if is_bounded:
            for name in ("statement_timeout", "idle_in_transaction_session_timeout"):
                connection.execute(f"SET LOCAL {name} = {STATEMENT_LIMIT * 1000:.0f}".encode())
        runner.up(migration.name)
        require_knowledge(connection, migration)


def _lost(migration: Migration, error: BaseException) -> str:
    """Return why a migration ended whose connection was lost."""
    if _is_caused_by(error, IdleInTransactionSessionTimeout):
        return (
            f"the migration {migration.name} stood still for more than {STATEMENT_LIMIT:g} s, in which managers that"
            " work would wait for its tables, so the server ended it; it has changed nothing: start this one again"
        )
    return (
        f"the connection to the database was lost in the migration {migration.name}, which was applied as a whole or"
        f" not at all ({error}): start this one again"
    )


def _open_transactions(database: PostgresqlStore) -> str:
    names = [name for (name,) in database.connection().execute(_OPEN_TRANSACTIONS)]
    return ", ".join(names) or "see pg_stat_activity"


def _is_caused_by(error: BaseException | None, *kinds: type[psycopg.Error]) -> bool:
    seen: set[Any] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, kinds):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False


def _refuse_incomplete_copy(database: PostgresqlStore) -> None:
    incomplete = "SELECT store_id FROM store_copy WHERE completed_at IS NULL"
    for (store_id,) in database.connection().execute(incomplete).fetchall():
        raise SetupError(
            f"the database {database.address} has a part of the SQLite store {store_id}: run `panguard manager migrate`"
            " with that store's data directory to its end"
        )
