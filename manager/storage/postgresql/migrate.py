"""Migrates a PostgreSQL database to this release's schema; of several managers that start at once, one does."""

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
        SetupError: the database cannot be used, or was written by a newer release.
    """
    with migrating(address) as database:
        connection = database.connection()
        connection.execute("SELECT pg_advisory_lock(%s, %s)", (LOCKS, _MIGRATION_LOCK))  # ends with the connection
        return _migrate(database)


def _migrate(database: PostgresqlStore) -> list[str]:
    runner = Runner(database, str(MIGRATIONS))
    unknown = [migration.name for migration in runner.status() if migration.path is None]
    if unknown:
        raise SetupError(f"the store was written by a newer release ({unknown[-1]}); install that release")
    applied: list[str] = runner.up()
    return applied
