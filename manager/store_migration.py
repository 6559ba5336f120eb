"""Moves the SQLite store of a stopped manager into a PostgreSQL database."""

import secrets
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from peewee import Database

from manager.data_directory import DataDirectory
from manager.errors import SetupError
from manager.key_file import KeyFile
from manager.storage.connection import close_store, open_reader, open_store
from manager.storage.health import StoreHealth, start_errors
from manager.storage.migrate import MIGRATIONS, migrate
from manager.storage.moved_store import Move, move_of, moved_sentence
from manager.storage.postgresql.address import DatabaseAddress
from manager.storage.postgresql.partitions import partition_length
from manager.storage.sealed_values import SealedValues, open_secrets
from manager.storage.store_copy.copying import RowCheck, TableCopy, Watch, check_rows, compare_store, copy_store
from manager.storage.store_copy.postgresql_target import PostgresqlTarget, TargetTaken, open_target
from manager.storage.store_copy.sqlite_source import SqliteSource

_STORE_ID = "store_id"
_PARTITIONS = 400
"""The most partitions that a copy makes; threats of earlier times go to the default partition."""


class StoreMigration(NamedTuple):
    """A move, or with `is_moved` False the check of one.

    Attributes:
        store_id: The store's id; None for one that never had a manager.
        is_moved: Whether the database is the store now.
        rows: The number of rows.
        copied_before: The number of rows that an earlier run had copied.
        tables: What was compared.
        check: The rows that PostgreSQL cannot hold as they are; None where they were not looked for.
    """

    store_id: str | None
    is_moved: bool
    rows: int
    copied_before: int = 0
    tables: tuple[TableCopy, ...] = ()
    check: RowCheck | None = None


def move_store(
    directory: Path,
    key_file: Path | None,
    address: DatabaseAddress,
    watch: Watch,
    *,
    retention: float = 86_400.0,
    replacing: bool = False,
) -> StoreMigration:
    """Move the store to a database; the store stays, read-only and marked. Ended at any point it can be repeated.

    Args:
        directory: the data directory.
        key_file: the path of the key file; by default the one in the data directory.
        address: the database: empty, or with the beginning of this store's copy.
        watch: is told of the progress.
        retention: the seconds for which threats are kept, which give their partitions.
        replacing: whether texts that PostgreSQL cannot hold may be changed in the copy.

    Raises:
        DataDirectoryInUse: a manager runs.
        TargetTaken: the database has another store, or a manager uses it.
        SetupError: the store cannot be moved; it stays as it was, and a manager can be started on it.
    """
    with _stopped(directory, key_file) as data:
        move = move_of(data.store)
        if move is not None:
            return _finish(data.store, move, address, watch)
        store_id = _prepare(data)
        with SqliteSource(data.store) as source, open_target(address) as target:
            rows = sum(source.counts().values())
            watch("rows", rows)
            check = check_rows(source, watch, replacing=True) if replacing else None
            target.claim(store_id, source.fingerprint())
            length = partition_length(retention)
            target.make_partitions(source.times_of_receipt(length)[:_PARTITIONS], length)
            before = copy_store(source, target, watch, replacing=replacing)
            tables = compare_store(source, target, watch)
            target.complete(lambda copy_id: source.mark_moved(Move(str(address), copy_id, time.time())))
            target.analyze()
            source.make_read_only()
        return StoreMigration(store_id, True, rows, before, tuple(tables), check)


def check_move(
    directory: Path, key_file: Path | None, address: DatabaseAddress, watch: Watch, *, replacing: bool = False
) -> StoreMigration:
    """Check whether the store can be moved to a database, row by row; changes neither.

    Raises:
        DataDirectoryInUse: a manager runs.
        TargetTaken: the database has another store, or a manager uses it.
        SetupError: the store cannot be moved.
    """
    with _stopped(directory, key_file) as data:
        move = move_of(data.store)
        if move is not None:
            raise TargetTaken(moved_sentence(data.store, move))
        _check(data)
        with SqliteSource(data.store) as source, open_target(address) as target:
            store_id = source.value(_STORE_ID)
            target.require_free(store_id or "")
            rows = sum(source.counts().values())
            watch("rows", rows)
            check = check_rows(source, watch, replacing=replacing)
            return StoreMigration(store_id, is_moved=False, rows=rows, check=check)


@contextmanager
def _stopped(directory: Path, key_file: Path | None) -> Iterator[DataDirectory]:
    if not DataDirectory(directory).store.exists():
        raise SetupError(f"there is no store in {directory}: name the manager's data directory by --data-dir")
    with DataDirectory(directory, key_file) as data:
        health = StoreHealth(data.store)
        with start_errors(health):
            health.check_at_start(used=data.was_used)
            health.wait()
            health.require_sound()
            if data.key_file.read() is None and data.key_file.next.read() is None:
                raise SetupError(f"the key file {data.key_file.path} is missing: put it back, or name it by --key-file")
            yield data


def _prepare(data: DataDirectory) -> str:
    """Bring a store to this release's schema, check its key file, and return its id."""
    database = open_store(data.store)
    try:
        migrate(database, data.store)
        open_secrets(database, data.key_file, data.store)
        with database.atomic():
            database.execute_sql(
                "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT DO NOTHING",
                (_STORE_ID, f"store-{secrets.token_hex(8)}"),
            )
        return str(database.execute_sql("SELECT value FROM meta WHERE key = ?", (_STORE_ID,)).fetchone()[0])
    finally:
        close_store(database)


def _check(data: DataDirectory) -> None:
    """Check the schema and the key file of a store without changing it."""
    with closing(sqlite3.connect(f"{data.store.absolute().as_uri()}?mode=ro", uri=True)) as database:
        applied = {name for (name,) in database.execute("SELECT name FROM schema_migration")}
    if {path.stem for path in MIGRATIONS.glob("[0-9]*.py")} - applied:
        raise SetupError(
            f"the store {data.store} is an earlier release's: run this without --dry-run, which brings it to this"
            " release's schema after a backup, or start the manager on it once"
        )
    with closing(open_reader(data.store)) as database:
        if not any(_opens(database, file) for file in (data.key_file, data.key_file.next)):
            raise SetupError(
                f"this database belongs to another key file: {data.key_file.path} does not open the secrets in the"
                f" store {data.store}; name the one that belongs to it by --key-file"
            )


def _opens(database: Database, file: KeyFile) -> bool:
    key = file.read()
    return key is not None and SealedValues(database, key).belongs() is not False


def _finish(store: Path, move: Move, address: DatabaseAddress, watch: Watch) -> StoreMigration:
    """Complete a move that ended between its last two commits; return what is there if it is complete."""
    with SqliteSource(store) as source, open_target(address) as target:
        state = target.state()
        if state is None or state.copy_id != move.copy:
            raise TargetTaken(moved_sentence(store, move))
        rows = sum(source.counts().values()) - 1  # without the marker
        watch("rows", rows)
        tables: list[TableCopy] = []
        if not state.is_complete:
            target.lock()
            tables = _compare_again(source, target, watch)
            target.complete(lambda _: None)
            target.analyze()
        source.make_read_only()
    return StoreMigration(state.store_id, is_moved=True, rows=rows, copied_before=rows, tables=tuple(tables))


def _compare_again(source: SqliteSource, target: PostgresqlTarget, watch: Watch) -> list[TableCopy]:
    try:
        return compare_store(source, target, watch)
    except SetupError:
        source.unmark_moved()  # the database is no store yet, so this one still is
        raise
