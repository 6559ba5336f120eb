"""Texts that all managers of a database have in files, such as the admin token: sealed in the database."""

from collections.abc import Callable
from threading import Lock
from typing import Any

from cryptography.exceptions import InvalidTag

from manager.errors import SetupError
from manager.storage.postgresql.address import DatabaseAddress
from manager.storage.postgresql.connection import PostgresqlStore, open_writer
from manager.storage.sealed_values import SealedValues

_PREFIX = "file:"


class SharedTexts:
    """The sealed texts of files; each call opens a connection of its own, because any thread may read or write one.

    Args:
        address: the server, the database and the user.
        values: the sealed values of the database.
        fence: returns the fence of the transactions of a database: only the manager that leads writes.
    """

    def __init__(
        self, address: DatabaseAddress, values: SealedValues, fence: Callable[[Any], Callable[[], None]]
    ) -> None:
        self._address = address
        self._values = values
        self._fence = fence
        self._lock = Lock()

    def get(self, name: str) -> str | None:
        """Return the text of a file; None if no manager has stored one.

        Raises:
            SetupError: the database cannot be read, or the text does not open with this key file.
        """
        with self._lock:
            database = open_writer(self._address)
            try:
                value = self._values.on(database).get(_PREFIX + name)
            except InvalidTag as error:
                raise SetupError(f"the text of {name} in the database is sealed with another key file") from error
            finally:
                database.close()
        return None if value is None else value.decode()

    def put(self, name: str, text: str) -> None:
        """Store the text of a file.

        Raises:
            StoreUnavailable: this manager does not lead.
        """
        with self._lock:
            database: PostgresqlStore = open_writer(self._address)
            try:
                database.fence = self._fence(database)
                with database.atomic():
                    self._values.on(database).put(_PREFIX + name, text.encode())
            finally:
                database.close()
