"""Opens a store of either database system for its writer or for readers; psycopg is imported when it is needed."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import structlog
from peewee import Database

from manager.errors import SetupError
from manager.storage import connection, tables
from manager.storage.location import StoreLocation
from manager.storage.migrate import migrate

log = structlog.get_logger(__name__)


def open_migrated_store(location: StoreLocation) -> Database:
    """Open the writer's database with this release's schema, and bind the tables to it.

    Raises:
        SetupError: it cannot be opened, was written by a newer release, or the server does not do.
    """
    if isinstance(location, Path):
        database = connection.open_store(location)
        applied = migrate(database, location)
    else:
        require_driver()
        from manager.storage.postgresql import connection as postgresql  # noqa: PLC0415 -- imports psycopg
        from manager.storage.postgresql.migrate import migrate_postgresql  # noqa: PLC0415 -- the same
        from manager.storage.postgresql.server_checks import require_usable  # noqa: PLC0415 -- the same

        require_usable(location)
        applied = migrate_postgresql(location)
        database = postgresql.open_writer(location, postgresql.LEADER_IDLE)
    tables.database.initialize(database)
    for name in applied:
        log.info("store_migrated", migration=name)
    return database


def open_store_reader(location: StoreLocation) -> Database:
    """Return a read-only database with one connection for each thread.

    Raises:
        SetupError: it cannot be opened.
    """
    if isinstance(location, Path):
        return connection.open_reader(location)
    require_driver()
    from manager.storage.postgresql.connection import open_postgresql_reader  # noqa: PLC0415 -- imports psycopg

    return open_postgresql_reader(location)


def problem_of_notifications(location: StoreLocation, stack: ExitStack) -> Callable[[], str | None]:
    """Watch whether notifications of a store arrive; return a function that says why they do not.

    Args:
        location: the store's place; SQLite has no notifications.
        stack: ends the watch.
    """
    if isinstance(location, Path):
        return lambda: None
    from manager.storage.postgresql.listener import Listener  # noqa: PLC0415 -- imports psycopg

    listener = Listener(location)
    listener.start()
    stack.callback(listener.stop)
    return lambda: listener.problem


def require_driver() -> None:
    """Check that psycopg can be imported, which a manager on SQLite does not need.

    Raises:
        SetupError: it cannot.
    """
    try:
        import psycopg  # noqa: F401, PLC0415 -- only where a database is named
    except ImportError as error:
        raise SetupError(
            f"PostgreSQL needs psycopg, which cannot be imported ({error}): install panguard[postgresql]"
        ) from error
