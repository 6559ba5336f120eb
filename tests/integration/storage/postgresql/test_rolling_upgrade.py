"""Migrations of a database that managers of other releases use: what is allowed, refused, and waited for."""

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from playhouse.migrations import Runner

from manager.errors import SetupError
from manager.storage.postgresql import migrate, schema_versions
from manager.storage.postgresql.address import DatabaseAddress
from manager.storage.postgresql.connection import migrating
from manager.storage.postgresql.lease import LeaseTable, Member
from manager.storage.postgresql.migrate import MIGRATIONS, migrate_postgresql
from manager.storage.postgresql.schema_versions import known_migrations, newest_migration
from tests.support.waiting import eventually

pytestmark = pytest.mark.postgresql

NEXT = newest_migration() + 1
"""The number of a later release's first migration."""


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Provide a directory with this release's migrations, to which a test adds those of a later one."""
    copy = tmp_path / "migrations"
    shutil.copytree(MIGRATIONS, copy)
    for module in (migrate, schema_versions):
        monkeypatch.setattr(module, "MIGRATIONS", copy)
    return copy


def add(directory: Path, number: int, statement: str, oldest: int) -> str:
    """Add a migration of one statement; return its name."""
    name = f"{number:04}_later"
    (directory / f"{name}.py").write_text(
        f"OLDEST = {oldest}\n\n\ndef up(_migrator, db):\n    db.connection().execute({statement!r})\n"
    )
    return name


def as_by_a_newer_release(address: DatabaseAddress, name: str, oldest: int) -> None:
    """Leave the mark of a migration that this release does not have."""
    with psycopg.connect(address.url, autocommit=True) as connection:
        connection.execute("INSERT INTO schema_migration (name, applied) VALUES (%s, now())", (name,))
        connection.execute("UPDATE schema_compatibility SET oldest = %s", (oldest,))


@contextmanager
def living(address: DatabaseAddress, knows: int) -> Iterator[LeaseTable]:
    """Announce a manager within the block, and withdraw it after that."""
    table = LeaseTable(address)
    table.announce(Member("m-1", "host-1", "http://h", "mqtt://b", "1.2.3", (), "leader", migration=knows))
    yield table
    table.withdraw("m-1")
    table.close()


def columns(address: DatabaseAddress, table: str) -> set[str]:
    with psycopg.connect(address.url) as connection:
        rows = connection.execute("SELECT column_name FROM information_schema.columns WHERE table_name = %s", (table,))
        return {name for (name,) in rows}


def test_each_migration_states_the_oldest_release_that_may_work_beside_it() -> None:
    """The number is at most the migration's own and never lowered, and a migration is one transaction."""
    known = known_migrations()
    stated = [migration.oldest for migration in known]
    assert stated == sorted(stated)
    assert all(1 <= migration.oldest <= migration.number for migration in known)
    assert not [path.name for path in MIGRATIONS.glob("[0-9]*.py") if "atomic" in path.read_text()]


def test_a_migration_that_removes_raises_the_number(postgresql_empty: DatabaseAddress) -> None:
    """A migration after which a column or table is gone, or a column may not be left out any more, says so."""
    before: dict[tuple[str, str], tuple[str, bool]] = {}
    oldest = 0
    with migrating(postgresql_empty) as database:
        for migration in known_migrations():
            Runner(database, str(MIGRATIONS)).up(migration.name)
            rows = database.connection().execute(
                "SELECT table_name, column_name, data_type, is_nullable = 'YES' OR column_default IS NOT NULL"
                " FROM information_schema.columns WHERE table_schema = current_schema()"
            )
            after = {(table, name): (kind, may_miss) for table, name, kind, may_miss in rows}
            old_tables = {table for table, _ in before}
            gone = [column for column, what in before.items() if after.get(column) != what]
            asked = [
                column
                for column, (_, may_miss) in after.items()
                if column not in before and column[0] in old_tables and not may_miss
            ]
            assert migration.oldest > oldest or not gone + asked, (migration.name, gone, asked)
            before, oldest = after, migration.oldest


def test_the_schema_states_the_oldest_release(postgresql_address: DatabaseAddress) -> None:
    """It is the number of the newest migration."""
    with psycopg.connect(postgresql_address.url) as connection:
        assert schema_versions.oldest_migration(connection) == known_migrations()[-1].oldest


