"""A move that is killed at any point goes on when it is run again, and a copy that differs is found."""

import os
import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from manager.errors import SetupError
from manager.storage.connection import close_store, open_store
from manager.storage.moved_store import move_of
from manager.storage.postgresql.address import DatabaseAddress
from manager.storage.postgresql.migrate import migrate_postgresql
from manager.storage.store_copy import copying
from manager.store_migration import StoreMigration, move_store
from tests.support.moved_stores import database_rows, stopped_manager, store_rows
from tests.support.postgresql import Postgresql

pytestmark = pytest.mark.postgresql
LONG = pytest.mark.long("tests/integration/storage/postgresql/test_store_migration.py")
"""For points of a move beside others that run always."""

_MOVE = """
import os, signal, sys
from pathlib import Path
from manager import store_migration
from manager.storage.postgresql.address import DatabaseAddress
from manager.storage.store_copy import copying, postgresql_target
from manager.storage.store_copy.postgresql_target import PostgresqlTarget
from manager.storage.store_copy.sqlite_source import SqliteSource

def killed(*_args):
    os.kill(os.getpid(), signal.SIGKILL)

def kill_at(owner, name, number=1, *, after=False):
    done, calls = getattr(owner, name), []

    def wrapped(*args):
        calls.append(args)
        if len(calls) == number and not after:
            killed()
        answer = done(*args)
        if len(calls) == number:
            killed()
        return answer

    setattr(owner, name, wrapped)

copying._ROWS = 7
point, directory, url = sys.argv[1:]
name, _, number = point.partition(" ")
kill_at(*{
    "claim": (PostgresqlTarget, "_clear"),
    "step": (PostgresqlTarget, "take", int(number or 1)),
    "within": (postgresql_target, "copy_rows", int(number or 1)),
    "compare": (store_migration, "compare_store"),
    "complete": (PostgresqlTarget, "complete"),
    "mark": (SqliteSource, "mark_moved"),
    "commit": (SqliteSource, "mark_moved"),
    "analyze": (PostgresqlTarget, "analyze"),
    "leave": (SqliteSource, "make_read_only"),
}[name], after=name in ("within", "commit"))
store_migration.move_store(Path(directory), None, DatabaseAddress(url), lambda verb, rows: None)
"""


def run_to(point: str, directory: Path, address: DatabaseAddress) -> int:
    """Move a store in a process that is killed at a point; return its exit status."""
    command = [sys.executable, "-c", _MOVE, point, str(directory), address.url]
    return subprocess.run(command, check=False, capture_output=True).returncode  # noqa: S603 -- the test's own


def move(directory: Path, address: DatabaseAddress) -> StoreMigration:
    return move_store(directory, None, address, lambda _verb, _rows: None)


def execute(address: DatabaseAddress, statement: str) -> None:
    with psycopg.connect(address.url, autocommit=True) as connection:
        connection.execute(statement.encode())


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """Provide the data directory of a stopped manager."""
    return stopped_manager(tmp_path / "data")


def starts_on(directory: Path, address: DatabaseAddress) -> list[str]:
    """Return on which of the two stores a manager would start."""
    found = []
    try:
        close_store(open_store(directory / "panguard.db"))
        found.append("sqlite")
    except SetupError:
        pass
    try:
        migrate_postgresql(address)
        found.append("postgresql")
    except SetupError:
        pass
    return found


@pytest.mark.parametrize(
    ("point", "starts"),
    [
        ("step 1", ["sqlite"]),
        pytest.param("step 9", ["sqlite"], marks=LONG),
        ("within 9", ["sqlite"]),
        pytest.param("compare", ["sqlite"], marks=LONG),
        ("complete", ["sqlite"]),
        pytest.param("mark", ["sqlite"], marks=LONG),
        ("commit", []),
        ("analyze", ["postgresql"]),
        pytest.param("leave", ["postgresql"], marks=LONG),
    ],
)
def test_a_killed_move_goes_on(stopped: Path, postgresql_empty: DatabaseAddress, point: str, starts: list[str]) -> None:
    """At no moment can a manager be started on both stores, and the second run brings the move to its end."""
    assert run_to(point, stopped, postgresql_empty) == -signal.SIGKILL
    assert starts_on(stopped, postgresql_empty) == starts
    before = store_rows(stopped / "panguard.db")
    again = move(stopped, postgresql_empty)
    assert again.is_moved
    assert database_rows(postgresql_empty) == before
    assert starts_on(stopped, postgresql_empty) == ["postgresql"]
    assert (stopped / "panguard.db").stat().st_mode & 0o777 == 0o400
    assert bool(again.copied_before) == (point != "step 1")


def test_a_move_that_is_killed_at_its_beginning_leaves_an_empty_database(
    stopped: Path, postgresql_empty: DatabaseAddress
) -> None:
    """Before the copy is claimed nothing says that there is one: a manager may start on either, as before."""
    assert run_to("claim", stopped, postgresql_empty) == -signal.SIGKILL
    assert move_of(stopped / "panguard.db") is None
    assert move(stopped, postgresql_empty).copied_before == 0


