"""The schema in PostgreSQL: its columns, and its migrations."""

import threading

import psycopg
import pytest

from manager.errors import SetupError
from manager.storage import tables
from manager.storage.postgresql.address import DatabaseAddress
from manager.storage.postgresql.migrate import MIGRATIONS, migrate_postgresql

pytestmark = pytest.mark.postgresql

_KINDS = {"bigint": int, "double precision": float, "text": str, "boolean": bool, "bytea": bytes}
_FIELDS = {
    "INT": int,
    "BIGINT": int,
    "AUTO": int,
    "BIGAUTO": int,
    "DOUBLE": float,
    "TEXT": str,
    "BOOL": bool,
    "BLOB": bytes,
}
_RENAMED = {("stored_id", "received_at"): "stored_at"}
"""In PostgreSQL a row of `stored_id` is written when the report is stored, not when it is pruned."""


def columns_of_models() -> dict[tuple[str, str], tuple[type, bool]]:
    """Return kind and nullability of each column of the models."""
    found = {}
    for model in tables.ALL:
        table = model._meta.table_name
        for field in model._meta.sorted_fields:
            kind = getattr(field, "rel_field", field).field_type
            column = _RENAMED.get((table, field.column_name), field.column_name)
            found[table, column] = (_FIELDS[kind], bool(field.null))
    return found


def test_the_columns_are_those_of_the_models(postgresql_address: DatabaseAddress) -> None:
    """Each column of each model exists with its kind and nullability, and texts compare by code point."""
    with psycopg.connect(postgresql_address.url) as connection:
        rows = connection.execute(
            "SELECT table_name, column_name, data_type, is_nullable, collation_name FROM information_schema.columns"
            " WHERE table_schema = current_schema()"
        ).fetchall()
    names = {model._meta.table_name for model in tables.ALL}
    stored = {(table, column): (_KINDS[kind], null == "YES") for table, column, kind, null, _ in rows if table in names}
    assert stored == columns_of_models()
    assert {collation for table, _, kind, _, collation in rows if table in names and kind == "text"} == {"C"}


def test_managers_that_start_at_once_migrate_once(postgresql_empty: DatabaseAddress) -> None:
    """Of several that start on an empty database one applies the migrations, and the others find them."""
    applied: list[list[str]] = []
    threads = [threading.Thread(target=lambda: applied.append(migrate_postgresql(postgresql_empty))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    every = sorted(path.stem for path in MIGRATIONS.glob("[0-9]*.py"))
    assert sorted(applied) == [[], [], [], every]


def test_a_newer_schema_is_refused(postgresql_address: DatabaseAddress) -> None:
    """A database that a newer release has migrated, and that needs one, is not touched."""
    with psycopg.connect(postgresql_address.url) as connection:
        connection.execute("INSERT INTO schema_migration (name, applied) VALUES ('9999_later', now())")
        connection.execute("UPDATE schema_compatibility SET oldest = 9999")
    with pytest.raises(SetupError, match=r"written by a newer release \(9999_later\)"):
        migrate_postgresql(postgresql_address)


def test_each_migration_has_a_number_of_its_own() -> None:
    """Two with one number would run in the order of their names, which says nothing."""
    numbers = [int(path.name.split("_", 1)[0]) for path in sorted(MIGRATIONS.glob("[0-9]*.py"))]
    assert numbers == list(range(1, len(numbers) + 1))
