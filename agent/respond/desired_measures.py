"""The desired measures: those of policy, organization and own decisions, without protected and allowed targets."""

import ipaddress
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from agent.respond.responder import Kind, Measure
from schemas.policy import Allowlist, BlockedAddress, BlockedDomain, BlockedHash, Blocklist

_SHA256_LENGTH = 64
_LOOPBACK = ("127.0.0.0/8", "::1")
_CACHED = 16_384


class Span(NamedTuple):
    """An address or CIDR as the numbers of its first and last address, for fast comparison."""

    version: int
    first: int
    last: int
    text: str

    def overlaps(self, other: "Span") -> bool:
        """Return whether both spans share an address."""
        return self.version == other.version and self.first <= other.last and other.first <= self.last


@dataclass(frozen=True, slots=True)
class DesiredMeasures:
    """The measures to enforce, and an error message for each refused one."""

    measures: dict[tuple[Kind, str], Measure] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)


@lru_cache(maxsize=_CACHED)
def span(text: str) -> Span:
    """Return an address or CIDR as a span with normalized text; IPv4-mapped IPv6 becomes IPv4.

    Raises:
        ValueError: the text is neither.
    """
    network = ipaddress.ip_network(text, strict=False)
    mapped = network.network_address.ipv4_mapped if isinstance(network, ipaddress.IPv6Network) else None
    if mapped is not None and network.prefixlen >= 96:  # noqa: PLR2004 -- IPv4 in IPv6: 96 bits before the address
        network = ipaddress.ip_network((mapped, network.prefixlen - 96), strict=False)
    first, last = network.network_address, network.broadcast_address
    return Span(network.version, int(first), int(last), str(first) if first == last else str(network))


def overlapping(one: Span, others: Iterable[Span]) -> Span | None:
    """Return the first of `others` that shares an address with `one`."""
    return next((other for other in others if one.overlaps(other)), None)


class SpanIndex:
    """Spans sorted by their first address: finds one that overlaps another in logarithmic time."""

    def __init__(self, spans: Iterable[Span]) -> None:
        self._firsts: dict[int, list[int]] = {4: [], 6: []}
        self._furthest: dict[int, list[Span]] = {4: [], 6: []}
        """For each position, the span with the highest last address among the spans up to it."""
        for each in sorted(spans):
            firsts, furthest = self._firsts[each.version], self._furthest[each.version]
            firsts.append(each.first)
            furthest.append(each if not furthest or each.last > furthest[-1].last else furthest[-1])

    def overlapping(self, other: Span) -> Span | None:
        """Return a span that shares an address with another; None if there is none."""
        index = bisect_right(self._firsts[other.version], other.last) - 1
        if index < 0:
            return None
        found = self._furthest[other.version][index]
        return found if found.last >= other.first else None

    def covering(self, other: Span) -> Span | None:
        """Return a span that contains all of another; None if there is none."""
        index = bisect_right(self._firsts[other.version], other.first) - 1
        if index < 0:
            return None
        found = self._furthest[other.version][index]
        return found if found.last >= other.last else None


def protected_spans(addresses: Iterable[str]) -> tuple[Span, ...]:
    """Return the spans that are never blocked: loopback, and the given addresses."""
    return tuple(span(address) for address in (*_LOOPBACK, *addresses))


def from_policy(blocklist: Blocklist) -> list[Measure]:
    """Return the measures of a policy's blocklist."""
    measures: list[Measure] = []
    kinds: tuple[tuple[Kind, Iterable[str | BlockedAddress | BlockedDomain | BlockedHash]], ...] = (
        ("ip", blocklist.ips),
        ("domain", blocklist.domains),
        ("file_hash", blocklist.file_hashes),
    )
    for kind, entries in kinds:
        for entry in entries:
            if isinstance(entry, str):
                measures.append(Measure(kind, entry))
                continue
            expires_at = None if entry.expires_at is None else entry.expires_at.timestamp()
            measures.append(Measure(kind, entry.value, entry.reason, expires_at, entry.incident_id))
    return measures


def desired_measures(
    measures: Iterable[Measure], allowlist: Allowlist, protected: Iterable[Span], now: float
) -> DesiredMeasures:
    """Return the measures desired at `now`.

    Expired measures are omitted. Of two measures for one value the one that lasts longer counts. The allowlist and the
    protected spans take precedence: a block that shares an address with one of them is omitted.

    Args:
        measures: All measures.
        allowlist: The policy's allowlist.
        protected: The spans that are never blocked.
        now: Epoch seconds.
    """
    allowed = SpanIndex(span(address) for address in allowlist.ips)
    allowed_hashes = frozenset(allowlist.file_hashes)
    guarded = SpanIndex(protected)
    found = DesiredMeasures()
    for measure in measures:
        key = (measure.kind, measure.value)
        if _expired(measure, now) or _outlasts(found.measures.get(key), measure):
            continue
        if measure.kind == "ip":
            block = span(measure.value)
            if allowed.overlapping(block) is not None:
                continue
            own = guarded.overlapping(block)
            if own is not None:
                found.refused.append(
                    f"blocklist: {measure.value} is not blocked, it would cut this host off ({own.text})"
                )
                continue
        elif measure.kind == "file_hash" and (measure.value in allowed_hashes or len(measure.value) != _SHA256_LENGTH):
            continue  # shorter hashes can be forged to match a needed file, so they alert and never quarantine
        found.measures[key] = measure
    return found


def lasting(measures: Iterable[Measure], now: float) -> list[Measure]:
    """Return the measures that have not expired."""
    return [measure for measure in measures if not _expired(measure, now)]


def next_expiry(measures: Iterable[Measure]) -> float:
    """Return the first expiry in epoch seconds; infinity without one."""
    return min((measure.expires_at for measure in measures if measure.expires_at is not None), default=float("inf"))


def _expired(measure: Measure, now: float) -> bool:
    return measure.expires_at is not None and measure.expires_at <= now


def _outlasts(one: Measure | None, other: Measure) -> bool:
    """Return whether `one` lasts at least as long as `other`."""
    if one is None:
        return False
    return one.expires_at is None or (other.expires_at is not None and other.expires_at <= one.expires_at)
