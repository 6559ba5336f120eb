"""Never list of an organization: networks that guards and fences refuse as targets (the contract, section 5)."""

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Network, IPv6Network, collapse_addresses
from itertools import islice
from typing import NamedTuple

from manager.domain.networks import Network, NetworkSet, overlap

NEVER_LIMIT = 1000
"""The most networks in a list."""

_STEPS = 8
_BITS = {4: 1, 6: 10}
"""Bits by which a network is widened in one step, by version: at most to a /24 and a /48."""

LIFT_TIME = 300.0
"""Seconds for which a lifted address is in the list, so that fences end the blocks that their guards decided."""

LIFT_LIMIT = 100
"""The most lifted networks in an organization's list; a further one takes the place of the one that ends first."""


class LiftedAddresses:
    """Addresses and networks that a person lifted a few minutes ago, by organization. Times are seconds since 1970."""

    def __init__(self) -> None:
        self._until: dict[str, dict[Network, float]] = {}
        self._changed: set[str] = set()

    def load(self, organization_id: str, lifted: Mapping[Network, float]) -> None:
        """Restore an organization's list from the store."""
        if lifted:
            self._until[organization_id] = dict(lifted)

    def add(self, organization_id: str, network: Network, until: float) -> None:
        """Add a network to an organization's list until a time; the list holds `LIFT_LIMIT`."""
        lifted = self._until.setdefault(organization_id, {})
        lifted[network] = until
        if len(lifted) > LIFT_LIMIT:
            del lifted[min((each for each in lifted if each != network), key=lifted.__getitem__)]
        self._changed.add(organization_id)

    def end(self, organization_id: str, network: Network) -> bool:
        """Drop what shares an address with a network, because somebody blocks it again; return whether any did."""
        lifted = self._until.get(organization_id, {})
        gone = [each for each in lifted if overlap(each, network)]
        for each in gone:
            del lifted[each]
        self._changed |= {organization_id} if gone else set()
        return bool(gone)

    def of_organization(self, organization_id: str) -> dict[Network, float]:
        """Return the networks in an organization's list, each with the time until which it is there."""
        return dict(self._until.get(organization_id, {}))

    def holds(self, organization_id: str, network: Network, now: float) -> bool:
        """Return whether a network shares an address with one that is lifted in an organization."""
        lifted = self._until.get(organization_id, {})
        return any(until > now and overlap(each, network) for each, until in lifted.items())

    def published(self, organization_id: str) -> None:
        """Note that an organization's list was published as it is now."""
        self._changed.discard(organization_id)

    def take_changed(self, now: float) -> list[str]:
        """Drop what has ended by now; return the organizations whose list changed since the last call.

        No lift lasts longer than `LIFT_TIME` from now: the clock may have been set back.
        """
        for organization_id, lifted in list(self._until.items()):
            lifted.update({each: now + LIFT_TIME for each, until in lifted.items() if until > now + LIFT_TIME})
            ended = [each for each, until in lifted.items() if until <= now]
            for each in ended:
                del lifted[each]
            if ended:
                self._changed.add(organization_id)
            if not lifted:
                del self._until[organization_id]
        changed, self._changed = sorted(self._changed), set()
        return changed


class NeverList(NamedTuple):
    """The networks in text form, sorted, and the number of networks that found no room."""

    networks: tuple[str, ...]
    left_out: int


class Tier(NamedTuple):
    """Networks that go into a list before those of later tiers.

    `may_widen` says that neighbouring ones may share a wider network where there is no room for each.
    """

    networks: Iterable[Network]
    may_widen: bool = False


def never_list(tiers: Iterable[Tier], most: int = NEVER_LIMIT) -> NeverList:
    """Aggregate networks to a list, the tiers in the order of their precedence.

    Neighbouring addresses share wider networks only as far as the limit asks for it, those of the last tier first. If
    the list is too long even so, the last tiers are cut.

    Args:
        tiers: the networks, the most important tier first.
        most: the most networks in the list.
    """
    given = list(tiers)
    found: list[list[Network]] = []
    for tier in given:
        earlier = NetworkSet(str(each) for networks in found for each in networks)
        found.append([each for each in _collapsed(tier.networks) if not earlier.covers(each)])
    for index in reversed(range(len(given))):
        for step in range(1, _STEPS + 1) if given[index].may_widen else ():
            if sum(map(len, found)) <= most:
                break
            found[index] = _widened(found[index], step)
    listed = list(islice((each for networks in found for each in networks), most))
    return NeverList(tuple(_text(each) for each in _collapsed(listed)), sum(map(len, found)) - len(listed))


def _text(network: Network) -> str:
    """Return a network as the contract writes it: an address without its prefix length."""
    whole = network.prefixlen == network.max_prefixlen
    return str(network.network_address) if whole else str(network)


def _collapsed(networks: Iterable[Network]) -> list[Network]:
    """Return disjoint networks that cover the same addresses, sorted."""
    by_version: dict[int, list[Network]] = {4: [], 6: []}
    for network in networks:
        by_version[network.version].append(network)
    ipv4 = collapse_addresses(each for each in by_version[4] if isinstance(each, IPv4Network))
    ipv6 = collapse_addresses(each for each in by_version[6] if isinstance(each, IPv6Network))
    return [*ipv4, *ipv6]


def _widened(networks: list[Network], step: int) -> list[Network]:
    """Return networks of which those that share the step's wider network are replaced by it."""
    members: dict[Network, list[Network]] = {}
    for network in networks:
        prefix = network.max_prefixlen - step * _BITS[network.version]
        wider = network if network.prefixlen <= prefix else network.supernet(new_prefix=prefix)
        members.setdefault(wider, []).append(network)
    return _collapsed(wider if len(of_one) > 1 else of_one[0] for wider, of_one in members.items())