@LONG
def test_a_move_that_is_killed_again_and_again_ends(stopped: Path, postgresql_empty: DatabaseAddress) -> None:
    """Each run does eleven steps before it is killed; in the end every row was copied once."""
    before = store_rows(stopped / "panguard.db")
    runs = 0
    while run_to("step 12", stopped, postgresql_empty) == -signal.SIGKILL:
        runs += 1
        assert runs < 20
    assert runs > 3
    copied = database_rows(postgresql_empty)
    for name in ("meta", "sealed_value"):
        assert set(copied.pop(name)) >= set(before.pop(name))
    assert copied == before


def test_a_store_that_a_manager_used_meanwhile_is_copied_anew(stopped: Path, postgresql_empty: DatabaseAddress) -> None:
    """What changed in copied rows is not missed: the copy begins again."""
    assert run_to("step 20", stopped, postgresql_empty) == -signal.SIGKILL
    database = open_store(stopped / "panguard.db")
    database.execute_sql("UPDATE agent SET version = 'changed'")
    database.execute_sql("DELETE FROM threat WHERE sequence = (SELECT min(sequence) FROM threat)")
    close_store(database)
    assert move(stopped, postgresql_empty).copied_before == 0
    assert database_rows(postgresql_empty) == store_rows(stopped / "panguard.db")


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        (
            "UPDATE threat SET document = document || ' ' WHERE sequence = 30",
            r"table threat, row with sequence 30, differs in document",
        ),
        (
            "UPDATE agent SET registered_at = registered_at + 1e-6 WHERE number = 2",
            r"table agent, row with number 2, differs in registered_at",
        ),
        (
            "DELETE FROM stored_id WHERE threat_id = 'r-00007'",
            r"table stored_id, row with threat_id 'r-00007', agent_number 4, is not in the copy",
        ),
        (
            "INSERT INTO incident_work (incident_id, at, author, action) VALUES ('inc-x', 1, 'x', 'close')",
            r"table incident_work, row with id \d+, is in the copy alone",
        ),
    ],
)
def test_a_copy_that_differs_is_found(
    stopped: Path, postgresql_empty: DatabaseAddress, statement: str, words: str
) -> None:
    """One changed, missing or added row is named, the store stays a store, and the next run copies everything anew."""
    assert run_to("compare", stopped, postgresql_empty) == -signal.SIGKILL
    execute(postgresql_empty, statement)
    with pytest.raises(SetupError, match=words):
        move(stopped, postgresql_empty)
    assert starts_on(stopped, postgresql_empty) == ["sqlite"]
    assert move(stopped, postgresql_empty).copied_before == 0
    assert database_rows(postgresql_empty) == store_rows(stopped / "panguard.db")


def test_a_copy_that_was_changed_before_its_last_commit_gives_the_store_back(
    stopped: Path, postgresql_empty: DatabaseAddress
) -> None:
    """The file was marked already; the marker goes, because the database is not the store."""
    assert run_to("commit", stopped, postgresql_empty) == -signal.SIGKILL
    execute(postgresql_empty, "DELETE FROM event WHERE sequence = 1")
    with pytest.raises(SetupError, match=r"table event, row with sequence 1, is not in the copy"):
        move(stopped, postgresql_empty)
    assert starts_on(stopped, postgresql_empty) == ["sqlite"]
    assert move(stopped, postgresql_empty).is_moved


@pytest.fixture
def own_server() -> Iterator[Postgresql]:
    """Provide a server that a test may kill."""
    with Postgresql() as server:
        yield server


def test_a_server_that_is_killed_loses_no_step(
    stopped: Path, own_server: Postgresql, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The move ends with a sentence; the steps that were committed are there when the server is back."""
    address = own_server.create_empty()
    monkeypatch.setattr(copying, "_ROWS", 7)
    done: list[int] = []

    def watch(verb: str, rows: int) -> None:
        if verb == "copied" and rows > 100 and not done:
            own_server.kill()
            done.append(rows)

    with pytest.raises(SetupError, match="the store stays as it was: run this again when it works"):
        move_store(stopped, None, address, watch)
    close_store(open_store(stopped / "panguard.db"))
    own_server.start()
    assert move(stopped, address).copied_before in (0, done[0])
    assert database_rows(address) == store_rows(stopped / "panguard.db")


def test_a_full_disk_of_the_server_is_named(stopped: Path, own_server: Postgresql) -> None:
    """A server that cannot write ends the move with its own words, and the next run goes on."""
    with closing(sqlite3.connect(stopped / "panguard.db")) as database, database:
        for number in range(6):
            payload = os.urandom(4_000_000)
            database.execute("INSERT INTO dead_letter VALUES (NULL, 1, 't', 'r', ?, ?)", (number, payload))
    address = own_server.create_empty()
    own_server.stop()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (17 * 1024 * 1024, limits[1]))  # the server inherits it
    try:
        own_server.start()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    with pytest.raises(SetupError, match=r"could not (extend|write).* the store stays as it was"):
        move(stopped, address)
    close_store(open_store(stopped / "panguard.db"))
    own_server.stop()
    own_server.start()
    again = move(stopped, address)
    assert again.copied_before > 0
    assert database_rows(address) == store_rows(stopped / "panguard.db")
