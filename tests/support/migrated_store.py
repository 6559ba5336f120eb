"""A new store with this release's schema: the migrations run once in a process, and each store is a copy."""

import functools
import tempfile
from pathlib import Path

from peewee import Database

from manager.storage.connection import close_store, open_store
from manager.storage.migrate import migrate


def open_migrated(path: Path) -> Database:
    """Open the writer's database of a store; a file that does not exist is made with the present schema."""
    if not path.exists():
        path.touch(mode=0o600)
        path.write_bytes(_new_store())
    database = open_store(path)
    migrate(database, path)
    return database


@functools.cache
def _new_store() -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "panguard.db"
        database = open_store(path)
        migrate(database, path)
        close_store(database)
        return path.read_bytes()
