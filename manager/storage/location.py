"""The place of a store: SQLite's file, or the address of a PostgreSQL database."""

from pathlib import Path
from typing import Any, TypeAlias

from manager.storage.postgresql.address import DatabaseAddress

StoreLocation: TypeAlias = Path | DatabaseAddress


def location_of(database: Any) -> StoreLocation:
    """Return the place of an open peewee database."""
    address = getattr(database, "address", None)
    return address if isinstance(address, DatabaseAddress) else Path(database.database)
