"""The writer's WAL stays small, even if at every moment some reader uses it."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from manager.engine.batch import Changes
from manager.storage.connection import PAGE, close_store, open_store
from manager.storage.migrate import migrate
from manager.storage.store import PeeweeStore
from manager.storage.wal_bound import LIMIT, WalBound
from tests.support.waiting import eventually

MIB = 2**20


@contextmanager
def overlapping_readers(store: Path, seconds: float = 0.01) -> Iterator[None]:
    """Keep at least one of two read transactions open at every moment, each for so many seconds."""
    over, started = threading.Event(), threading.Event()

    def read() -> None:
        with (
            closing(sqlite3.connect(store, isolation_level=None)) as first,
            closing(sqlite3.connect(store, isolation_level=None)) as second,
        ):
            _begin(first)
            started.set()
            while not over.is_set():
                _begin(second)
                first.execute("COMMIT")
                over.wait(seconds / 2)
                _begin(first)
                second.execute("COMMIT")
                over.wait(seconds / 2)

    thread = threading.Thread(target=read)
    thread.start()
    started.wait(10)
    try:
        yield
    finally:
        over.set()
        thread.join()


def _begin(reader: sqlite3.Connection) -> None:
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM meta").fetchone()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[PeeweeStore]:
    database = open_store(tmp_path / "panguard.db")
    migrate(database, tmp_path / "panguard.db")
    yield PeeweeStore(database, bytes(32))
    close_store(database)


def changes(number: int) -> Changes:
    """Return changes of 256 KiB, all different from those of the number before."""
    return Changes(meta={"key": chr(ord("a") + number % 2) * (256 * 1024)})


def write(store: PeeweeStore, total: int) -> None:
    """Write so many bytes in commits of 256 KiB."""
    for number in range(total // (256 * 1024)):
        store.commit(changes(number))


def used(path: Path) -> int:
    """Return the bytes of the WAL that are in use; its file may be larger."""
    with closing(sqlite3.connect(path)) as database:
        return int(database.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[1]) * PAGE


@pytest.mark.parametrize("seconds", [0.01, 0.8])
def test_the_wal_comes_back_to_its_limit_while_readers_overlap(
    store: PeeweeStore, tmp_path: Path, seconds: float
) -> None:
    """After 64 MiB written without a moment free of readers, and still without one, the WAL is within its limit."""
    path = tmp_path / "panguard.db"
    with overlapping_readers(path, seconds):
        write(store, 64 * MIB)

        def is_small() -> bool:
            write(store, MIB)
            return used(path) <= LIMIT

        eventually(is_small, what="a small WAL")


def test_without_the_limit_the_wal_grows_with_every_write(
    store: PeeweeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite's own checkpoint alone never starts the WAL anew while a reader has the state before each commit."""
    monkeypatch.setattr(WalBound, "enforce", lambda _self: None)
    path = tmp_path / "panguard.db"
    with (
        closing(sqlite3.connect(path, isolation_level=None)) as first,
        closing(sqlite3.connect(path, isolation_level=None)) as second,
    ):
        before, after = first, second
        _begin(before)
        for number in range(256):
            store.commit(changes(number))
            _begin(after)
            before.execute("COMMIT")
            before, after = after, before
        assert used(path) > 60 * MIB


def test_a_reader_that_stays_delays_the_limit_and_no_commit(store: PeeweeStore, tmp_path: Path) -> None:
    """With a reader that never ends commits go on; the first commits after it bring the WAL back."""
    path = tmp_path / "panguard.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        _begin(reader)
        write(store, 20 * MIB)
        assert used(path) > LIMIT

    def is_small() -> bool:
        store.commit(Changes(meta={"key": "a short value"}))
        return used(path) <= LIMIT

    eventually(is_small, what="a small WAL")
