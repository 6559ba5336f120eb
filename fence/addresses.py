"""Addresses and networks: strict parsing, special ranges, interval sets, and disjoint pieces of overlapping entries."""

from bisect import bisect_right
from collections.abc import Iterable
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from itertools import pairwise

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

WIDEST = {4: 24, 6: 48}
"""The shortest prefix that may be blocked, by IP version."""


def parse(text: str) -> Network:
    """Return an address or CIDR as a network; an IPv4-mapped address becomes IPv4.

    Raises:
        ValueError: the text is no single address or network in canonical digits; names are never looked up.
    """
    if not isinstance(text, str) or len(text) > 64 or "%" in text:  # noqa: PLR2004
        raise ValueError("not an address")
    network = ip_network(text, strict=True)
    if is_single(network):
        with suppress(AttributeError):
            del network.hosts  # a closure of 240 bytes that it makes for single addresses
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    if mapped is not None and network.prefixlen >= 96:  # noqa: PLR2004 -- ::ffff:0:0/96
        return parse(f"{mapped}/{network.prefixlen - 96}")
    return network


_NAT64, _6TO4 = IPv6Network("64:ff9b::/96"), IPv6Network("2002::/16")


def embedded_ipv4(network: Network) -> IPv4Network | None:
    """Return the IPv4 network inside a network of NAT64 (RFC 6052) or 6to4 (RFC 3056): its packets end there.

    Of an IPv6 network around all of NAT64's it is 0.0.0.0/0.
    """
    if isinstance(network, IPv4Network):
        return None
    if network.prefixlen < _NAT64.prefixlen and network.overlaps(_NAT64):
        return IPv4Network("0.0.0.0/0")
    for prefix in (_NAT64, _6TO4):
        length = network.prefixlen - prefix.prefixlen
        if length >= 0 and prefix.overlaps(network):
            low = 128 - prefix.prefixlen - 32
            return IPv4Network((int(network.network_address) >> low & 0xFFFFFFFF, min(length, 32)))
    return None


def covers(outer: Network, inner: Network) -> bool:
    """Return whether one network contains every address of another."""
    (first, last), (inner_first, inner_last) = span(outer), span(inner)
    return outer.version == inner.version and first <= inner_first and inner_last <= last


def is_single(network: Network) -> bool:
    """Return whether a network holds one address."""
    return network.prefixlen == network.max_prefixlen


def written(network: Network) -> str:
    """Return a network as requests and reports name it: a single address without its prefix length."""
    return str(network.network_address if is_single(network) else network)


SPECIAL = tuple(
    (ip_network(network), reason)
    for network, reason in (
        ("0.0.0.0/8", "it is an unspecified address"),
        ("127.0.0.0/8", "it is loopback"),
        ("169.254.0.0/16", "it is link-local"),
        ("224.0.0.0/4", "it is multicast"),
        ("240.0.0.0/4", "it is reserved or broadcast"),
        ("::/128", "it is an unspecified address"),
        ("::1/128", "it is loopback"),
        ("fe80::/10", "it is link-local"),
        ("ff00::/8", "it is multicast"),
        ("::ffff:0:0/96", "it contains the IPv4-mapped addresses"),
    )
)
"""Ranges that are never blocked, each with the reason for operators."""

CLOUD_FIXTURES = tuple(
    (ip_network(network), f"it is a cloud fixture ({name})")
    for network, name in (
        ("168.63.129.16/32", "Azure's platform address"),
        ("35.191.0.0/16", "Google's load balancers and health checks"),
        ("130.211.0.0/22", "Google's load balancers and health checks"),
        ("35.235.240.0/20", "Google's IAP tunnels"),
        ("100.100.100.200/32", "Alibaba's metadata service"),
        ("fd00:ec2::254/128", "AWS's metadata service"),
    )
)
"""Addresses of cloud providers' host services, as of 2026-11; 169.254.0.0/16 is link-local already."""


def span(network: Network) -> tuple[int, int]:
    """Return the first and last address of a network as integers; computed, as a network would keep the object."""
    first = int(network.network_address)
    return first, first | (1 << (network.max_prefixlen - network.prefixlen)) - 1


class IntervalSet:
    """A set of networks with an overlap test in logarithmic time."""

    def __init__(self, networks: Iterable[Network] = ()) -> None:
        self._starts: dict[int, list[int]] = {4: [], 6: []}
        self._ends: dict[int, list[int]] = {4: [], 6: []}
        networks = list(networks)
        for version in (4, 6):
            spans = sorted(span(network) for network in networks if network.version == version)
            for first, last in spans:
                if self._ends[version] and first <= self._ends[version][-1] + 1:
                    self._ends[version][-1] = max(last, self._ends[version][-1])
                else:
                    self._starts[version].append(first)
                    self._ends[version].append(last)

    def overlaps(self, network: Network) -> bool:
        """Return whether any address of the network is in the set."""
        starts = self._starts[network.version]
        if not starts:
            return False
        first, last = span(network)
        index = bisect_right(starts, last) - 1
        return index >= 0 and self._ends[network.version][index] >= first

    def intervals(self, version: int) -> list[tuple[Address, Address]]:
        """Return the merged intervals of an IP version, first and last address of each."""
        kind = IPv4Address if version == 4 else IPv6Address  # noqa: PLR2004 -- IPv4
        pairs = zip(self._starts[version], self._ends[version], strict=True)
        return [(kind(first), kind(last)) for first, last in pairs]


_PRIVATE = IntervalSet(
    ip_network(network) for network in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
)
_NEVER_ALLOWED = IntervalSet(network for network, _ in (*SPECIAL, *CLOUD_FIXTURES))


def is_private(network: Network) -> bool:
    """Return whether a network touches a private range (RFC 1918, RFC 6598, RFC 4193)."""
    return _PRIVATE.overlaps(network)


def special_reason(network: Network) -> str | None:
    """Return the reason why a network that touches a special range or a cloud fixture is never blocked; else None."""
    if not _NEVER_ALLOWED.overlaps(network):
        return None
    return next(reason for special, reason in (*SPECIAL, *CLOUD_FIXTURES) if IntervalSet([special]).overlaps(network))


def pieces(entries: Iterable[tuple[Network, float]]) -> list[tuple[int, int, float]]:
    """Return disjoint intervals that cover the same addresses; each has the latest end of the networks that cover it.

    Args:
        entries: networks of one IP version, each with the time at which it ends.

    Returns:
        First address, last address and end, in ascending order; adjacent intervals with the same end are joined.
    """
    spans = sorted((*span(network), end) for network, end in entries)
    edges = sorted({first for first, _, _ in spans} | {last + 1 for _, last, _ in spans})
    result: list[tuple[int, int, float]] = []
    active: list[tuple[int, float]] = []
    index = 0
    for first, after in pairwise(edges):
        while index < len(spans) and spans[index][0] == first:
            active.append((spans[index][1], spans[index][2]))
            index += 1
        active = [(last, end) for last, end in active if last >= first]
        if not active:
            continue
        latest = max(end for _, end in active)
        if result and result[-1][1] + 1 == first and result[-1][2] == latest:
            result[-1] = (result[-1][0], after - 1, latest)
        else:
            result.append((first, after - 1, latest))
    return result


def address_of(version: int, number: int) -> Address:
    """Return an address of an IP version from its number."""
    return IPv4Address(number) if version == 4 else IPv6Address(number)  # noqa: PLR2004 -- IPv4


def single(text: str) -> Address:
    """Parse a single address.

    Raises:
        ValueError: the text is no single address.
    """
    if "%" in text:
        raise ValueError("an address with a zone is not taken")
    address = ip_address(text)
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
