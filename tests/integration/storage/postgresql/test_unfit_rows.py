"""Rows of a SQLite store that PostgreSQL cannot hold as they are: each is named, and nothing of it is changed."""

import itertools
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import seed as hypothesis_seed
from hypothesis import strategies as st

from manager.errors import SetupError
from manager.storage.connection import PAGE, close_store, open_store
from manager.storage.postgresql.address import DatabaseAddress
from manager.storage.store_copy.copying import RowCheck, compare_store, copy_store
from manager.storage.store_copy.postgresql_target import open_target
from manager.storage.store_copy.sqlite_source import SqliteSource
from manager.store_migration import check_move, move_store
from tests.support.examples import examples
from tests.support.migrated_store import open_migrated
from tests.support.moved_stores import database_rows, stopped_manager, store_rows

pytestmark = pytest.mark.postgresql


def unwatched(_verb: str, _rows: int) -> None:
    """Show no progress."""


def write(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        for statement in statements:
            database.execute(statement)


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """Provide the data directory of a stopped manager."""
    return stopped_manager(tmp_path / "data", reports=12)


UNFIT = [
    (
        "UPDATE dead_letter SET reason = 'a' || char(0) || 'b'",
        "table dead_letter, row with id 1, column reason: its text has a NUL character",
    ),
    (
        "UPDATE threat SET type = CAST(x'c328' AS TEXT) WHERE sequence = 9",
        "table threat, row with sequence 9, column type: its text is not UTF-8",
    ),
    (
        "UPDATE threat SET document = CAST(x'22eda08022' AS TEXT) WHERE sequence = 9",
        "table threat, row with sequence 9, column document: its text is not UTF-8",
    ),
    (
        "UPDATE agent SET hostname = x'00ff' WHERE number = 2",
        "table agent, row with number 2, column hostname: it is not text",
    ),
    (
        "UPDATE agent SET policy_version = 1.5 WHERE number = 2",
        "table agent, row with number 2, column policy_version: it is not a number without fraction",
    ),
    (
        "UPDATE agent SET registered_at = 'long ago' WHERE number = 2",
        "table agent, row with number 2, column registered_at: it is not a number",
    ),
    (
        "UPDATE agent_policy SET published = 2 WHERE agent_number = 2",
        "table agent_policy, row with agent_number 2, column published: it is not true or false",
    ),
    (
        "UPDATE threat SET digest = 'text' WHERE sequence = 9",
        "table threat, row with sequence 9, column digest: it is not bytes",
    ),
]


@pytest.mark.parametrize(("statement", "place"), UNFIT)
def test_a_row_that_does_not_fit_is_named(
    stopped: Path, postgresql_empty: DatabaseAddress, statement: str, place: str
) -> None:
    """The dry run lists it, the move ends before it, and the store is a store as before; mended it moves."""
    path = stopped / "panguard.db"
    with closing(sqlite3.connect(path)) as database:
        before = database.execute("SELECT * FROM agent").fetchall(), database.execute("SELECT * FROM threat").fetchall()
        policies = database.execute("SELECT * FROM agent_policy").fetchall()
        letters = database.execute("SELECT * FROM dead_letter").fetchall()
    with pytest.raises(SetupError):  # seals the store
        move_store(stopped, None, DatabaseAddress("postgresql://127.0.0.1:1/none"), unwatched)
    write(path, statement)
    checked = check_move(stopped, None, postgresql_empty, unwatched)
    assert checked.check is not None
    assert checked.check.unfit[0] == place
    with pytest.raises(SetupError, match="The store stays as it was") as raised:
        move_store(stopped, None, postgresql_empty, unwatched)
    assert place in str(raised.value)
    close_store(open_store(path))
    with closing(sqlite3.connect(path)) as database, database:
        for table, rows in (
            ("agent", before[0]),
            ("threat", before[1]),
            ("agent_policy", policies),
            ("dead_letter", letters),
        ):
            places = ", ".join("?" * len(rows[0]))
            database.executemany(f"REPLACE INTO {table} VALUES ({places})", rows)
    assert move_store(stopped, None, postgresql_empty, unwatched).is_moved
    assert database_rows(postgresql_empty) == store_rows(path)


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        (
            (
                "INSERT INTO incident_work SELECT * FROM (VALUES (77, 'inc', 1.0, 'a', 'close', 'n'),"
                " (78, hex(randomblob(3000)), 1.0, 'a', 'close', 'n'))"
            ),
            r"table incident_work, row with id 78: index row .*size",
        ),
        (
            "INSERT INTO stored_id SELECT agent_number, threat_id, x'00', 1.0 FROM threat WHERE sequence = 9",
            r"table stored_id, row with threat_id 'r-0000\d', agent_number \d: duplicate key value",
        ),
    ],
)
def test_a_row_that_the_server_alone_refuses_is_named(
    stopped: Path, postgresql_empty: DatabaseAddress, statement: str, words: str
) -> None:
    """The server names the whole step; the row is found in it."""
    write(stopped / "panguard.db", statement)
    with pytest.raises(SetupError, match=words):
        move_store(stopped, None, postgresql_empty, unwatched)
    close_store(open_store(stopped / "panguard.db"))


