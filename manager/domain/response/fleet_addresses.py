"""Index of the fleet's own addresses and gateways."""

import re
from collections.abc import Iterable
from ipaddress import ip_network
from typing import NamedTuple, TypeVar

from manager.domain.correlation.indicators import SITELESS, Indicator, indicators_of, normal_address
from manager.domain.networks import network_of, overlap

_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_NORMAL_IPV4 = re.compile(rf"{_OCTET}(?:\.{_OCTET}){{3}}")  # most addresses, ten times as fast as parsing

_Key = TypeVar("_Key")

_Place = tuple[str, str]
"""An organization and a site in it."""


class _Stated(NamedTuple):
    """The addresses and gateways of one agent, in normal form, and those of them that are gateways."""

    place: _Place
    values: tuple[str, ...]
    gateways: tuple[str, ...]


class FleetAddresses:
    """Addresses and gateways in agents' registrations.

    They count in the agent's own organization, private addresses on its own site: 192.168.1.1 is another gateway behind
    each NAT, and no organization can shield an attacker from another one's blocklist.
    """

    def __init__(self) -> None:
        self._agents_at: dict[str, dict[_Place, int]] = {}
        self._of_agent: dict[str, _Stated] = {}
        self._in_organization: dict[str, dict[str, int]] = {}
        self._gateways_in: dict[str, dict[str, int]] = {}
        self._places: dict[_Place, _Place] = {}
        self.changed: set[str] = set()
        """Organizations whose addresses changed; whoever acts on it clears it."""

    def __len__(self) -> int:
        """Return the number of different addresses."""
        return len(self._agents_at)

    def adopt(self, built: "FleetAddresses") -> None:
        """Take over everything of an index that was built from the store; this one has nothing yet."""
        vars(self).update(vars(built))

    def set(
        self,
        agent_id: str,
        organization_id: str,
        site: str | None,
        addresses: Iterable[str],
        gateways: Iterable[str] = (),
    ) -> None:
        """Replace an agent's addresses and gateways."""
        known = self._of_agent.get(agent_id)
        self._discard(agent_id)
        place = (organization_id, site or SITELESS)
        place = self._places.setdefault(place, place)
        hops = _normalised(gateways)
        stated = _Stated(place, tuple(dict.fromkeys((*_normalised(addresses), *hops))), hops)
        if known != stated:
            self.changed |= {organization_id} if known is None else {organization_id, known.place[0]}
        if stated.values:
            self._of_agent[agent_id] = stated
        for value in stated.values:
            _count(self._agents_at.setdefault(value, {}), place)
            _count(self._in_organization.setdefault(organization_id, {}), value)
        for value in hops:
            _count(self._gateways_in.setdefault(organization_id, {}), value)

    def discard(self, agent_id: str) -> None:
        """Drop an agent's addresses."""
        known = self._of_agent.get(agent_id)
        if known is not None:
            self.changed.add(known.place[0])
        self._discard(agent_id)

    def indicators_of(self, agent_id: str) -> list[Indicator]:
        """Return an agent's addresses and gateways as the indicators that reports of them would have."""
        known = self._of_agent.get(agent_id)
        if known is None:
            return []
        organization_id, site = known.place
        return [found for value in known.values for found in indicators_of(organization_id, site, value, None, None)]

    def of_organization(self, organization_id: str) -> list[str]:
        """Return all addresses and gateways of an organization's agents, private ones of every site."""
        return list(self._in_organization.get(organization_id, ()))

    def gateways_of(self, organization_id: str) -> list[str]:
        """Return the gateways that an organization's agents state, private ones of every site."""
        return list(self._gateways_in.get(organization_id, ()))

    def _discard(self, agent_id: str) -> None:
        known = self._of_agent.pop(agent_id, None)
        if known is None:
            return
        organization_id = known.place[0]
        for value in known.values:
            agents = self._agents_at[value]
            _uncount(agents, known.place)
            if not agents:
                del self._agents_at[value]
            _uncount(self._in_organization[organization_id], value)
        for value in known.gateways:
            _uncount(self._gateways_in[organization_id], value)

    def holds(self, value: str, organization_id: str, site: str | None) -> bool:
        """Return whether an address is an agent's own or its gateway, or a CIDR contains such an address.

        Args:
            value: an address or CIDR in normal form.
            organization_id: the organization in which it would be blocked.
            site: for a private address the site, else None.
        """
        if "/" not in value:
            return self._is_at(value, organization_id, site)
        network = ip_network(value)
        return any(
            self._is_at(address, organization_id, site)
            for address in self._agents_at
            if (own := network_of(address)) is not None and overlap(network, own)
        )

    def organizations_at(self, value: str) -> frozenset[str]:
        """Return the organizations of which an agent or a gateway has an address, at any site."""
        return frozenset(organization_id for organization_id, _ in self._agents_at.get(value, ()))

    def _is_at(self, value: str, organization_id: str, site: str | None) -> bool:
        places = self._agents_at.get(value)
        if places is None:
            return False
        if site is not None:
            return (organization_id, site) in places
        return any(organization == organization_id for organization, _ in places)


def _normalised(texts: Iterable[str]) -> tuple[str, ...]:
    """Return addresses in normal form, each once; texts that are none are left out."""
    return tuple({value: None for text in texts if (value := _normal(text)) is not None})


def _count(counts: dict[_Key, int], key: _Key) -> None:
    counts[key] = counts.get(key, 0) + 1


def _uncount(counts: dict[_Key, int], key: _Key) -> None:
    counts[key] -= 1
    if not counts[key]:
        del counts[key]


def _normal(text: str) -> str | None:
    """Return an interface's address, with or without its prefix length, in normal form."""
    text = text.partition("/")[0]
    if _NORMAL_IPV4.fullmatch(text):
        return text
    address = normal_address(text)
    return address.value if address is not None else None
