"""A worker's password at the broker, which the manager that leads may seal in the database while the worker runs."""

import structlog
from cryptography.exceptions import InvalidTag
from peewee import DatabaseError, InterfaceError

from manager.data_directory import DataDirectory
from manager.errors import SetupError
from manager.settings import Settings
from manager.storage.location import StoreLocation
from manager.storage.opening import open_store_reader
from manager.storage.sealed_values import BROKER_PASSWORD, SealedValues

log = structlog.get_logger(__name__)


class BrokerPassword:
    """The manager's password at the broker, for a worker: a setting, the file of `broker init`, or what is sealed.

    Args:
        settings: the process's settings.
        directory: the data directory.
        place: the database.
        values: the sealed values in it.
    """

    def __init__(
        self, settings: Settings, directory: DataDirectory, place: StoreLocation, values: SealedValues
    ) -> None:
        self._given = settings.broker_password
        self._directory = directory
        self._place = place
        self._values = values
        self.known: str | None = None
        """The password as of the last reading."""

    def read(self) -> str | None:
        """Return the password as it is now; None without one.

        While the database or the file cannot be read it is that of the last reading.
        """
        try:
            self.known = self._read()
        except (DatabaseError, InterfaceError, SetupError) as error:
            log.warning("broker_password_not_read", reason=str(error))
        except InvalidTag:
            log.warning("broker_password_not_read", reason="it is sealed with another key file")
        return self.known

    def _read(self) -> str | None:
        if self._given is not None:
            return self._given.get_secret_value()
        own = self._directory.broker_password()
        if own is not None:
            return own
        database = open_store_reader(self._place)
        try:
            sealed = self._values.on(database).get(BROKER_PASSWORD)
        finally:
            database.close()
        return None if sealed is None else sealed.decode()
