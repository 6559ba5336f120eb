"""New stores with this release's schema, on the database system of the present test; SQLite where it names none.

SQLite's migrations run once in a process, and each store is a copy. On PostgreSQL a file's path stands for a database,
so that a store that is opened again is the same one.
"""

import functools
import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from pathlib import Path

import psycopg
import pytest
from peewee import Database

from manager.storage.connection import close_store, open_reader, open_store
from manager.storage.migrate import migrate
from manager.storage.postgresql.address import DatabaseAddress
from manager.storage.postgresql.connection import open_postgresql_reader, open_writer
from tests.support.postgresql import Postgresql

_MOST_DATABASES = 10

SQLITE, POSTGRESQL, TWO_MANAGERS = "sqlite", "postgresql", "postgresql-two"
"""The database systems by their names; the last is PostgreSQL with two managers."""


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

    def drop_below(self, directory: Path) -> None:
        self.drop([each for each in self._known if each.is_relative_to(directory)])

    def drop(self, paths: list[Path] | None = None) -> None:
        for path in list(self._known) if paths is None else paths:
            self._cluster.drop(self._known.pop(path))


class _Present:
    """The databases of the present test, None where stores are SQLite's files; and if a manager process has another."""

    databases: _Databases | None = None
    has_two_managers = False
    ends = ExitStack()


@contextmanager
def stores_in(cluster: Postgresql | None, *, two_managers: bool = False) -> Iterator[None]:
    """Make stores in a cluster as long as the context lasts, and drop them at its end; None for SQLite's files.

    Args:
        cluster: the cluster of the databases.
        two_managers: whether each manager process stands by for another one.
    """
    before = _Present.databases, _Present.has_two_managers, _Present.ends
    databases = None if cluster is None else _Databases(cluster)
    try:
        with ExitStack() as ends:
            _Present.databases, _Present.has_two_managers, _Present.ends = databases, two_managers, ends
            yield
    finally:
        _Present.databases, _Present.has_two_managers, _Present.ends = before
        if databases is not None:
            databases.drop()


def has_two_managers() -> bool:
    """Return whether each manager process of the present test stands by for another one."""
    return _Present.has_two_managers


def end_with_stores(end: Callable[[], object]) -> None:
    """Call something when the stores of the present test are dropped."""
    _Present.ends.callback(end)


@pytest.fixture(scope="session", autouse=True)
def system_of_the_run(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run the tests that name no system on the one in PANGUARD_TEST_SYSTEM."""
    with deployed(os.environ.get("PANGUARD_TEST_SYSTEM", SQLITE), request):
        yield


@pytest.fixture(autouse=True)
def stores_of_one_test(request: pytest.FixtureRequest) -> Iterator[None]:
    """Drop the databases that stand for stores in a test's own directory when it ends: the next test may have them."""
    databases = _Present.databases
    is_used = databases is not None and "tmp_path" in request.fixturenames
    directory = request.getfixturevalue("tmp_path") if is_used else None
    yield
    if databases is not None and directory is not None:
        databases.drop_below(directory)


def deployed(name: str, request: pytest.FixtureRequest) -> AbstractContextManager[None]:
    """Return the context in which stores are on a system, by its name."""
    if name not in {SQLITE, POSTGRESQL, TWO_MANAGERS}:
        raise ValueError(f"PANGUARD_TEST_SYSTEM is {name!r}: it must be {SQLITE}, {POSTGRESQL} or {TWO_MANAGERS}")
    if name == SQLITE:
        return stores_in(None)
    return stores_in(request.getfixturevalue("postgresql_cluster"), two_managers=name == TWO_MANAGERS)


SYSTEMS = [SQLITE, pytest.param(POSTGRESQL, marks=pytest.mark.postgresql)]
WITH_TWO = pytest.param(
    TWO_MANAGERS,
    marks=[
        pytest.mark.long("tests/integration/api/test_forwarding.py"),
        pytest.mark.postgresql,
        pytest.mark.mosquitto,
    ],
)
"""The parameter of a test with two managers on PostgreSQL and Mosquitto, of which one stands by; long."""


@pytest.fixture(scope="module", params=SYSTEMS)
def each_system(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run a test on each database system; provide its name."""
    with deployed(request.param, request):
        yield request.param


@pytest.fixture(scope="module", params=[SQLITE, WITH_TWO])
def each_deployment(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run a test of manager processes with one on SQLite, and with two on PostgreSQL and Mosquitto; provide the name.

    A test that has it one on PostgreSQL, too, gives it the parameters itself.
    """
    with deployed(request.param, request):
        yield request.param


def open_migrated(path: Path) -> Database:
    """Open the writer's database of a store; one that does not exist is made with the present schema."""
    if _Present.databases is not None:
        return open_writer(_Present.databases.of(path))
    if path.exists():
        database = open_store(path)
        migrate(database, path)
        return database
    path.touch(mode=0o600)
    path.write_bytes(_new_store())
    return open_store(path)


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


def store_environment(data: Path) -> dict[str, str]:
    """Return the variables by which a manager's store is on the database system of the present test."""
    database = address_of(data / "panguard.db")
    return {} if database is None else {"PANGUARD_DATABASE": database.url}


@contextmanager
def held_store(data: Path) -> Iterator[None]:
    """Keep a manager's store from taking reports within the block; it can be read."""
    database = address_of(data / "panguard.db")
    if database is None:
        with closing(sqlite3.connect(data / "panguard.db", isolation_level=None)) as holder:
            holder.execute("BEGIN IMMEDIATE")
            yield
            holder.execute("ROLLBACK")
        return
    with psycopg.connect(database.url) as connection:
        connection.execute("LOCK TABLE stored_id IN EXCLUSIVE MODE")
        yield
        connection.rollback()