def test_texts_are_replaced_where_that_is_wanted(stopped: Path, postgresql_empty: DatabaseAddress) -> None:
    """Each such row is listed, nothing else is changed, and a key or another kind of value is never replaced."""
    path = stopped / "panguard.db"
    write(
        path,
        "UPDATE dead_letter SET reason = 'a' || char(0) || 'b'",
        "UPDATE agent SET policy_error = CAST(x'61c32862eda08063' AS TEXT) WHERE number = 2",
    )
    checked = check_moved(stopped, postgresql_empty)
    assert (checked.unfit, checked.replaced_count) == ([], 2)
    moved = move_store(stopped, None, postgresql_empty, unwatched, replacing=True)
    assert moved.check == checked
    assert checked.replaced[0].startswith("table agent, row with number 2, column policy_error: its text is not UTF-8")
    copied = database_rows(postgresql_empty)
    assert "a\ufffdb" in str(copied["dead_letter"])
    assert "a\ufffd(b\ufffd\ufffd\ufffdc" in str(copied["agent"])
    write_unlocked(
        path,
        "UPDATE dead_letter SET reason = 'a\ufffdb'",
        "UPDATE agent SET policy_error = 'a\ufffd(b\ufffd\ufffd\ufffdc' WHERE number = 2",
    )
    assert copied == store_rows(path)


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO recognized_threat VALUES ('a' || char(0), 'ag', 1.0, 'x', NULL)",
        "UPDATE agent SET hostname = x'00ff' WHERE number = 2",
    ],
)
def test_what_is_no_text_or_a_key_is_not_replaced(
    stopped: Path, postgresql_empty: DatabaseAddress, statement: str
) -> None:
    """Another key would be another row, and bytes in the place of a text are no text."""
    write(stopped / "panguard.db", statement)
    assert len(check_moved(stopped, postgresql_empty).unfit) == 1
    with pytest.raises(SetupError, match="The store stays as it was"):
        move_store(stopped, None, postgresql_empty, unwatched, replacing=True)


def check_moved(stopped: Path, address: DatabaseAddress) -> RowCheck:
    """Return the check of a move that may replace texts."""
    with pytest.raises(SetupError):  # seals the store
        move_store(stopped, None, DatabaseAddress("postgresql://127.0.0.1:1/none"), unwatched)
    check = check_move(stopped, None, address, unwatched, replacing=True).check
    assert check is not None
    return check


def write_unlocked(path: Path, *statements: str) -> None:
    """Write to a store that was moved."""
    path.chmod(0o600)
    write(path, *statements)


def test_a_damaged_store_is_not_moved(stopped: Path, postgresql_empty: DatabaseAddress) -> None:
    """The check before a start finds it, and the database stays empty."""
    path = stopped / "panguard.db"
    content = bytearray(path.read_bytes())
    content[2 * PAGE : 3 * PAGE] = bytes(PAGE)
    path.write_bytes(content)
    with pytest.raises(SetupError, match="is damaged"):
        move_store(stopped, None, postgresql_empty, unwatched)


NUMBERS = st.one_of(st.integers(-(2**63), 2**63 - 1), st.sampled_from([0, -(2**63), 2**63 - 1, 2**31, 2**53 + 1]))
FLOATS = st.one_of(
    st.floats(allow_nan=False),
    st.sampled_from([0.0, -0.0, 5e-324, 1.7976931348623157e308, float("inf"), float("-inf")]),
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
HOSTILE = st.sampled_from(["\\N", "\\.", "\t\n\r\\", "\x1b[31m", "\U0010ffff", "\ufffe", "'; DROP TABLE agent; --", ""])


ROWS = st.tuples(FLOATS, st.one_of(TEXTS, HOSTILE), TEXTS, st.one_of(HOSTILE, TEXTS), NUMBERS, st.binary(max_size=40))


@pytest.mark.parametrize("seed", range(3))
def test_every_value_that_fits_comes_back(tmp_path: Path, postgresql_address: DatabaseAddress, seed: int) -> None:
    """Any text, number and bytes, and keys in the order of their bytes; no comparison calls equal rows different."""
    copies = itertools.count()
    with open_target(postgresql_address) as target:

        @hypothesis_seed(seed)
        @settings(max_examples=examples(25), deadline=None, database=None)
        @given(rows=st.lists(ROWS, max_size=30), names=st.lists(st.one_of(TEXTS, HOSTILE), unique=True, max_size=12))
        def check(rows: list[tuple[float, str, str, str, int, bytes]], names: list[str]) -> None:
            path = tmp_path / f"{next(copies)}.db"
            close_store(open_migrated(path))
            with closing(sqlite3.connect(path)) as database, database:
                database.executemany(
                    "INSERT INTO dead_letter (received_at, topic, reason, size, payload) VALUES (?, ?, ?, ?, ?)",
                    [(at, topic, reason + more, size, payload) for at, topic, reason, more, size, payload in rows],
                )
                times = {row[4]: row[0] for row in rows}
                database.executemany("INSERT INTO login_reporter VALUES (?, ?)", times.items())
                database.executemany("INSERT INTO projection_progress VALUES (?, 0)", [(name,) for name in names])
            with SqliteSource(path) as source:
                target.claim("store-1", path.name)
                copy_store(source, target, unwatched)
                compare_store(source, target, unwatched)
            assert database_rows(postgresql_address) == store_rows(path)

        check()
