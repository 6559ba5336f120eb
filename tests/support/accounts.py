"""Accounts of a host in a test."""

from collections.abc import Container


class FakeAccounts:
    """Everybody is a person, but for `root` and the users of services.

    Args:
        services: Users who are no persons.
        admins: Users who may use sudo.
        strangers: Names that are no account.
        another_host: The accounts are not those of the host that wrote the log.
    """

    def __init__(
        self,
        services: Container[str] = (),
        admins: Container[str] = (),
        strangers: Container[str] = (),
        *,
        another_host: bool = False,
    ) -> None:
        self._services = services
        self._admins = admins
        self._strangers = strangers
        self._another_host = another_host

    def ordinary(self, user: str) -> bool:
        """Tell whether a user is a person."""
        return user != "root" and user not in self._services

    def privileged(self, user: str) -> bool:
        """Tell whether a user may use sudo."""
        return user in self._admins

    def exists(self, user: str) -> bool | None:
        """Tell whether a user has an account; None of another host."""
        return None if self._another_host else user not in self._strangers