def test_a_newer_schema_is_used_if_it_says_so(postgresql_address: DatabaseAddress) -> None:
    """A manager of this release starts on an expanded schema, changes nothing, and keeps away from a contracted one."""
    name = f"{NEXT:04}_later"
    as_by_a_newer_release(postgresql_address, name, newest_migration())
    assert migrate_postgresql(postgresql_address) == []
    with psycopg.connect(postgresql_address.url, autocommit=True) as connection:
        connection.execute("UPDATE schema_compatibility SET oldest = %s", (NEXT,))
    sentence = (
        rf"written by a newer release \({name}\), and needs one that knows the migration {NEXT:04}; this one knows"
        rf" {newest_migration():04}: install that release"
    )
    with pytest.raises(SetupError, match=sentence):
        migrate_postgresql(postgresql_address)


def test_a_migration_runs_beside_managers_that_work_with_its_result(
    postgresql_address: DatabaseAddress, directory: Path
) -> None:
    """An expansion does; a contraction is refused with their names, and applied once they are gone."""
    expansion = add(directory, NEXT, "ALTER TABLE threat ADD COLUMN later text NOT NULL DEFAULT ''", 2)
    with living(postgresql_address, NEXT - 1):
        assert migrate_postgresql(postgresql_address) == [expansion]
        contraction = add(directory, NEXT + 1, "ALTER TABLE threat DROP COLUMN technique", NEXT)
        with pytest.raises(
            SetupError,
            match=rf"{contraction} removes what .* on this database: host-1 \(leader, release 1\.2\.3, knows"
            rf" {NEXT - 1:04}\)\. Upgrade",
        ):
            migrate_postgresql(postgresql_address)
        assert "technique" in columns(postgresql_address, "threat")
    with living(postgresql_address, NEXT):
        assert migrate_postgresql(postgresql_address) == [contraction]
    assert "technique" not in columns(postgresql_address, "threat")
    with psycopg.connect(postgresql_address.url) as connection:
        assert schema_versions.oldest_migration(connection) == NEXT


def test_a_manager_that_is_not_heard_of_for_a_minute_holds_up_nothing(
    postgresql_address: DatabaseAddress, directory: Path
) -> None:
    """One that was killed counts for so long; when it comes back, its keeper ends it."""
    contraction = add(directory, NEXT, "ALTER TABLE threat DROP COLUMN technique", NEXT)
    with living(postgresql_address, NEXT - 1), psycopg.connect(postgresql_address.url, autocommit=True) as connection:
        connection.execute("UPDATE manager SET seen_at = seen_at - 50")
        with pytest.raises(SetupError, match="one that was killed counts for a minute"):
            migrate_postgresql(postgresql_address)
        connection.execute("UPDATE manager SET seen_at = seen_at - 11")
        assert migrate_postgresql(postgresql_address) == [contraction]


def test_managers_of_a_release_that_states_no_number_know_the_schema_they_were_started_on(
    postgresql_empty: DatabaseAddress,
) -> None:
    """The release before writes its row without one, and is no obstacle to this one's migrations."""
    with migrating(postgresql_empty) as database:
        Runner(database, str(MIGRATIONS)).up("0003_store_copy")
    with psycopg.connect(postgresql_empty.url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO manager (id, hostname, address, broker, version, features, role, seen_at) VALUES"
            " ('m-1', 'h-1', '', '', '0.1.0', '{}', 'leader', extract(epoch FROM clock_timestamp()))"
        )
        assert [manager.knows for manager in schema_versions.live_managers(connection)] == [3]
        assert migrate_postgresql(postgresql_empty)[0] == "0004_schema_compatibility"
        assert [manager.knows for manager in schema_versions.live_managers(connection)] == [2]


def test_a_migration_waits_for_a_lock_in_short_turns(postgresql_address: DatabaseAddress, directory: Path) -> None:
    """While a long transaction keeps a table, the migration lets others at it again and again, and then goes on."""
    name = add(directory, NEXT, "ALTER TABLE meta ADD COLUMN later text", 2)
    applied: list[str] = []
    with psycopg.connect(postgresql_address.url) as holder:
        holder.execute("SELECT FROM meta")
        thread = threading.Thread(target=lambda: applied.extend(migrate_postgresql(postgresql_address)))
        thread.start()
        with psycopg.connect(postgresql_address.url, autocommit=True) as other:
            waiting = "SELECT FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND NOT granted"
            other.execute("SET lock_timeout = '60s'")
            for turn in range(2):
                eventually(lambda: other.execute(waiting).fetchall(), what="the migration waits")
                other.execute("INSERT INTO meta (key, value) VALUES (%s, '')", (f"turn {turn}",))
            assert not applied
        holder.rollback()
        thread.join(60)
    assert applied == [name]
    assert "later" in columns(postgresql_address, "meta")


