"""Looks up the host's accounts for detection."""

import grp
import pwd
import time
from typing import NamedTuple

_ADMINS = ("sudo", "wheel", "admin")
_NO_SHELLS = ("nologin", "false", "sync", "shutdown", "halt")
_FIRST_PERSON = 1000
_CACHED_FOR = 60.0
_CACHED = 1_000


class _Account(NamedTuple):
    person: bool
    admin: bool
    exists: bool | None


class HostAccounts:
    """Accounts in the user database; lookups are cached for a minute.

    Args:
        unknown: The result for users who are not in the database: False on the guarded host, True if a log of
            another host is read. `exists` then returns None.
    """

    def __init__(self, *, unknown: bool = False) -> None:
        self._unknown = unknown
        self._answers: dict[str, _Account] = {}
        self._asked = 0.0

    def ordinary(self, user: str) -> bool:
        """Return whether a user is a person's account: a uid of 1000 or above, and a login shell."""
        return self._answer(user).person

    def privileged(self, user: str) -> bool:
        """Return whether a user may become root by sudo: a member of the group sudo, wheel or admin."""
        return self._answer(user).admin

    def exists(self, user: str) -> bool | None:
        """Return whether a user is in the database; None if that cannot be said of the host that wrote the log."""
        return self._answer(user).exists

    def _answer(self, user: str) -> _Account:
        now = time.monotonic()
        if now - self._asked > _CACHED_FOR or len(self._answers) >= _CACHED:
            self._answers, self._asked = {}, now
        if user not in self._answers:
            self._answers[user] = self._ask(user)
        return self._answers[user]

    def _ask(self, user: str) -> _Account:
        try:
            entry = pwd.getpwnam(user)
        except OSError:
            return _Account(self._unknown, self._unknown, None)
        except (KeyError, ValueError):
            return _Account(self._unknown, self._unknown, None if self._unknown else False)
        person = entry.pw_uid >= _FIRST_PERSON and not entry.pw_shell.endswith(_NO_SHELLS)
        admin = entry.pw_uid == 0 or any(_is_member(user, entry.pw_gid, name) for name in _ADMINS)
        return _Account(person, admin, None if self._unknown else True)


def _is_member(user: str, primary_group: int, group: str) -> bool:
    try:
        entry = grp.getgrnam(group)
    except (KeyError, OSError):
        return False
    return user in entry.gr_mem or entry.gr_gid == primary_group
