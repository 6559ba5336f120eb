"""Opens the store's database with durable settings."""

import sqlite3
from contextlib import closing
from pathlib import Path

import structlog
from peewee import Database, DatabaseError, InterfaceError, SqliteDatabase

from manager.errors import SetupError
from manager.storage.damage import damaged, has_wal, is_damage, is_empty
from manager.storage.moved_store import refuse_moved
from manager.storage.statements import system_of

log = structlog.get_logger(__name__)

PAGE = 8192
"""Bytes of a page in a new store. A batch of reports writes a row to most pages of the index of addresses, and half as
many pages are written and checkpointed; a commit of one report writes 37 KB in place of 21."""

_DURABLE = {
    "page_size": PAGE,  # before the journal mode, which creates the file; an existing store keeps its own
    "journal_mode": "wal",
    "synchronous": "full",
    "foreign_keys": 1,
    "busy_timeout": 5000,
    "cache_size": -65536,  # the writer that stores reports sizes it: `sqlite.page_cache`
    "temp_store": "memory",
}
_READING = {**_DURABLE, "query_only": 1, "cache_size": -16384}


_SECRETS = {
    "agent": "SELECT 1 FROM agent LIMIT 1",
    "enrollment_token": "SELECT 1 FROM enrollment_token LIMIT 1",
    "sealed_value": "SELECT 1 FROM sealed_value LIMIT 1",
}


def open_store(path: Path) -> Database:
    """Open the writer's database; a new file is readable by its owner only.

    Raises:
        SetupError: the file cannot be opened, is not a database, or was moved to PostgreSQL.
    """
    if not path.exists():  # the time of the file's last change tells whether a copy of it can go on
        path.touch(mode=0o600)
    return _connected(SqliteDatabase(str(path), pragmas=_DURABLE, thread_safe=False, check_same_thread=False), path)


def close_store(database: Database) -> None:
    """Close the writer's database; before, checkpoint SQLite's WAL into the store's file.

    While a reader uses the WAL, SQLite may leave transactions in it; the next start reads them from there.
    """
    if system_of(database) == "sqlite":
        try:
            busy, *_ = database.execute_sql("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if busy:
                log.warning("wal_kept", reason="a reader holds the store")
        except (DatabaseError, InterfaceError) as error:
            log.warning("wal_kept", reason=str(error))
    database.close()


def holds_secrets(path: Path) -> bool:
    """Return whether a store has secrets that only its key file opens: of agents, tokens, or its own.

    Return True for a store that cannot be read.
    """
    if not path.exists() or is_empty(path):
        return path.exists() and has_wal(path)  # SQLite would delete the WAL of an empty file
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            return any(database.execute(sql).fetchone() for table, sql in _SECRETS.items() if table in tables)
    except sqlite3.Error:
        return True


def open_reader(path: Path) -> Database:
    """Return a read-only database with one connection for each thread.

    Raises:
        SetupError: the file cannot be opened, is not a database, or was moved to PostgreSQL.
    """
    return _connected(SqliteDatabase(str(path), pragmas=_READING, autoconnect=True), path)


def _connected(database: Database, path: Path) -> Database:
    refuse_moved(path)
    try:
        database.connect(reuse_if_open=True)
        database.execute_sql("SELECT 1 FROM sqlite_master").fetchone()
    except DatabaseError as error:
        database.close()
        sentence = str(damaged(path, str(error))) if is_damage(error) else f"the store {path} cannot be opened: {error}"
        raise SetupError(sentence) from error
    return database
