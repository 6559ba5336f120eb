"""Allowlists for correlation: indicators that open no incident."""

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Protocol

from manager.domain.correlation.indicators import (
    Indicator,
    bit_of,
    normal_hash,
    normal_network,
    normal_techniques,
    parsed_address,
)
from manager.domain.networks import Network, network_of, overlap


class Allowed(Protocol):
    """Predicate: the indicator is allowlisted in its organization."""

    def __call__(self, indicator: Indicator, /) -> bool:
        """Return whether the indicator is allowlisted."""
        ...


def allow_nothing(_: Indicator, /) -> bool:
    """Return False for every indicator."""
    return False


class Allowlist:
    """Parsed allowlists of several organizations, for fast look-ups.

    Args:
        entries: addresses, CIDRs, file hashes and techniques by organization. A technique covers its sub-techniques.

    Raises:
        ValueError: an entry is none of these; the message names it.
    """

    def __init__(self, entries: Mapping[str, Iterable[str]]) -> None:
        self._values: dict[str, frozenset[str]] = {}
        self._networks: dict[str, tuple[IPv4Network | IPv6Network, ...]] = {}
        for organization_id, texts in entries.items():
            values, networks = set(), []
            for text in texts:
                value = normal_hash(text) or next(iter(normal_techniques(text)), None)
                if value is not None:
                    values.add(value)
                    continue
                network = _network(text)
                if network.num_addresses == 1:
                    values.add(str(network.network_address))
                else:
                    networks.append(network)
            self._values[organization_id] = frozenset(values)
            self._networks[organization_id] = tuple(networks)

    def is_empty(self, organization_id: str) -> bool:
        """Return whether an organization has allowlisted nothing."""
        return not self._values.get(organization_id) and not self._networks.get(organization_id)

    def overlaps(self, organization_id: str, network: Network) -> bool:
        """Return whether an organization has allowlisted an address of a network."""
        if any(overlap(network, allowed) for allowed in self._networks.get(organization_id, ())):
            return True
        values = self._values.get(organization_id, frozenset())
        if network.num_addresses <= len(values):
            return any(str(address) in values for address in network)
        return any((single := network_of(value)) is not None and overlap(network, single) for value in values)

    def __call__(self, indicator: Indicator, /) -> bool:
        """Return whether the indicator's own organization has allowlisted it."""
        values = self._values.get(indicator.organization_id)
        if values is None:
            return False
        if indicator.value in values:
            return True
        if indicator.kind == "source_ip":
            networks = self._networks[indicator.organization_id]
            return bool(networks) and any(parsed_address(indicator.value) in network for network in networks)
        return indicator.kind == "technique" and indicator.value.partition(".")[0] in values


def ignored_bits(indicators: Iterable[Indicator], technique: str | None, allowed: Allowed) -> int:
    """Return the bits (`Report.ignored`) of the allowlisted ones among a report's indicators.

    Args:
        indicators: the indicators of the report.
        technique: the technique that it names.
        allowed: the allowlists.
    """
    return sum(bit_of(indicator, technique) for indicator in indicators if allowed(indicator))


def _network(text: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(normal_network(text))
    except ValueError as error:
        raise ValueError(f"not an address, CIDR, file hash or technique: {text!r}") from error
