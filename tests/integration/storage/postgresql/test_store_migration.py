"""A stopped manager's store moved into a PostgreSQL database: every row is there, and the file is no store any more."""

import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import psycopg
import pytest
from playhouse.migrations import Runner

from manager.data_directory import DataDirectory
from manager.errors import DataDirectoryInUse, SetupError
from manager.storage.connection import close_store, open_reader, open_store
from manager.storage.migrate import MIGRATIONS
from manager.storage.moved_store import move_of
from manager.storage.postgresql.address import DatabaseAddress
from manager.storage.postgresql.connection import open_postgresql_reader
from manager.storage.postgresql.migrate import migrate_postgresql
from manager.storage.queries import StoreQueries
from manager.storage.store_copy import postgresql_target
from manager.storage.store_copy.copied_tables import COPIED_TABLES
from manager.storage.store_copy.copying import RowCheck
from manager.storage.store_copy.postgresql_target import TargetTaken
from manager.store_migration import StoreMigration, check_move, move_store
from tests.support.engine import START
from tests.support.every_query import answers
from tests.support.moved_stores import database_rows, key_file_of, stopped_manager, store_rows

pytestmark = pytest.mark.postgresql


def unwatched(_verb: str, _rows: int) -> None:
    """Show no progress."""


def move(directory: Path, address: DatabaseAddress) -> StoreMigration:
    return move_store(directory, None, address, unwatched)


