"""Threats of one source address, file hash or technique, the newest event first, by the indexes of these columns."""

from heapq import merge
from itertools import islice
from typing import NamedTuple

from peewee import Expression, Field

from manager.storage.queries.reader import Page, Reader, Record, cursor_after, read_cursor
from manager.storage.queries.threats import ThreatFilter, conditions_of, records_of, search_of, selection
from manager.storage.tables import ThreatTable


class SearchKey(NamedTuple):
    """The key of a search: a source address or file hash in normal form, or a technique with its sub-techniques.

    A technique beside a source address narrows the search.
    """

    source_ip: str | None = None
    technique: str | None = None
    file_hash: str | None = None


def page(reader: Reader, key: SearchKey, wanted: ThreatFilter, limit: int, cursor: str | None) -> Page:
    """Return threats, the newest event first; `since` is the time of the event.

    Args:
        reader: executes the queries.
        key: a source address, a technique, or both.
        wanted: further filters.
        limit: threats in a page.
        cursor: returned with the page before.
    """
    filters = search_of(reader, wanted)
    if filters is None:
        return [], None
    conditions = conditions_of(filters, ThreatTable.event_time)
    if cursor is not None:
        event_time, sequence = read_cursor(cursor, float, int)
        conditions.append(_is_before(event_time, sequence))
    rows = newest(reader, key, conditions, limit + 1)
    following = None
    if len(rows) > limit:
        following = cursor_after(float(rows[limit - 1]["event_time"]), rows[limit - 1]["sequence"])
    return records_of(reader, rows[:limit]), following


def newest(reader: Reader, key: SearchKey, conditions: list[Expression], limit: int) -> list[Record]:
    """Return the rows of the threats that a key and further conditions match, the newest event first."""
    if key.source_ip is not None and key.technique is not None:
        conditions = [*conditions, ThreatTable.technique.in_(_techniques(reader, key.technique))]
    found = (_rows(reader, [column == value, *conditions], limit) for column, value in _columns(reader, key))
    return list(islice(merge(*found, key=_order, reverse=True), limit))


def _columns(reader: Reader, key: SearchKey) -> list[tuple[Field, str]]:
    """Return the indexed column and each value of it that is searched; the address is the narrower of the two."""
    if key.source_ip is not None:
        return [(ThreatTable.source_ip, key.source_ip)]
    if key.file_hash is not None:
        return [(ThreatTable.file_hash, key.file_hash)]
    return [(ThreatTable.technique, each) for each in _techniques(reader, key.technique or "")]


def _techniques(reader: Reader, technique: str) -> list[str]:
    """Return a technique, and those of its sub-techniques that are stored."""
    stored = reader.select("threats.techniques", {"first": f"{technique}.", "end": f"{technique}/"})
    return [technique, *(each for (each,) in stored)]


def _is_before(event_time: float, sequence: int) -> Expression:
    threat = ThreatTable
    earlier: Expression = (threat.event_time == event_time) & (threat.sequence < sequence)
    return (threat.event_time <= event_time) & ((threat.event_time < event_time) | earlier)


def _rows(reader: Reader, conditions: list[Expression], limit: int) -> list[Record]:
    threat = ThreatTable
    ordered = selection().where(*conditions).order_by(threat.event_time.desc(), threat.sequence.desc())
    return reader.rows(ordered.limit(limit))


def _order(row: Record) -> tuple[float, int]:
    return row["event_time"], row["sequence"]
