"""The schema: what the migrations make, and what they do to a store that already holds something."""

from pathlib import Path

import pytest
from peewee import SqliteDatabase
from playhouse.migrations import Runner
from playhouse.schema_diff import diff_models

from manager.errors import SetupError
from manager.storage import tables
from manager.storage.connection import open_store
from manager.storage.migrate import MIGRATIONS, migrate


def test_the_migrations_make_the_tables(tmp_path: Path) -> None:
    """All migrations together leave exactly the tables, columns and indexes that the models describe."""
    path = tmp_path / "store.db"
    database = open_store(path)
    tables.database.initialize(database)
    applied = migrate(database, path)
    assert applied == sorted(file.stem for file in MIGRATIONS.glob("[0-9]*.py"))
    assert not diff_models(database, list(tables.ALL))
    assert migrate(database, path) == []
    database.close()


@pytest.mark.parametrize("release", sorted(file.stem for file in MIGRATIONS.glob("[0-9]*.py"))[:-1])
def test_an_older_store_is_backed_up_and_brought_up(tmp_path: Path, release: str) -> None:
    """A store of any earlier schema keeps its rows, and a copy of it stays beside it."""
    path = tmp_path / "store.db"
    database = open_store(path)
    Runner(database, str(MIGRATIONS)).up(release)
    database.execute_sql("INSERT INTO meta (key, value) VALUES ('kept', 'yes')")
    tables.database.initialize(database)
    pending = migrate(database, path)
    assert not diff_models(database, list(tables.ALL))
    assert database.execute_sql("SELECT value FROM meta WHERE key = 'kept'").fetchone() == ("yes",)
    database.close()
    backup = tmp_path / f"store.db.before-{pending[0]}"
    assert backup.stat().st_mode & 0o777 == 0o600
    copy = SqliteDatabase(str(backup))
    assert copy.execute_sql("SELECT value FROM meta WHERE key = 'kept'").fetchone() == ("yes",)
    copy.close()


def test_a_store_of_a_newer_release_is_left_alone(tmp_path: Path) -> None:
    """A store that knows a migration which this release does not is refused, with what to do."""
    path = tmp_path / "store.db"
    database = open_store(path)
    tables.database.initialize(database)
    migrate(database, path)
    database.execute_sql("INSERT INTO schema_migration (name, applied) VALUES ('9999_future', '2030-01-01')")
    with pytest.raises(SetupError, match="newer release"):
        migrate(database, path)
    database.close()


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    """A file that is no database is named, with what to do."""
    path = tmp_path / "store.db"
    path.write_bytes(b"this is no database, however long it may go on" * 100)
    with pytest.raises(SetupError, match="backup"):
        open_store(path)
