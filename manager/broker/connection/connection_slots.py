"""Connection slots of the embedded broker: shares for agents, for registering clients, and for unauthenticated ones.

The password of registering clients is public. Without shares their idle connections, or connections that never send a
CONNECT, would use all slots and lock out enrolled agents.
"""

from collections import Counter
from collections.abc import Hashable
from ipaddress import IPv6Address, ip_address, ip_network

from manager.broker.limits import BrokerLimits

_SITE_PREFIX = 64


class ConnectionSlots:
    """Counts open connections by state. No I/O; a connection is any hashable object.

    Args:
        limits: the shares.
    """

    def __init__(self, limits: BrokerLimits) -> None:
        self._limits = limits
        self._pending: dict[Hashable, str] = {}
        self._users: dict[Hashable, str | None] = {}
        self._guests: dict[Hashable, str] = {}
        self._by_user: Counter[str | None] = Counter()
        self._guests_by_network: Counter[str] = Counter()

    @property
    def total(self) -> int:
        """The number of open connections."""
        return len(self._pending) + len(self._users) + len(self._guests)

    def open(self, connection: Hashable, address: str) -> Hashable | None:
        """Add a connection that has not sent its CONNECT; return the connection to close instead, if any.

        The oldest pending connection is closed, because an honest client sends its CONNECT at once.
        """
        self._pending[connection] = network_of(address)
        if len(self._pending) <= self._limits.pending_connections:
            return None
        oldest = next(iter(self._pending))
        del self._pending[oldest]
        return oldest

    def admit(self, connection: Hashable, username: str | None, *, guest: bool) -> str | None:
        """Move a pending connection to its user's share; return the reason to refuse it, or None.

        Args:
            connection: one that `open` has added and that was not closed since.
            username: the authenticated user.
            guest: whether the user's password is public.
        """
        network = self._pending[connection]
        limits = self._limits
        if guest:
            if len(self._guests) >= limits.registration_connections:
                return "too many registering clients"
            if self._guests_by_network[network] >= limits.registration_connections_per_network:
                return f"too many registering clients from {network}"
            self._guests[connection] = network
            self._guests_by_network[network] += 1
        else:
            if len(self._users) >= limits.connections:
                return "too many connections"
            if self._by_user[username] >= limits.connections_per_user:
                return "too many connections of this user"
            self._users[connection] = username
            self._by_user[username] += 1
        del self._pending[connection]
        return None

    def close(self, connection: Hashable) -> None:
        """Remove a connection; an unknown one is ignored."""
        self._pending.pop(connection, None)
        if connection in self._users:
            username = self._users.pop(connection)
            self._by_user[username] -= 1
            if not self._by_user[username]:
                del self._by_user[username]
        elif connection in self._guests:
            network = self._guests.pop(connection)
            self._guests_by_network[network] -= 1
            if not self._guests_by_network[network]:
                del self._guests_by_network[network]


def network_of(address: str) -> str:
    """Return the network that counts as one client: an IPv4 address, or an IPv6 /64."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, IPv6Address):
        return str(found.ipv4_mapped or ip_network((found, _SITE_PREFIX), strict=False))
    return str(found)
