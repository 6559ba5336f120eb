"""The migrations of this release, the schema of a database, and the managers that work on it."""

from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import psycopg

from manager.domain.rolling_upgrade import LiveManager, Migration, SchemaState, number_of

MIGRATIONS = Path(__file__).parent / "migrations"

HEARD_WITHIN = 60.0
"""Seconds without a word of a manager after which a migration may remove what it needs."""

_EXISTS = "SELECT to_regclass(%s) IS NOT NULL"
_STATES_NUMBER = """
SELECT EXISTS (
    SELECT FROM pg_attribute WHERE attrelid = to_regclass('manager') AND attname = 'migration' AND NOT attisdropped
)
"""
_LIVE = """
SELECT hostname, role, version, {} FROM manager
WHERE abs(extract(epoch FROM clock_timestamp()) - seen_at) < %s ORDER BY hostname, id
"""
_RAISE = "UPDATE schema_compatibility SET oldest = %s WHERE id = 1 AND oldest < %s"


def known_migrations() -> tuple[Migration, ...]:
    """Return the migrations of this release, in their order."""
    return tuple(Migration(path.stem, _oldest(path)) for path in sorted(MIGRATIONS.glob("[0-9]*.py")))


def newest_migration() -> int:
    """Return the number of the newest migration of this release."""
    return known_migrations()[-1].number


def _oldest(path: Path) -> int:
    spec = spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no migration")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return int(module.OLDEST)


def schema_state(connection: psycopg.Connection[Any]) -> SchemaState:
    """Return the schema of a database."""
    if not _exists(connection, "schema_migration"):
        return SchemaState(frozenset(), None)
    applied = frozenset(name for (name,) in connection.execute("SELECT name FROM schema_migration"))
    return SchemaState(applied, oldest_migration(connection))


def oldest_migration(connection: psycopg.Connection[Any]) -> int | None:
    """Return the oldest migration that a release must know to work with the schema; None where it does not say so."""
    if not _exists(connection, "schema_compatibility"):
        return None
    for (oldest,) in connection.execute("SELECT oldest FROM schema_compatibility WHERE id = 1"):
        return int(oldest)
    return None


def require_knowledge(connection: psycopg.Connection[Any], migration: Migration) -> None:
    """Write, in the transaction of a migration, which one a release must know from now on."""
    if _exists(connection, "schema_compatibility"):
        connection.execute(_RAISE, (migration.oldest, migration.oldest))


def live_managers(connection: psycopg.Connection[Any]) -> Iterator[LiveManager]:
    """Yield the managers that were heard of within a minute, on the database's clock.

    Where the schema has no place for the number that they know, it is that of the schema that they were started on.
    """
    if not _exists(connection, "manager"):
        return
    ((states_number,),) = connection.execute(_STATES_NUMBER)
    known = "migration" if states_number else str(max(map(number_of, schema_state(connection).applied)))
    for hostname, role, version, migration in connection.execute(_LIVE.format(known).encode(), (HEARD_WITHIN,)):
        yield LiveManager(f"{hostname} ({role}, release {version}, knows {migration:04})", migration)


def _exists(connection: psycopg.Connection[Any], table: str) -> bool:
    ((found,),) = connection.execute(_EXISTS, (table,))
    return bool(found)
