"""A database with a part of a SQLite store in it."""

import psycopg
import pytest

from manager.errors import SetupError
from manager.storage.postgresql.address import DatabaseAddress
from manager.storage.postgresql.migrate import migrate_postgresql

pytestmark = pytest.mark.postgresql


def test_a_part_of_a_store_is_not_opened(postgresql_address: DatabaseAddress) -> None:
    """A manager opens the database when the copy of the store is complete, and not before."""
    with psycopg.connect(postgresql_address.url, autocommit=True) as connection:
        connection.execute("INSERT INTO store_copy VALUES (1, 'copy', 'store-1', 'file', 0, NULL)")
        with pytest.raises(SetupError, match=r"has a part of the SQLite store store-1: run `panguard manager migrate`"):
            migrate_postgresql(postgresql_address)
        connection.execute("UPDATE store_copy SET completed_at = 1")
    assert migrate_postgresql(postgresql_address) == []
