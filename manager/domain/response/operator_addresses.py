"""Addresses of the people who use the API: never blocked while their last request is not older than 12 hours."""

import json
from collections import OrderedDict
from collections.abc import Iterable
from math import isfinite

from manager.domain.instant import Instant
from manager.domain.networks import Network, network_of, overlap

KEPT_FOR = 12 * 3600.0
"""Seconds after a person's last request for which its address is kept."""

MOST = 200
"""The most addresses; a further one drops the one whose last request is the oldest."""

_Place = tuple[str, str | None]
"""An address, and the organization in which it counts; None for all of them."""


class OperatorAddresses:
    """Addresses by their last request, the oldest first. Loopback addresses do not count.

    The address of a person who is limited to some organizations counts only in these: no organization can shield an
    attacker from another one's blocklist.
    """

    def __init__(self) -> None:
        self._last: OrderedDict[_Place, float] = OrderedDict()
        self.changed = False
        """Whether an address came or went; whoever acts on it clears it."""

    def load(self, stored: str | None, now: Instant) -> None:
        """Load what `stored_value` returned before a restart; an age that cannot be right counts as 0."""
        listed = json.loads(stored or "[]")
        places = [((address, organization_id), now.wall - at) for address, organization_id, at in listed]
        for place, age in sorted(places, key=lambda item: -item[1]):
            if isfinite(age) and age < KEPT_FOR:
                self._last[place] = now.monotonic - max(0.0, age)

    def stored_value(self, now: Instant) -> str:
        """Return the addresses and the times of their last requests as text."""
        offset = now.wall - now.monotonic
        return json.dumps([(*place, round(at + offset, 3)) for place, at in self._last.items()])

    def record(self, address: str, organizations: Iterable[str] | None, now: Instant) -> bool:
        """Record a request of a person; return whether its address is new.

        Args:
            address: the client's address.
            organizations: those that the person is limited to; None for all.
            now: the time of the request.
        """
        network = network_of(address)
        if network is None or network.is_loopback or network.prefixlen != network.max_prefixlen:
            return False
        value, is_new = str(network.network_address), False
        for organization_id in [None] if organizations is None else sorted(organizations):
            place = (value, organization_id)
            is_new |= place not in self._last
            self._last[place] = now.monotonic
            self._last.move_to_end(place)
        while len(self._last) > MOST:
            self._last.popitem(last=False)
        self.changed |= is_new
        return is_new

    def expire(self, now: Instant) -> bool:
        """Drop the addresses without a request for 12 hours; return whether there was any."""
        gone = False
        while self._last and now.monotonic - next(iter(self._last.values())) >= KEPT_FOR:
            self._last.popitem(last=False)
            gone = self.changed = True
        return gone

    def of_organization(self, organization_id: str) -> list[str]:
        """Return the addresses that count in an organization."""
        return [address for address, limited in self._last if limited in {None, organization_id}]

    def holds(self, network: Network, organization_id: str) -> bool:
        """Return whether a network contains an address that counts in an organization."""
        if not self._last:
            return False
        if network.prefixlen == network.max_prefixlen:
            value = str(network.network_address)
            return (value, None) in self._last or (value, organization_id) in self._last
        found = (network_of(address) for address in self.of_organization(organization_id))
        return any(own is not None and overlap(own, network) for own in found)
