"""The bounded table of sources: one entry for each address, with a slot for each rule that counts by source."""

from array import array
from collections import OrderedDict
from collections.abc import Iterable
from typing import NamedTuple

from agent.detect.ssh_connection import SshConnection

CAPACITY = 10_000
"""The maximum number of sources in the table; the least recently seen one is evicted."""

FAILURES = 10
"""The maximum number of recent failures kept for each source."""

USERS = 5
"""The maximum number of user names kept for each source: the most attempted ones."""

_CONNECTIONS = 16
_NEVER = float("-inf")


class Failure(NamedTuple):
    """A failed login.

    Attributes:
        at: Epoch seconds.
        weight: The number of failures that it counts for.
        user: The attempted user name.
        address: The peer.
        guess: A secret or a user name was guessed; False if only keys were offered.
        valid_user: The user exists.
    """

    at: float
    weight: int
    user: str
    address: str
    guess: bool = True
    valid_user: bool = True


class Tally:
    """A count that is reported when it reaches a threshold and at each doubling.

    Args:
        threshold: The first count to report.
        count: The count to begin with.
        first_seen: The time of the first event.
    """

    __slots__ = ("count", "first_seen", "report_at")

    def __init__(self, threshold: int, count: int, first_seen: float) -> None:
        self.count = count
        self.first_seen = first_seen
        self.report_at = threshold

    def add(self, count: int, at: float) -> None:
        """Count events."""
        self.count += count
        self.first_seen = min(self.first_seen, at)

    def due(self) -> bool:
        """Return whether the count must be reported now; the next report is due when it has doubled."""
        if self.count < self.report_at:
            return False
        while self.report_at <= self.count:
            self.report_at *= 2
        return True


class AddressState:
    """The rules' state for one address or one IPv6 /64.

    Attributes:
        key: The address or prefix.
        newest: Epoch seconds of the latest failure.
        failures: The latest failures, at most `FAILURES`, in order of arrival.
        users: Failures by user name, for at most `USERS` names.
        attack: The tally of failures since an attack began; None without an attack.
        throttled: The attack was reported as one to be throttled.
        slow: The tally of failures since a slow attack began.
        connections: Recent connections, at most `_CONNECTIONS`, by port; those without one by process.
        ends: Connections that ended before authentication and named a valid user: time, user and address.
        contacts: Times of recent contacts that named no user.
        contact: The tally of contacts since a series of them began.
    """

    __slots__ = (
        "attack",
        "connections",
        "contact",
        "contacts",
        "ends",
        "failures",
        "key",
        "newest",
        "slow",
        "throttled",
        "users",
    )

    def __init__(self, key: str) -> None:
        self.key = key
        self.newest = _NEVER
        self.failures: list[Failure] = []
        self.users: dict[str, int] | None = None
        self.attack: Tally | None = None
        self.throttled = False
        self.slow: Tally | None = None
        self.connections: dict[int, SshConnection] = {}
        self.ends: list[Failure] | None = None
        self.contacts: list[float] | None = None
        self.contact: Tally | None = None

    def connection(self, port: int | None, pid: int | None, at: float) -> SshConnection:
        """Return a log line's connection, found by the peer's port or else by the process; create it if unknown."""
        connections = self.connections
        key = port if port is not None else -1 - (pid or 0)
        known = connections.pop(key, None)
        if known is None and connections:
            known = self._of_process(port, pid)
        if known is not None and known.is_of(port, pid, at):
            known.join(port, pid, at)
            if known.port is not None and known.port != key:
                key = known.port
                connections.pop(key, None)
        else:
            known = SshConnection(port, pid, at)
        connections[key] = known  # at the end: the first one is evicted next
        if len(connections) > _CONNECTIONS:
            del connections[next(iter(connections))]
        return known

    def _of_process(self, port: int | None, pid: int | None) -> SshConnection | None:
        """Return the connection of this process, if it or the line has no port."""
        if port is not None:
            return self.connections.pop(-1 - (pid or 0), None)
        if pid is None:
            return None
        return next((one for one in reversed(self.connections.values()) if one.pid == pid), None)

    def count_user(self, user: str, count: int) -> None:
        """Count a user name in bounded memory by the space-saving algorithm: a new name inherits the lowest count.

        So a name with more than one in `USERS` of all attempts is always kept.
        """
        users = self.users
        if users is None:
            self.users = {user: count}
            return
        if user not in users and len(users) >= USERS:
            count += users.pop(min(users, key=users.__getitem__))
        users[user] = users.get(user, 0) + count

    @property
    def top_users(self) -> list[str]:
        """Return the most attempted user names, in descending order of attempts."""
        users = self.users or {}
        return sorted((user for user in users if user), key=lambda user: -users[user])


