"""Accounts of a host in a test."""

from collections.abc import Container


class FakeAccounts:
    """Everybody is a person, but for `root` and the users of services.

    Args:
        services: Users who are no persons.
        admins: Users who may use sudo.
    """

    def __init__(self, services: Container[str] = (), admins: Container[str] = ()) -> None:
        self._services = services
        self._admins = admins

    def ordinary(self, user: str) -> bool:
        """Tell whether a user is a person."""
        return user != "root" and user not in self._services

    def privileged(self, user: str) -> bool:
        """Tell whether a user may use sudo."""
        return user in self._admins
