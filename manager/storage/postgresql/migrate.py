"""Migrates a PostgreSQL database to this release's schema; of several managers that start at once, one does."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playhouse.migrations import Runner

from manager.errors import SetupError
from manager.storage.postgresql.address import DatabaseAddress
from manager.storage.postgresql.connection import PostgresqlStore, migrating

MIGRATIONS = Path(__file__).parent / "migrations"

LOCKS = 0x50616E67
"""The first number of this program's advisory locks; they are of one database, so that others may use it too."""

_MIGRATION_LOCK = 1


def migrate_postgresql(address: DatabaseAddress) -> list[str]:
    """Apply the pending migrations; return their names.

    Raises:
        SetupError: the database cannot be used, was written by a newer release, or has a part of a SQLite store.
    """
    with migrating(address) as database, migrations_locked(database):
        applied = apply_migrations(database)
        _refuse_incomplete_copy(database)
        return applied


@contextmanager
def migrations_locked(database: PostgresqlStore) -> Iterator[None]:
    """Wait until no other program migrates the database, and keep others away; the lock ends with the connection."""
    database.connection().execute("SELECT pg_advisory_lock(%s, %s)", (LOCKS, _MIGRATION_LOCK))
    yield
    database.connection().execute("SELECT pg_advisory_unlock(%s, %s)", (LOCKS, _MIGRATION_LOCK))


def apply_migrations(database: PostgresqlStore) -> list[str]:
    """Apply the pending migrations to a database whose lock is held; return their names.

    Raises:
        SetupError: it was written by a newer release.
    """
    runner = Runner(database, str(MIGRATIONS))
    unknown = [migration.name for migration in runner.status() if migration.path is None]
    if unknown:
        raise SetupError(f"the store was written by a newer release ({unknown[-1]}); install that release")
    applied: list[str] = runner.up()
    return applied


def _refuse_incomplete_copy(database: PostgresqlStore) -> None:
    incomplete = "SELECT store_id FROM store_copy WHERE completed_at IS NULL"
    for (store_id,) in database.connection().execute(incomplete).fetchall():
        raise SetupError(
            f"the database {database.address} has a part of the SQLite store {store_id}: run `panguard manager migrate`"
            " with that store's data directory to its end"
        )
