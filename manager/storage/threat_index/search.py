"""Finds threats by the marks of their slices, whatever is asked for and however rare it is."""

from collections.abc import Iterator
from typing import NamedTuple

from manager.storage.queries.reader import Reader
from manager.storage.threat_index.bitmaps import bits_of_agent, positions, unpacked
from manager.storage.threat_index.slices import NAME, ORGANIZATION, SEVERITY, TYPE


class ThreatIndexSearch(NamedTuple):
    """What is asked for; None is any. `since` is when the manager received it, in seconds since 1970."""

    since: float | None = None
    severity: str | None = None
    type: str | None = None
    organization_id: str | None = None
    agent_number: int | None = None

    def values(self) -> list[tuple[str, str]]:
        """Return the marks to be read; an agent's organization is its own."""
        wanted = [(SEVERITY, self.severity), (TYPE, self.type)]
        if self.agent_number is None:
            wanted.append((ORGANIZATION, self.organization_id))
        return [(dimension, value) for dimension, value in wanted if value is not None]


def sliced(reader: Reader) -> int:
    """Return the sequence of the last threat that is in a slice; 0 if none is."""
    return int(reader.select("SELECT coalesce(max(last), 0) FROM threat_follower WHERE name = ?", (NAME,))[0][0])


def lowest_since(reader: Reader, since: float) -> int | None:
    """Return the sequence before which no sliced threat was received since a time; None if none was."""
    found = reader.select("SELECT min(first) FROM threat_slice WHERE latest >= ?", (since,))
    return None if found[0][0] is None else int(found[0][0])


def newest(reader: Reader, wanted: ThreatIndexSearch, below: int) -> Iterator[int]:
    """Yield the sequences of the sliced threats that are asked for, those below one, the newest first."""
    (lowest,) = reader.select("SELECT coalesce(min(sequence), 0) FROM threat")[0]
    sql, params = _statement(wanted, below)
    for first, last, earliest, agents, places, *marks in reader.each(sql, params):
        bits = (1 << min(last + 1, below) - first) - 1
        for mark in marks:
            bits &= unpacked(mark)
        if wanted.agent_number is not None:
            bits &= bits_of_agent(wanted.agent_number, agents, places)
        if bits and wanted.since is not None and earliest < wanted.since:
            bits &= _received_since(reader, first, last, wanted.since)
        for position in positions(bits):
            if first + position < lowest:
                return
            yield first + position


def _statement(wanted: ThreatIndexSearch, below: int) -> tuple[str, list[object]]:
    columns = ["threat_slice.first", "last", "earliest"]
    columns += ["agents", "places"] if wanted.agent_number is not None else ["NULL", "NULL"]
    joins = ""
    params: list[object] = []
    for place, (dimension, value) in enumerate(wanted.values()):
        name = f"mark_{place}"
        columns.append(f"{name}.marks")
        joins += f"CROSS JOIN threat_mark AS {name} "
        joins += f"ON {name}.first = threat_slice.first AND {name}.dimension = ? AND {name}.value = ? "
        params += [dimension, value]
    conditions = "threat_slice.first < ?"
    params.append(below)
    if wanted.since is not None:
        conditions += " AND latest >= ?"
        params.append(wanted.since)
    order = "ORDER BY threat_slice.first DESC"
    return f"SELECT {', '.join(columns)} FROM threat_slice {joins} WHERE {conditions} {order}", params


def _received_since(reader: Reader, first: int, last: int, since: float) -> int:
    sql = "SELECT sequence FROM threat WHERE sequence BETWEEN ? AND ? AND received_at >= ?"
    return sum(1 << sequence - first for (sequence,) in reader.each(sql, (first, last, since)))
