"""The desired measures: those of policy, organization and own decisions, without protected and allowed targets."""

import ipaddress
import socket
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from agent.respond.responder import Kind, Measure
from schemas.policy import Allowlist, BlockedAddress, BlockedDomain, BlockedHash, Blocklist, PolicySections

_SHA256_LENGTH = 64
_LOOPBACK = ("127.0.0.0/8", "::1")
_CACHED = 2_048


@dataclass(frozen=True, slots=True)
class Effective:
    """The effective policy: the last valid value of each section, and the expiry.

    Attributes:
        sections: A value for every section.
        expires_at: Epoch seconds after which the defaults apply; None for never.
        version: The policy's version; 0 without one.
    """

    sections: PolicySections
    expires_at: float | None = None
    version: int = 0


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


def span(text: str) -> Span:
    """Return an address or CIDR as a span with normalized text; IPv4-mapped IPv6 becomes IPv4.

    Raises:
        ValueError: the text is neither.
    """
    try:  # nearly all entries of a list are such; remembering 10,000 of them would take 3 MiB
        number = int.from_bytes(socket.inet_pton(socket.AF_INET, text), "big")
    except (OSError, UnicodeError):
        return _network_span(text)
    return Span(4, number, number, text)


@lru_cache(maxsize=_CACHED)
def _network_span(text: str) -> Span:
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
        self._lasts: dict[int, list[int]] = {4: [], 6: []}
        self._texts: dict[int, list[str]] = {4: [], 6: []}
        """For each position, the highest last address among the spans up to it, and the text of its span."""
        for each in sorted(spans):
            lasts, texts = self._lasts[each.version], self._texts[each.version]
            is_furthest = not lasts or each.last > lasts[-1]
            self._firsts[each.version].append(each.first)
            lasts.append(each.last if is_furthest else lasts[-1])
            texts.append(each.text if is_furthest else texts[-1])

    def overlapping(self, other: Span) -> str | None:
        """Return the text of a span that shares an address with another; None if there is none."""
        return self._reaching(other, other.last, other.first)

    def covering(self, other: Span) -> str | None:
        """Return the text of a span that contains all of another; None if there is none."""
        return self._reaching(other, other.first, other.last)

    def _reaching(self, other: Span, begins_by: int, ends_from: int) -> str | None:
        index = bisect_right(self._firsts[other.version], begins_by) - 1
        if index < 0:
            return None
        return self._texts[other.version][index] if self._lasts[other.version][index] >= ends_from else None


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
                found.refused.append(f"blocklist: {measure.value} is not blocked, it would cut this host off ({own})")
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
