"""KnownLoginSources: known pairs of user and source address. A login is remembered for seven days."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Protocol

LOGIN_MEMORY = 7 * 86_400.0
"""Seconds for which a login is remembered."""

SOURCES = 10_000
"""The maximum number of sources; the one with the oldest login is evicted. The same limit applies to users."""

USERS = 64
"""The maximum number of users remembered for each source."""

_SHARED_FROM = 3


class Accounts(Protocol):
    """The accounts of the host."""

    def ordinary(self, user: str) -> bool:
        """Return whether a user is a person's account: a uid of 1000 or above, and a login shell."""
        ...

    def privileged(self, user: str) -> bool:
        """Return whether a user may become root by sudo."""
        ...

    def exists(self, user: str) -> bool | None:
        """Return whether a user has an account; None if that is not known."""
        ...


@dataclass(slots=True)
class _Login:
    at: float
    protects: bool
    trusted: bool


class KnownLoginSources:
    """Remembers logins by source and user. A source is an IPv4 address or an IPv6 /64."""

    def __init__(self) -> None:
        self._sources: OrderedDict[str, dict[str, _Login]] = OrderedDict()
        self._users: OrderedDict[str, float] = OrderedDict()

    def remember(self, user: str, source: str, at: float, *, protects: bool, trusted: bool = True) -> bool:
        """Remember a login; return whether it is trusted: neither it nor an earlier one of the pair looks guessed.

        Args:
            user: The user who logged in.
            source: The source of the login.
            at: Epoch seconds.
            protects: Later failures of this user from this source are forgiven.
            trusted: False for a login that looks like a guessed password: the pair is remembered, so that the login is
                reported once, and it protects nothing.
        """
        users = self._sources.setdefault(source, {})
        before = users.pop(user, None)
        if before is not None:
            trusted = trusted and (before.trusted or at - before.at > LOGIN_MEMORY)
        users[user] = _Login(at, protects and trusted, trusted)
        if len(users) > USERS:
            del users[next(iter(users))]
        self._sources.move_to_end(source)
        if len(self._sources) > SOURCES:
            self._sources.popitem(last=False)
        self._users[user] = at
        self._users.move_to_end(user)
        if len(self._users) > SOURCES:
            self._users.popitem(last=False)
        return trusted

    def knows(self, user: str, source: str, at: float) -> bool:
        """Return whether a user logged in from a source within the last seven days."""
        login = self._sources.get(source, {}).get(user)
        return login is not None and at - login.at <= LOGIN_MEMORY

    def has_logged_in(self, user: str, at: float) -> bool:
        """Return whether a user logged in from any source within the last seven days."""
        login = self._users.get(user)
        return login is not None and at - login <= LOGIN_MEMORY

    def last_login(self, source: str, at: float) -> float | None:
        """Return the epoch seconds of the latest login from a source within the last seven days; None without any."""
        latest = max((login.at for login in self._sources.get(source, {}).values()), default=None)
        return latest if latest is not None and at - latest <= LOGIN_MEMORY else None

    def protected_users(self, source: str, at: float) -> frozenset[str]:
        """Return the users whose failures from a source are forgiven: persons who logged in from there."""
        users = self._sources.get(source)
        if not users:
            return frozenset()
        return frozenset(user for user, login in users.items() if login.protects and at - login.at <= LOGIN_MEMORY)

    def shared(self, source: str, at: float) -> bool:
        """Return whether several persons log in from a source, as behind the NAT of an office."""
        users = self._sources.get(source, {})
        return sum(login.trusted and at - login.at <= LOGIN_MEMORY for login in users.values()) >= _SHARED_FROM