class AddressTable:
    """Holds at most `CAPACITY` sources. The failure times of an evicted source are kept, in 40 bytes."""

    def __init__(self) -> None:
        self._sources: OrderedDict[str, AddressState] = OrderedDict()
        self._evicted: EvictedFailures | None = None

    def __len__(self) -> int:
        return len(self._sources)

    def get(self, key: str) -> AddressState | None:
        """Return the entry of a source; None without one."""
        return self._sources.get(key)

    def touch(self, key: str) -> AddressState:
        """Return the entry of a source, created if missing, and mark it as the most recently seen."""
        source = self._sources.get(key)
        if source is not None:
            self._sources.move_to_end(key)
            return source
        source = self._sources[key] = AddressState(key)
        times = [] if self._evicted is None else self._evicted.take(key)
        if times:
            address = "" if "/" in key else key
            source.failures = [Failure(float(at), 1, "", address) for at in times]
            source.newest = float(max(times))
        if len(self._sources) > CAPACITY:
            self._evict(self._sources.popitem(last=False)[1])
        return source

    def _evict(self, source: AddressState) -> None:
        if self._evicted is None:
            self._evicted = EvictedFailures()
        times = [failure.at for failure in source.failures for _ in range(min(failure.weight, FAILURES))]
        if times:
            self._evicted.put(source.key, times[-FAILURES:])


class EvictedFailures:
    """The failure times of up to 65,536 sources that were evicted from the table, in about 3 MB.

    A set-associative array: a source's hash selects a set of 16 slots; the slot with the oldest failure is reused.
    Python's string hash has a random key in each process, so an attacker cannot choose sources for one set.
    """

    _WAYS = 16
    _SETS = 4096

    def __init__(self) -> None:
        slots = self._WAYS * self._SETS
        self._keys = array("Q", bytes(8 * slots))
        self._newest = array("I", bytes(4 * slots))
        self._times = array("I", bytes(4 * FAILURES * slots))

    def put(self, key: str, times: Iterable[float]) -> None:
        """Store the times of a source, oldest first, at most `FAILURES`; whole seconds since 1970."""
        fingerprint, begin = self._place(key)
        ages = self._newest[begin : begin + self._WAYS]  # 0 for a free slot
        slot = begin + ages.index(min(ages))
        kept = [min(max(int(at), 1), 0xFFFFFFFF) for at in times]
        self._keys[slot] = fingerprint
        self._newest[slot] = max(kept)
        first = slot * FAILURES
        self._times[first : first + FAILURES] = array("I", kept + [0] * (FAILURES - len(kept)))

    def take(self, key: str) -> list[int]:
        """Remove and return the times of a source; empty if there are none."""
        fingerprint, begin = self._place(key)
        try:
            slot = self._keys.index(fingerprint, begin, begin + self._WAYS)
        except ValueError:
            return []
        self._keys[slot] = self._newest[slot] = 0
        first = slot * FAILURES
        return [at for at in self._times[first : first + FAILURES] if at]

    def _place(self, key: str) -> tuple[int, int]:
        fingerprint = hash(key) & 0xFFFFFFFFFFFFFFFF or 1
        return fingerprint, (fingerprint % self._SETS) * self._WAYS
