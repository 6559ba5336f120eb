"""The place of a store: SQLite's file, or the address of a PostgreSQL database."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from manager.storage.postgresql.address import DatabaseAddress

StoreLocation: TypeAlias = Path | DatabaseAddress


def location_record(location: StoreLocation) -> dict[str, str | None]:
    """Return the JSON record of a place, with the database's password, for a process of this manager's own."""
    if isinstance(location, Path):
        return {"path": str(location)}
    return {"url": location.url, "password": location.password}


def location_from(record: Mapping[str, Any]) -> StoreLocation:
    """Return the place of a record that `location_record` made."""
    return Path(record["path"]) if "path" in record else DatabaseAddress(record["url"], record["password"])


def location_of(database: Any) -> StoreLocation:
    """Return the place of an open peewee database."""
    address = getattr(database, "address", None)
    return address if isinstance(address, DatabaseAddress) else Path(database.database)
