"""Normalisation and comparison of addresses and CIDRs."""

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network

Network = IPv4Network | IPv6Network

_MAPPED_PREFIX = 96
_NAT64, _6TO4 = IPv6Network("64:ff9b::/96"), IPv6Network("2002::/16")


@lru_cache(maxsize=16_384)
def network_of(text: str) -> Network | None:
    """Parse an address or CIDR into a network, an IPv4-mapped one into IPv4; None if it is neither."""
    try:
        network = ip_network(text.strip().partition("%")[0], strict=False)
    except ValueError:
        return None
    if isinstance(network, IPv6Network) and network.prefixlen >= _MAPPED_PREFIX:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return IPv4Network((mapped, network.prefixlen - _MAPPED_PREFIX))
    return network


def overlap(one: Network, other: Network) -> bool:
    """Return whether two networks share an address."""
    if isinstance(one, IPv4Network):
        return isinstance(other, IPv4Network) and one.overlaps(other)
    return isinstance(other, IPv6Network) and one.overlaps(other)


def embedded_ipv4(network: Network) -> IPv4Network | None:
    """Return the IPv4 network inside a network of NAT64 (RFC 6052) or 6to4 (RFC 3056): its packets end there."""
    if isinstance(network, IPv4Network):
        return None
    for prefix in (_NAT64, _6TO4):
        length = network.prefixlen - prefix.prefixlen
        if length >= 0 and prefix.overlaps(network):
            low = 128 - prefix.prefixlen - 32
            return IPv4Network((int(network.network_address) >> low & 0xFFFFFFFF, min(length, 32)))
    return None


class NetworkSet:
    """Set of networks with a cover test: one look-up for each prefix length, no scan.

    Args:
        texts: addresses and CIDRs; other texts are ignored.
    """

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._starts: dict[tuple[int, int], set[int]] = {}
        for text in texts:
            network = network_of(text)
            if network is not None:
                key = (network.version, network.prefixlen)
                self._starts.setdefault(key, set()).add(int(network.network_address))

    def __bool__(self) -> bool:
        return bool(self._starts)

    def covers(self, network: Network) -> bool:
        """Return whether a network of the set contains every address of `network`."""
        start, bits = int(network.network_address), network.max_prefixlen
        return any(
            start >> (bits - prefix) << (bits - prefix) in starts
            for (version, prefix), starts in self._starts.items()
            if version == network.version and prefix <= network.prefixlen
        )
