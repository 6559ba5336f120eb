"""Opens the store's database with durable settings."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.exceptions import InvalidTag
from peewee import Database, DatabaseError, SqliteDatabase

from manager.errors import SetupError

_DURABLE = {
    "journal_mode": "wal",
    "synchronous": "full",
    "foreign_keys": 1,
    "busy_timeout": 5000,
    "cache_size": -65536,
    "temp_store": "memory",
}
_REASON = 200
_READING = {**_DURABLE, "query_only": 1, "cache_size": -16384}


def open_store(path: Path) -> Database:
    """Return the writer's database; the file is created readable by its owner only.

    Raises:
        SetupError: the file cannot be opened or is not a database.
    """
    path.touch(mode=0o600, exist_ok=True)
    return _connected(SqliteDatabase(str(path), pragmas=_DURABLE, thread_safe=False, check_same_thread=False), path)


@contextmanager
def undamaged(path: Path) -> Iterator[None]:
    """Take whatever goes wrong with what a store holds, while it is read at a start, for damage.

    Raises:
        SetupError: something in it is not what a manager writes.
    """
    try:
        yield
    except (
        DatabaseError,
        InvalidTag,
        ValueError,
        TypeError,
        LookupError,
        ArithmeticError,
        RecursionError,
        AttributeError,
    ) as error:
        reason = f"{type(error).__name__}: {error}"[:_REASON]
        raise SetupError(
            f"the store {path} holds what no manager wrote ({reason}); restore it from a backup"
        ) from error


def open_reader(path: Path) -> Database:
    """Return a read-only database with one connection for each thread.

    Raises:
        SetupError: the file cannot be opened or is not a database.
    """
    return _connected(SqliteDatabase(str(path), pragmas=_READING, autoconnect=True), path)


def _connected(database: Database, path: Path) -> Database:
    try:
        database.connect(reuse_if_open=True)
        database.execute_sql("SELECT 1 FROM sqlite_master").fetchone()
    except DatabaseError as error:
        raise SetupError(f"{path} cannot be opened as a store: {error}; restore it from a backup") from error
    return database
