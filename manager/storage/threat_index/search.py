"""Threat index, reading: finds the sequences of threats by any combination of filters."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from manager.storage.queries.reader import Reader
from manager.storage.threat_index.bitmaps import bits_of_agent, positions, unpacked

_SLICES_READ = 16
_MOST_SLICES_READ = 256


class ThreatIndexSearch(NamedTuple):
    """Filters of threats; None matches any. `since` is the time of receipt by the manager, in seconds since 1970."""

    since: float | None = None
    severity: str | None = None
    type: str | None = None
    organization_id: str | None = None
    agent_number: int | None = None

    @property
    def needs_bitmaps(self) -> bool:
        """Whether any filter but `since` is set, so that the bitmaps of a slice must be read."""
        return any(wanted is not None for wanted in self[1:])


def last_indexed(reader: Reader) -> int:
    """Return the sequence of the last threat in the index; 0 if there is none."""
    return int(reader.select("threat_index.last_indexed")[0][0])


def first_since(reader: Reader, since: float) -> int | None:
    """Return the first sequence of the oldest slice with a threat received since a time; None without any."""
    found = reader.select("threat_index.first_since", (since,))
    return None if found[0][0] is None else int(found[0][0])


def matching(reader: Reader, search: ThreatIndexSearch, below: int) -> Iterator[int]:
    """Yield the matching sequences below a sequence, newest first; slices are read some at a time, more each time."""
    ((lowest, _),) = reader.select("threats.sequences")
    params: dict[str, Any] = {
        "agent_number": search.agent_number,
        "severity": search.severity,
        "type": search.type,
        "organization_id": search.organization_id if search.agent_number is None else None,
        "below": below,
        "since": search.since,
        "limit": _SLICES_READ,
    }
    wanted = (params["severity"], params["type"], params["organization_id"])
    while slices := reader.select("threat_index.search", params):
        for first, last, earliest, agents, places, *bitmaps in slices:
            bits = (1 << min(last + 1, below) - first) - 1
            for value, bitmap in zip(wanted, bitmaps, strict=True):
                if value is not None:
                    bits &= unpacked(bitmap)
            if bits and search.agent_number is not None:
                bits &= bits_of_agent(search.agent_number, agents, places)
            if bits and search.since is not None and earliest < search.since:
                bits &= _received_since(reader, first, last, search.since)
            for position in positions(bits):
                if first + position < lowest:
                    return
                yield first + position
        if len(slices) < params["limit"]:
            return
        params.update(below=slices[-1][0], limit=min(2 * params["limit"], _MOST_SLICES_READ))


def _received_since(reader: Reader, first: int, last: int, since: float) -> int:
    rows = reader.each("threats.sequences_received_since", {"first": first, "last": last, "since": since})
    return sum(1 << sequence - first for (sequence,) in rows)
