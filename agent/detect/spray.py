"""Detects password spraying: few failures each from many sources, for one or many users."""

from collections import Counter, OrderedDict
from dataclasses import dataclass, field

from agent.detect.address_table import AddressState, AddressTable, Failure, Tally
from agent.events import Finding

THRESHOLD = 20
"""The number of sources within `WINDOW` that counts as a spray."""

WINDOW = 6 * 3600.0

USERS = 1_000
"""The maximum number of existing users, and of unknown ones; the least recently tried one is evicted."""

_HIGH_FROM = 100
_CONFIDENCE = 80
_DAY = 86_400.0
_SOURCES_OF_USER = 32
_SOURCES = 1_024


@dataclass(slots=True)
class _Tried:
    """A source's failures for one user or for all users."""

    at: float
    count: int
    user: str


@dataclass(slots=True)
class _Target:
    """The sources that failed for one user, or for any user."""

    sources: OrderedDict[str, _Tried] = field(default_factory=OrderedDict)
    tally: Tally | None = None
    newest: float = float("-inf")

    def add(self, source: str, failure: Failure, keep: int) -> bool:
        """Count a failure; return whether its source is new."""
        tried = self.sources.get(source)
        new = tried is None or failure.at - tried.at > WINDOW
        if tried is None:
            self.sources[source] = _Tried(failure.at, failure.weight, failure.user)
            if len(self.sources) > keep:
                self.sources.popitem(last=False)
        else:
            tried.count = failure.weight + (tried.count if failure.at - tried.at <= _DAY else 0)
            tried.at, tried.user = failure.at, failure.user
            self.sources.move_to_end(source)
        return new


class Spray:
    """Counts failing sources for each user, and for all users.

    A source that is an attacker by itself does not count, and neither does one that logged in after its failures.

    Args:
        table: The sources, with those that are attackers by themselves.
    """

    def __init__(self, table: AddressTable) -> None:
        self._table = table
        self._everybody = _Target()
        self._users: dict[bool, OrderedDict[str, _Target]] = {True: OrderedDict(), False: OrderedDict()}

    def observe(self, source: AddressState, failure: Failure) -> list[Finding]:
        """Count a failure; return the findings that it completes."""
        user = self._target(failure)
        one = self._count(user, source, failure, _SOURCES_OF_USER)
        if source.attack is not None:
            self._everybody.sources.pop(source.key, None)
            everybody = None
        else:
            everybody = self._count(self._everybody, source, failure, _SOURCES)
        found = [] if one is None else [self._finding(one, failure, failure.user)]
        if everybody is not None and not self._aims_at_one_user():
            found.append(self._finding(everybody, failure, None))
        return found

    def failures_of(self, user: str, at: float) -> int:
        """Return the failures of an existing user within a day, from the latest sources."""
        target = self._users[True].get(user)
        if target is None:
            return 0
        return sum(tried.count for tried in target.sources.values() if at - tried.at <= _DAY)

    def forgive(self, user: str, source: str) -> None:
        """Drop the failures of a user from a source, after a login of this user from there."""
        for users in self._users.values():
            target = users.get(user)
            if target is not None:
                target.sources.pop(source, None)
        self._everybody.sources.pop(source, None)

    def _target(self, failure: Failure) -> _Target:
        users = self._users[failure.valid_user]
        target = users.get(failure.user)
        if target is None:
            target = users[failure.user] = _Target()
            if len(users) > USERS:
                users.popitem(last=False)
        users.move_to_end(failure.user)
        return target

    def _count(self, target: _Target, source: AddressState, failure: Failure, keep: int) -> Tally | None:
        """Count a failure; return the tally if it must be reported."""
        if not target.add(source.key, failure, keep) or source.attack is not None:
            return None
        if target.tally is not None and abs(failure.at - target.newest) <= WINDOW:
            target.tally.add(1, failure.at)
        else:
            times = self._times(target, failure.at)
            target.tally = None if len(times) < THRESHOLD else Tally(THRESHOLD, len(times), min(times))
        target.newest = failure.at
        return target.tally if target.tally is not None and target.tally.due() else None

    def _times(self, target: _Target, at: float) -> list[float]:
        """Return the times of the latest sources' failures within the window, at most `THRESHOLD` times."""
        times: list[float] = []
        if len(target.sources) < THRESHOLD:
            return times
        for key, tried in reversed(target.sources.items()):
            if abs(at - tried.at) <= WINDOW and not self._attacks(key):
                times.append(tried.at)
                if len(times) == THRESHOLD:
                    break
        return times

    def _attacks(self, key: str) -> bool:
        source = self._table.get(key)
        return source is not None and source.attack is not None

    def _aims_at_one_user(self) -> bool:
        users = Counter(tried.user for tried in self._everybody.sources.values())
        return users.most_common(1)[0][1] * 2 > users.total()

    def _finding(self, tally: Tally, failure: Failure, user: str | None) -> Finding:
        evidence: dict[str, str | int] = {"sourceIp": failure.address, "targetService": "sshd", "sources": tally.count}
        if user:
            evidence["user"], evidence["userExists"] = user, failure.valid_user
        return Finding(
            rule_id="sshd-password-spray",
            type="password_spray",
            severity="high" if tally.count >= _HIGH_FROM else "medium",
            confidence=_CONFIDENCE,
            technique="T1110.003",
            count=tally.count,
            first_seen=tally.first_seen,
            last_seen=failure.at,
            evidence=evidence,
        )
