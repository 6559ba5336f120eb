"""New stores with this release's schema, on the database system of the present test; SQLite where it names none.

SQLite's migrations run once in a process, and each store is a copy. On PostgreSQL a file's path stands for a database,
so that a store that is opened again is the same one.
"""

import functools
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
from peewee import Database

from manager.storage.connection import close_store, open_reader, open_store
from manager.storage.migrate import migrate
from manager.storage.postgresql.address import DatabaseAddress
from manager.storage.postgresql.connection import open_postgresql_reader, open_writer
from tests.support.postgresql import Postgresql

_MOST_DATABASES = 10


class _Databases:
    """The databases that stand for stores, by the paths of these; the oldest whose directories are gone are dropped."""

    def __init__(self, cluster: Postgresql) -> None:
        self._cluster = cluster
        self._known: dict[Path, DatabaseAddress] = {}

    def of(self, path: Path) -> DatabaseAddress:
        if path not in self._known:
            if len(self._known) >= _MOST_DATABASES:
                self.drop([each for each in self._known if not each.parent.exists()])
            self._known[path] = self._cluster.create_migrated()
        return self._known[path]

    def drop(self, paths: list[Path] | None = None) -> None:
        for path in list(self._known) if paths is None else paths:
            self._cluster.drop(self._known.pop(path))


class _Present:
    """The databases of the present test; None where stores are SQLite's files."""

    databases: _Databases | None = None


@contextmanager
def stores_in(cluster: Postgresql | None) -> Iterator[None]:
    """Make stores in a cluster as long as the context lasts, and drop them at its end; None for SQLite's files."""
    before = _Present.databases
    _Present.databases = databases = None if cluster is None else _Databases(cluster)
    try:
        yield
    finally:
        _Present.databases = before
        if databases is not None:
            databases.drop()


@pytest.fixture(scope="session", autouse=True)
def system_of_the_run(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run the tests that name no system on the one in PANGUARD_TEST_SYSTEM."""
    is_sqlite = os.environ.get("PANGUARD_TEST_SYSTEM", "sqlite") == "sqlite"
    with nullcontext() if is_sqlite else stores_in(request.getfixturevalue("postgresql_cluster")):
        yield


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def each_system(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run a test on each database system; provide its name."""
    with stores_in(None if request.param == "sqlite" else request.getfixturevalue("postgresql_cluster")):
        yield request.param


def open_migrated(path: Path) -> Database:
    """Open the writer's database of a store; one that does not exist is made with the present schema."""
    if _Present.databases is not None:
        return open_writer(_Present.databases.of(path))
    if not path.exists():
        path.touch(mode=0o600)
        path.write_bytes(_new_store())
    database = open_store(path)
    migrate(database, path)
    return database


def open_reading(path: Path) -> Database:
    """Open a store for reading."""
    if _Present.databases is not None:
        return open_postgresql_reader(_Present.databases.of(path))
    return open_reader(path)


def forgo_durability(database: Database) -> None:
    """Let a store's commits end before they are on the disk, in a test that crashes no machine."""
    if _Present.databases is None:
        database.execute_sql("PRAGMA synchronous = off")


@functools.cache
def _new_store() -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "panguard.db"
        database = open_store(path)
        migrate(database, path)
        close_store(database)
        return path.read_bytes()


def address_of(path: Path) -> DatabaseAddress | None:
    """Return the address of the database that stands for a store; None where it is SQLite's file."""
    return None if _Present.databases is None else _Present.databases.of(path)