def test_a_lock_that_others_keep_is_named(
    postgresql_address: DatabaseAddress, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The start ends with the transactions that are open, and a migration that has changed nothing."""
    monkeypatch.setattr(migrate, "LOCK_PATIENCE", 1.5)
    name = add(directory, NEXT, "ALTER TABLE meta ADD COLUMN later text", 2)
    with psycopg.connect(postgresql_address.url, application_name="a report") as holder:
        holder.execute("SELECT FROM meta")
        with pytest.raises(SetupError, match=rf"{name} did not get the locks .* \(a report \(process \d+\)\)"):
            migrate_postgresql(postgresql_address)
    assert "later" not in columns(postgresql_address, "meta")
    assert migrate_postgresql(postgresql_address) == [name]


def test_a_migration_that_would_hold_managers_up_is_refused_beside_them(
    postgresql_address: DatabaseAddress, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A statement has a limit while a manager lives, and none without."""
    monkeypatch.setattr(migrate, "STATEMENT_LIMIT", 0.2)
    name = add(directory, NEXT, "ALTER TABLE meta ADD COLUMN later text; SELECT pg_sleep(1)", 2)
    with (
        living(postgresql_address, NEXT - 1),
        pytest.raises(SetupError, match=rf"{name} has a statement that takes more .* \(host-1 .*\): stop them"),
    ):
        migrate_postgresql(postgresql_address)
    assert "later" not in columns(postgresql_address, "meta")
    assert migrate_postgresql(postgresql_address) == [name]


STANDING_STILL = """
import time
from pathlib import Path

OLDEST = 2


def up(_migrator, db):
    db.connection().execute("ALTER TABLE meta ADD COLUMN later text")
    while not Path(__file__).with_suffix(".goes_on").exists():
        # a migration that stands still until the test lets it go on; the test ends this process
        time.sleep(0.02)
    db.connection().execute("SELECT 1")
"""


def test_a_migration_that_stands_still_lets_go_of_its_tables(
    postgresql_address: DatabaseAddress, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that is stopped, or whose host has vanished, in the middle does not hold managers up for ever."""
    monkeypatch.setattr(migrate, "STATEMENT_LIMIT", 0.5)
    name, refusals = f"{NEXT:04}_later", list[str]()
    (directory / f"{name}.py").write_text(STANDING_STILL)

    def start() -> None:
        try:
            migrate_postgresql(postgresql_address)
        except SetupError as refusal:
            refusals.append(str(refusal))

    thread = threading.Thread(target=start)
    holds = "SELECT FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted AND relation = 'meta'::regclass"
    with (
        living(postgresql_address, NEXT - 1),
        psycopg.connect(postgresql_address.url, autocommit=True) as other,
    ):
        thread.start()
        try:
            eventually(lambda: other.execute(holds).fetchall(), what="the migration has the table")
            other.execute("SET lock_timeout = '60s'")
            other.execute("INSERT INTO meta (key, value) VALUES ('meanwhile', '')")
        finally:
            (directory / f"{name}.goes_on").touch()
            thread.join(60)
    assert len(refusals) == 1
    assert f"the migration {name} stood still for more than 0.5 s" in refusals[0]
    assert "later" not in columns(postgresql_address, "meta")
    assert migrate_postgresql(postgresql_address) == [name]


def test_a_migration_whose_connection_is_lost_says_so(postgresql_address: DatabaseAddress, directory: Path) -> None:
    """The start ends with what to do, and the next one applies the migration."""
    ending = "ALTER TABLE meta ADD COLUMN later text; SELECT pg_terminate_backend(pg_backend_pid())"
    name = add(directory, NEXT, ending, 2)
    with pytest.raises(SetupError, match=rf"the connection .* was lost in the migration {name}.*start this one again"):
        migrate_postgresql(postgresql_address)
    assert "later" not in columns(postgresql_address, "meta")
    add(directory, NEXT, "ALTER TABLE meta ADD COLUMN later text", 2)
    assert migrate_postgresql(postgresql_address) == [name]


def test_a_program_that_keeps_the_lock_of_migrations_is_named(
    postgresql_address: DatabaseAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start waits for another one's migrations; where these never end, it says which process has the lock."""
    monkeypatch.setattr(migrate, "TURN_PATIENCE", 1.0)
    with migrating(postgresql_address) as database, migrate.migrations_locked(database):
        number = database.connection().info.backend_pid
        with pytest.raises(
            SetupError, match=rf"another program has kept .* locked .* \(process {number} from 127.0.0.1\)"
        ):
            migrate_postgresql(postgresql_address)
    assert migrate_postgresql(postgresql_address) == []
