"""Counts the established connections that a block cuts, from the kernel's socket tables."""

from collections import Counter
from collections.abc import Callable, Collection
from ipaddress import IPv4Address, IPv6Address, ip_network
from pathlib import Path
from typing import NamedTuple

from agent.events import Verdict
from agent.logs import EventLog
from schemas.threats import ResponseTaken

_log = EventLog("connections")

SSH_PORTS = (22,)
"""The attacked ports where no fence names those of sshd."""

FRESH_FOR = 5.0
"""Seconds for which the tables are not read again: a busy server's are large."""

_LARGEST = 8 * 1024 * 1024
_ESTABLISHED, _LISTENING = "01", "0A"
_COLUMNS = 4

Address = IPv4Address | IPv6Address


class _Sockets(NamedTuple):
    """The ports that are listened on, and the number of established connections by peer and local port."""

    listening: frozenset[int]
    established: Counter[tuple[Address, int]]


class ConnectionCounts:
    """Counts a peer's established TCP connections in this network namespace.

    Connections that this host forwards, to containers for example, are not in its tables and not counted.

    Args:
        monotonic: The monotonic clock.
        directory: The directory of the tables.
    """

    def __init__(self, monotonic: Callable[[], float], directory: Path = Path("/proc/net")) -> None:
        self._monotonic = monotonic
        self._directory = directory
        self._sockets: _Sockets | None = None
        self._read_at = float("-inf")

    def elsewhere(self, target: str, ports: Collection[int]) -> int | None:
        """Return the number of connections of an address or prefix to other local ports than the attacked ones.

        None if it is not known: the tables cannot be read or are too large, or nothing listens on the attacked ports.
        """
        now = self._monotonic()
        if now - self._read_at >= FRESH_FOR:
            self._sockets, self._read_at = self._read(), now
        sockets = self._sockets
        if sockets is None or sockets.listening.isdisjoint(ports):
            return None
        wanted = ip_network(target)
        return sum(
            count
            for (peer, port), count in sockets.established.items()
            if port not in ports and peer.version == wanted.version and peer in wanted
        )

    def _read(self) -> _Sockets | None:
        listening: set[int] = set()
        established: Counter[tuple[Address, int]] = Counter()
        for name in ("tcp", "tcp6"):
            path = self._directory / name
            try:
                with path.open("rb") as table:
                    text = table.read(_LARGEST + 1).decode("ascii")
                if len(text) > _LARGEST:
                    return None
                for line in text.splitlines()[1:]:
                    self._count(line.split(None, _COLUMNS), listening, established)
            except FileNotFoundError:
                if name == "tcp":
                    return None  # without tcp6 the host has no IPv6
            except (OSError, ValueError) as error:
                _log.warning("connections_unknown", file=str(path), reason=str(error))
                return None
        return _Sockets(frozenset(listening), established)

    @staticmethod
    def _count(columns: list[str], listening: set[int], established: Counter[tuple[Address, int]]) -> None:
        if len(columns) < _COLUMNS:
            return
        _, local, remote, state = columns[:_COLUMNS]
        if state == _LISTENING:
            listening.add(int(local.rpartition(":")[2], 16))
        elif state == _ESTABLISHED:
            established[_address(remote.rpartition(":")[0]), int(local.rpartition(":")[2], 16)] += 1


def with_connections(
    respond: Callable[[Verdict, bool], ResponseTaken | None],
    counts: ConnectionCounts,
    ports: Callable[[], Collection[int]],
) -> Callable[[Verdict, bool], ResponseTaken | None]:
    """Return a function that responds, and states the connections that a block cuts, or would cut.

    They are counted after the response, so that no block waits for it: a block drops their packets, and the sockets
    stay in the tables for minutes. A threat that is found while looking back gets no count.

    Args:
        respond: Responds to a threat.
        counts: Counts connections.
        ports: Returns the attacked ports, whose connections are the attack's own.
    """

    def respond_with_connections(threat: Verdict, past: bool) -> ResponseTaken | None:
        response = respond(threat, past)
        if past or response is None or response.target is None or response.action != "block_ip":
            return response
        return response.model_copy(update={"connections": counts.elsewhere(response.target, ports() or SSH_PORTS)})

    return respond_with_connections


def _address(digits: str) -> Address:
    """Return the address of a table: words of four bytes in the order of a little-endian machine."""
    packed = bytes.fromhex(digits)
    words = [packed[start : start + 4][::-1] for start in range(0, len(packed), 4)]
    if len(words) == 1:
        return IPv4Address(words[0])
    address = IPv6Address(b"".join(words))
    return address.ipv4_mapped or address
