"""Detects an address that keeps failing to log in, from the failed and successful logins of one host."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from agent.parse.sshd import FailedLogin, SuccessfulLogin

LOGIN_MEMORY = 7 * 86_400.0
"""Seconds for which an address's last successful login is told with its detections (the responder's rule)."""

CAPACITY = 10_000
"""Addresses remembered; the one least recently seen makes room. The same bound holds for logins."""

USERS = 5
"""User names kept of each address: those tried most."""

# Recent connections kept of each address. sshd lets about ten log in at a time (MaxStartups); one that is forgotten
# too early costs one failure counted twice.
_CONNECTIONS = 16


@dataclass(frozen=True, slots=True)
class Detection:
    """An address that failed too often. Times are epoch seconds UTC, of the events.

    Attributes:
        address: The attacker.
        count: Failures since the attack began; it grows from one detection of an attack to the next.
        first_seen: The attack's first failure.
        last_seen: Its latest failure.
        users: At most `USERS` of the user names, the most tried first.
        last_login: When this address last logged in successfully, if within `LOGIN_MEMORY` before `last_seen`.
        target_service: What was attacked.
    """

    address: str
    count: int
    first_seen: float
    last_seen: float
    users: tuple[str, ...]
    last_login: float | None = None
    target_service: str = "sshd"


@dataclass(slots=True)
class _Source:
    """What is remembered of one address."""

    newest: float
    report_at: int
    recent: list[FailedLogin] = field(default_factory=list)  # before the attack is detected: the window
    count: int = 0  # 0 until the attack is detected
    first_seen: float = 0.0
    users: dict[str, int] = field(default_factory=dict)
    connections: dict[int, bool] = field(default_factory=dict)  # port -> sshd judged a credential of it


class BruteForceDetector:
    """Five failures of one address within five minutes are an attack, told again each time its count doubles.

    - The window slides over the events' own times and includes both ends: failures at 0 s and 300 s are in one window.
    - From its detection on an attack's failures are counted however slowly they come. A gap of more than the window
      ends it and the count starts anew. A time that lies as far *back* does the same: then the host's clock was set
      back, and to wait until it catches up would be to see nothing for so long.
    - A connection counts the credentials that sshd refused, or once if it only began with an unknown user or ended
      without a login: lines of both kinds about one connection are not added up, whatever their order.
    - Memory is bounded: `CAPACITY` addresses, each with fewer failures than the threshold, `USERS` names and a few
      connections.

    Args:
        threshold: Failures that make an attack.
        window: Seconds.
        logins: Last successful logins (address to epoch seconds) from an earlier run, as `logins` gave them.

    Raises:
        ValueError: The threshold is below 1 or the window is not positive.
    """

    def __init__(
        self, threshold: int = 5, window: float = 300.0, *, logins: Mapping[str, float] = MappingProxyType({})
    ) -> None:
        if threshold < 1 or window <= 0:
            raise ValueError(f"a threshold of {threshold} in {window} s detects nothing: use at least 1 and over 0 s")
        self._threshold = threshold
        self._window = window
        self._sources: OrderedDict[str, _Source] = OrderedDict()
        self._logins: OrderedDict[str, float] = OrderedDict()
        for address, at in sorted(logins.items(), key=lambda login: login[1]):
            self._remember_login(address, at)

    @property
    def logins(self) -> Mapping[str, float]:
        """When each address last logged in: what a guard keeps over a restart, so that it still knows its friends."""
        return MappingProxyType(self._logins)

    def observe(self, event: FailedLogin | SuccessfulLogin) -> Detection | None:
        """Takes one event.

        Returns:
            A detection if this event begins an attack or brings its count to twice the count last asked for.
        """
        if isinstance(event, SuccessfulLogin):
            self._remember_login(event.address, event.at)
            return None
        source = self._source(event)
        source.newest = max(source.newest, event.at)
        count = _counted(source, event)
        if not count:
            return None
        if source.count:
            source.count += count
            source.first_seen = min(source.first_seen, event.at)
            _try(source.users, event.user, count)
        else:
            self._fill_window(source, event, count)
        return self._report(event.address, source) if source.count >= source.report_at else None

    def _source(self, event: FailedLogin) -> _Source:
        """The memory of the event's address: as it was, or new if it is unknown or was quiet for over the window."""
        source = self._sources.get(event.address)
        if source is None or abs(event.at - source.newest) > self._window:
            source = self._sources[event.address] = _Source(newest=event.at, report_at=self._threshold)
        self._sources.move_to_end(event.address)
        if len(self._sources) > CAPACITY:
            self._sources.popitem(last=False)
        return source

    def _fill_window(self, source: _Source, event: FailedLogin, count: int) -> None:
        """Adds a failure of an address that is no attacker yet, and makes it one if the window is full."""
        oldest = source.newest - self._window
        source.recent = [failure for failure in source.recent if failure.at >= oldest]
        source.recent.append(replace(event, count=count))
        total = sum(failure.count for failure in source.recent)
        if total < self._threshold:
            return
        source.count = total
        source.first_seen = min(failure.at for failure in source.recent)
        for failure in source.recent:
            _try(source.users, failure.user, failure.count)
        source.recent = []

    def _report(self, address: str, source: _Source) -> Detection:
        while source.report_at <= source.count:
            source.report_at *= 2
        login = self._logins.get(address)
        known = login is not None and source.newest - login <= LOGIN_MEMORY
        return Detection(
            address=address,
            count=source.count,
            first_seen=source.first_seen,
            last_seen=source.newest,
            users=tuple(sorted(source.users, key=lambda user: -source.users[user])),
            last_login=login if known else None,
        )

    def _remember_login(self, address: str, at: float) -> None:
        self._logins[address] = max(at, self._logins.get(address, at))
        self._logins.move_to_end(address)
        if len(self._logins) > CAPACITY:
            self._logins.popitem(last=False)


def _counted(source: _Source, event: FailedLogin) -> int:
    """How many failures an event adds to those that its connection already counts for."""
    known = source.connections.pop(event.port, None)  # and in again at the end: the oldest makes room
    source.connections[event.port] = event.judged or bool(known)
    if len(source.connections) > _CONNECTIONS:
        del source.connections[next(iter(source.connections))]
    if event.judged:
        return event.count - 1 if known is False else event.count
    return 1 if known is None else 0


def _try(users: dict[str, int], user: str, count: int) -> None:
    """Counts a user name in little memory: the least tried name hands its count on to a new one (space-saving).

    So a name that makes more than one in `USERS` of all tries is always among those kept.
    """
    if user not in users and len(users) >= USERS:
        count += users.pop(min(users, key=users.__getitem__))
    users[user] = users.get(user, 0) + count
