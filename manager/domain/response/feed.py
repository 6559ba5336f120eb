"""Blocklist feed: the blocked networks for firewalls without a guard, as plain text, nftables and nginx."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from itertools import accumulate
from typing import NamedTuple

from manager.domain.networks import Network, network_of
from manager.domain.response.manual_blocks import written

TABLE = "panguard_feed"
"""The nftables table that a feed fills, in the family `inet`."""


class FeedFormat(StrEnum):
    """Format of a feed."""

    PLAIN = "plain"
    NFT = "nft"
    NGINX = "nginx"
    JSON = "json"


class FeedEntry(NamedTuple):
    """One blocked network, and its end in seconds since 1970."""

    network: Network
    expires_at: float


class FeedPart(NamedTuple):
    """One organization's part of a feed.

    Attributes:
        blocks: the end of each of its own blocks by address or CIDR, in seconds since 1970.
        excluded: the addresses and CIDRs of its never list and of the allowlists that hold in it.
    """

    blocks: Mapping[str, float]
    excluded: tuple[str, ...]


def merged_entries(shared: Mapping[str, float], parts: Iterable[FeedPart], now: float) -> list[FeedEntry]:
    """Return the blocked networks of several organizations, sorted: each that holds in at least one of them.

    What one organization excludes takes no block of another one out of the feed.

    Args:
        shared: the end of each block that holds in all of them, by address or CIDR, in seconds since 1970.
        parts: each organization's own blocks, and what it excludes.
        now: blocks that have ended by now are left out.
    """
    ends: dict[Network, float] = {}
    waiting = dict(shared)
    for part in parts:
        later = {value: max(end, shared.get(value, 0.0)) for value, end in part.blocks.items()}
        for entry in feed_entries({**waiting, **later}, part.excluded, now):
            ends[entry.network] = max(entry.expires_at, ends.get(entry.network, 0.0))
            waiting.pop(written(entry.network), None)
    return _sorted(FeedEntry(network, end) for network, end in ends.items())


def feed_entries(blocks: Mapping[str, float], excluded: Iterable[str], now: float) -> list[FeedEntry]:
    """Return the blocked networks that share no address with an excluded one, sorted.

    Args:
        blocks: the end of each block by address or CIDR, in seconds since 1970.
        excluded: the addresses and CIDRs of never lists and allowlists.
        now: blocks that have ended by now are left out.
    """
    index = _OverlapIndex(network for text in excluded if (network := network_of(text)) is not None)
    found = (FeedEntry(network, end) for text, end in blocks.items() if (network := network_of(text)) is not None)
    return _sorted(entry for entry in found if entry.expires_at > now and not index.overlaps(entry.network))


def _sorted(entries: Iterable[FeedEntry]) -> list[FeedEntry]:
    return sorted(entries, key=lambda entry: (entry.network.version, int(entry.network.network_address), entry.network))


def render(entries: Iterable[FeedEntry], format_: FeedFormat) -> str:
    """Return a feed as text: disjoint networks, one in each line of `plain` and `nginx`.

    Raises:
        ValueError: the format is JSON, which is no text of lines.
    """
    texts = list(map(written, _disjoint(entry.network for entry in entries)))
    match format_:
        case FeedFormat.PLAIN:
            return "".join(f"{network}\n" for network in texts)
        case FeedFormat.NGINX:
            return "".join(f"deny {network};\n" for network in texts)
        case FeedFormat.NFT:
            return _nft(texts)
        case FeedFormat.JSON:
            raise ValueError("a JSON feed is no text of lines")


def _disjoint(networks: Iterable[Network]) -> Iterator[Network]:
    """Yield sorted networks without those that lie within another one: nftables refuses overlapping elements."""
    version, furthest = 0, -1
    for network in sorted(networks, key=lambda each: (each.version, int(each.network_address), each.prefixlen)):
        last = int(network.broadcast_address)
        if network.version == version and last <= furthest:
            continue
        version, furthest = network.version, last
        yield network


def _nft(texts: Iterable[str]) -> str:
    """Return a script that makes the table and its two sets where they are missing, and replaces their elements."""
    ipv4: list[str] = []
    ipv6: list[str] = []
    for text in texts:
        (ipv6 if ":" in text else ipv4).append(text)
    lines = [f"add table inet {TABLE}"]
    for name, type_, elements in (("blocked4", "ipv4_addr", ipv4), ("blocked6", "ipv6_addr", ipv6)):
        lines.append(f"add set inet {TABLE} {name} {{ type {type_}; flags interval; }}")
        lines.append(f"flush set inet {TABLE} {name}")
        if elements:
            lines.append(f"add element inet {TABLE} {name} {{")
            lines.append(",\n".join(elements))
            lines.append("}")
    return "\n".join(lines) + "\n"


class _OverlapIndex:
    """Networks sorted by their first address, for an overlap test in logarithmic time."""

    def __init__(self, networks: Iterable[Network]) -> None:
        spans: dict[int, list[tuple[int, int]]] = {4: [], 6: []}
        for network in networks:
            spans[network.version].append((int(network.network_address), int(network.broadcast_address)))
        self._firsts = {version: [first for first, _ in sorted(found)] for version, found in spans.items()}
        self._furthest = {
            version: list(accumulate((last for _, last in sorted(found)), max)) for version, found in spans.items()
        }
        """For each position, the highest last address among the networks up to it."""

    def overlaps(self, network: Network) -> bool:
        """Return whether any network shares an address with another one."""
        index = bisect_right(self._firsts[network.version], int(network.broadcast_address)) - 1
        return index >= 0 and self._furthest[network.version][index] >= int(network.network_address)