def execute(address: DatabaseAddress, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(address.url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """Provide the data directory of a stopped manager."""
    return stopped_manager(tmp_path / "data")


def test_every_row_is_moved(stopped: Path, postgresql_empty: DatabaseAddress) -> None:
    """Each table has the same rows on both sides, and every report that is kept or pruned has its id."""
    before = store_rows(stopped / "panguard.db")
    moved = move(stopped, postgresql_empty)
    copied = database_rows(postgresql_empty)
    assert {name for name, rows in copied.items() if rows} >= {
        "agent", "threat", "stored_id", "incident", "incident_member", "emergency_entry", "audit_entry", "dead_letter",
        "event", "policy_revision", "enrollment_token", "sealed_value", "threat_kind_count", "agent_vitals",
    }  # fmt: skip
    for secret in ("meta", "sealed_value"):  # the store's id, and what its first opening with a key file seals
        assert set(copied.pop(secret)) >= set(before.pop(secret))
    assert copied == before
    assert len(copied["threat"]) < len(copied["stored_id"]) == 60
    assert moved.is_moved
    assert {table.name: table.rows for table in moved.tables}["stored_id"] == 60


def test_every_query_answers_as_before(stopped: Path, postgresql_empty: DatabaseAddress) -> None:
    """Lists, pages, counts and searches; tests/property/test_moved_histories.py does it over random histories."""
    columns = {
        "agents": "SELECT agent_id FROM agent",
        "incidents": "SELECT id FROM incident",
        "blocks": "SELECT id FROM emergency_entry",
        "threats": "SELECT threat_id FROM threat ORDER BY sequence LIMIT 5",
        "channels": "SELECT channel FROM notification_cursor",
    }
    with closing(open_reader(stopped / "panguard.db")) as reader:
        ids = {name: [value for (value,) in reader.execute_sql(query)] for name, query in columns.items()}
        before = answers(StoreQueries(reader), ids, START + 60)
    move(stopped, postgresql_empty)
    with closing(open_postgresql_reader(postgresql_empty)) as reader:
        after = answers(StoreQueries(reader), ids, START + 60)
    assert after == before
    assert sum(bool(answer) for answer in before.values()) > 150


def test_every_table_of_the_store_is_copied(stopped: Path) -> None:
    """A table that a later migration adds is not forgotten."""
    with closing(sqlite3.connect(stopped / "panguard.db")) as database:
        names = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert {table.name for table in COPIED_TABLES} == names - {"schema_migration"}


def test_numbers_go_on_behind_the_moved_ones(stopped: Path, postgresql_empty: DatabaseAddress) -> None:
    """The next threat and the next row of each counted table get a number above all that were moved."""
    move(stopped, postgresql_empty)
    assert execute(postgresql_empty, "SELECT max(sequence) FROM threat") == [(60,)]
    assert execute(postgresql_empty, "SELECT allocate_sequences(1)") == [(61,)]
    for table in COPIED_TABLES:
        if table.counted is not None and table.name != "threat":
            (sequence,) = execute(postgresql_empty, f"SELECT pg_get_serial_sequence('{table.name}', '{table.counted}')")
            ((following,),) = execute(postgresql_empty, f"SELECT nextval('{sequence[0]}')")
            ((last,),) = execute(postgresql_empty, f'SELECT coalesce(max("{table.counted}"), 0) FROM "{table.name}"')
            assert following == last + 1, table.name


def test_threats_are_in_the_partitions_of_their_time(stopped: Path, postgresql_empty: DatabaseAddress) -> None:
    """Retention drops them as a whole; a time that cannot be right has no partition."""
    with closing(sqlite3.connect(stopped / "panguard.db")) as database, database:
        database.execute("UPDATE threat SET received_at = 1790000000.5 + 3600 * (sequence % 3)")
        database.execute(
            "UPDATE threat SET received_at = CASE sequence WHEN 60 THEN 1e300 ELSE -7 END WHERE sequence > 58"
        )
    assert move(stopped, postgresql_empty).is_moved
    found = execute(postgresql_empty, "SELECT tableoid::regclass::text, count(*) FROM threat GROUP BY 1 ORDER BY 1")
    hours = [f"threat_{start}_{start + 3600}" for start in range(1790000000 // 3600 * 3600, 1790010000, 3600)]
    assert [name for name, _ in found] == [*hours[:3], "threat_of_other_days"]
    assert dict(found)["threat_of_other_days"] == 2


def test_the_order_of_storing_goes_on_where_all_threats_are_pruned(
    stopped: Path, postgresql_empty: DatabaseAddress
) -> None:
    """No sequence is used twice, although no threat tells the highest one."""
    with closing(sqlite3.connect(stopped / "panguard.db")) as database, database:
        database.execute("DELETE FROM threat")
    move(stopped, postgresql_empty)
    assert execute(postgresql_empty, "SELECT allocate_sequences(1) > 60") == [(True,)]


def test_a_moved_store_is_not_started_by_mistake(stopped: Path, postgresql_empty: DatabaseAddress) -> None:
    """The file has its marker and is read-only; the database is open to managers; a second run changes nothing."""
    move(stopped, postgresql_empty)
    with pytest.raises(SetupError, match=f"was moved to {postgresql_empty.url} on"):
        open_store(stopped / "panguard.db")
    assert (stopped / "panguard.db").stat().st_mode & 0o777 == 0o400
    assert not list(stopped.glob("panguard.db-*"))
    assert migrate_postgresql(postgresql_empty) == []
    again = move(stopped, postgresql_empty)
    assert again.is_moved
    assert again.tables == ()


def test_a_moved_store_moves_nowhere_else(
    stopped: Path, postgresql_empty: DatabaseAddress, postgresql_address: DatabaseAddress
) -> None:
    """After the move the database has the truth: a second move of the file would bring back the past."""
    copy = stopped.parent / "copy"
    copy.mkdir()
    (copy / "panguard.db").write_bytes((stopped / "panguard.db").read_bytes())
    key_file_of(copy)
    move(stopped, postgresql_empty)
    with pytest.raises(TargetTaken, match="was moved to"):
        move(stopped, postgresql_address)
    with closing(sqlite3.connect(copy / "panguard.db")) as database, database:  # the id that the first move gave
        stored = dict(execute(postgresql_empty, "SELECT key, value FROM meta"))
        database.execute("INSERT INTO meta VALUES ('store_id', ?)", (stored["store_id"],))
    with pytest.raises(TargetTaken, match="was already moved to the database"):
        move(copy, postgresql_empty)


def test_a_running_manager_is_refused(stopped: Path, postgresql_empty: DatabaseAddress) -> None:
    """The lock of the data directory decides."""
    with DataDirectory(stopped), pytest.raises(DataDirectoryInUse):
        move(stopped, postgresql_empty)
    assert move_of(stopped / "panguard.db") is None


def test_another_key_file_is_refused(stopped: Path, postgresql_empty: DatabaseAddress) -> None:
    """The target opens with the same key file, so it is checked before; nothing is copied."""
    key = stopped / "manager.key"
    right = key.read_text()
    key.write_text("11" * 32)
    with pytest.raises(SetupError, match="another key file"):
        move(stopped, postgresql_empty)
    key.unlink()
    with pytest.raises(SetupError, match=r"the key file .* is missing"):
        move(stopped, postgresql_empty)
    assert execute(postgresql_empty, "SELECT to_regclass('agent')") == [(None,)]
    key.touch(0o600)
    key.write_text(right)
    assert move(stopped, postgresql_empty).is_moved


def test_the_database_of_another_store_is_refused(
    stopped: Path, tmp_path: Path, postgresql_empty: DatabaseAddress
) -> None:
    """Neither a moved store nor a begun copy is overwritten by another store."""
    other = stopped_manager(tmp_path / "other", reports=8)
    move(other, postgresql_empty)
    before = database_rows(postgresql_empty)
    with pytest.raises(TargetTaken, match="has the store store-"):
        move(stopped, postgresql_empty)
    execute(postgresql_empty, "UPDATE store_copy SET completed_at = NULL")
    with pytest.raises(TargetTaken, match="has the store store-"):
        move(stopped, postgresql_empty)
    assert database_rows(postgresql_empty) == before
    close_store(open_store(stopped / "panguard.db"))


def test_a_database_in_which_a_manager_has_begun_is_refused(stopped: Path, postgresql_address: DatabaseAddress) -> None:
    """Rows that no copy wrote are a store."""
    execute(postgresql_address, "INSERT INTO sealed_value VALUES ('key_check', 'x')")
    execute(postgresql_address, "INSERT INTO meta VALUES ('store_id', 'store-9')")
    with pytest.raises(TargetTaken, match="has the store store-9: name an empty one"):
        move(stopped, postgresql_address)


def test_a_database_that_a_manager_uses_is_refused(stopped: Path, postgresql_address: DatabaseAddress) -> None:
    """A manager that has only just connected has no rows yet."""
    with psycopg.connect(postgresql_address.url, application_name="panguard"):
        with pytest.raises(TargetTaken, match="a manager runs on the database"):
            move(stopped, postgresql_address)
        with pytest.raises(TargetTaken, match="a manager runs on the database"):
            check_move(stopped, None, postgresql_address, unwatched)


def test_two_copies_into_one_database_are_refused(
    stopped: Path, postgresql_address: DatabaseAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second waits a while, for a first one may just have been killed, and ends."""
    monkeypatch.setattr(postgresql_target, "LOCK_WAIT", "50ms")
    with psycopg.connect(postgresql_address.url, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(1348562535, 3)")
        with pytest.raises(TargetTaken, match="another copy into the database"):
            move(stopped, postgresql_address)


def test_a_dry_run_changes_nothing(stopped: Path, postgresql_empty: DatabaseAddress) -> None:
    """It counts and checks every row, and leaves the file and the database as they are."""
    with suppress(SetupError):  # the first opening of this store with a key file seals something
        move(stopped, DatabaseAddress("postgresql://127.0.0.1:1/none"))
    before = (stopped / "panguard.db").read_bytes()
    checked = check_move(stopped, None, postgresql_empty, unwatched)
    assert not checked.is_moved
    assert checked.check == RowCheck([], [])
    assert (stopped / "panguard.db").read_bytes() == before
    assert execute(postgresql_empty, "SELECT to_regclass('schema_migration')") == [(None,)]
    assert move(stopped, postgresql_empty).rows == checked.rows


def test_a_store_of_an_earlier_release_is_migrated_first(tmp_path: Path, postgresql_empty: DatabaseAddress) -> None:
    """It is brought to this release's schema with a backup; a dry run, which changes nothing, says so."""
    path = tmp_path / "panguard.db"
    database = open_store(path)
    Runner(database, str(MIGRATIONS)).up("0025_mutes")
    close_store(database)
    key_file_of(tmp_path)
    with pytest.raises(SetupError, match="is an earlier release's: run this without --dry-run"):
        check_move(tmp_path, None, postgresql_empty, unwatched)
    assert move(tmp_path, postgresql_empty).is_moved
    assert (tmp_path / "panguard.db.before-0026_agent_vitals").exists()


def test_a_program_that_writes_to_the_store_is_noticed(stopped: Path, postgresql_empty: DatabaseAddress) -> None:
    """A person with SQLite's shell in a transaction gets a sentence, and nothing is copied."""
    with closing(sqlite3.connect(stopped / "panguard.db", isolation_level=None)) as other:
        move_of(stopped / "panguard.db")
        other.execute("PRAGMA journal_mode = wal")
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM meta").fetchone()
        with closing(sqlite3.connect(stopped / "panguard.db")) as writing, writing:
            writing.execute("INSERT INTO meta VALUES ('x', 'y')")
        with pytest.raises(SetupError, match=r"another program reads the store"):
            move(stopped, postgresql_empty)
    close_store(open_store(stopped / "panguard.db"))


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("REVOKE CREATE ON SCHEMA public FROM PUBLIC; ALTER SCHEMA public OWNER TO postgres", "may not make tables"),
        ("ALTER ROLE mover SET default_transaction_read_only = on", "read-only"),
        ("ALTER ROLE mover CONNECTION LIMIT 0", "too many connections"),
        ("ALTER ROLE mover NOLOGIN", "not permitted to log in"),
    ],
)
def test_a_database_that_refuses_is_named(
    stopped: Path, postgresql_empty: DatabaseAddress, statement: str, words: str
) -> None:
    """What the server says reaches the operator, and the store is a store as before."""
    execute(postgresql_empty, "CREATE ROLE postgres SUPERUSER; CREATE ROLE mover LOGIN")
    try:
        for part in statement.split("; "):
            execute(postgresql_empty, part)
        address = DatabaseAddress(postgresql_empty.url.replace("panguard@", "mover@"))
        with pytest.raises(SetupError, match=words):
            move(stopped, address)
    finally:
        execute(postgresql_empty, "ALTER SCHEMA public OWNER TO panguard; DROP ROLE postgres; DROP ROLE mover")
    open_reader(stopped / "panguard.db").close()
    assert move(stopped, postgresql_empty).is_moved
