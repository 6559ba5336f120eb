"""Threat statistics of a period that ends now, from the counts and the threats that are not counted yet.

A period is rounded down to the start of a bucket: five minutes, an hour or a day for severities and types; an hour, six
hours or a day for agents and sources. Agents and sources that were not seen within the period are left out.
"""

from collections.abc import Collection
from typing import Any, NamedTuple

from manager.storage.projections.threat_counts import DAY, FIVE_MINUTES, HOUR, SIX_HOURS
from manager.storage.queries.reader import Reader, json_list

_NEVER = 2**62
"""The boundary of a period that is counted in buckets of one length."""


class Ranking(NamedTuple):
    """The number of agents or sources, and the top entries by number of threats."""

    total: int
    top: list[tuple[Any, int]]


def kinds(
    reader: Reader, since: float, now: float, organizations: Collection[str] | None
) -> list[tuple[str, str, int]]:
    """Return tuples of severity, type and number of threats."""
    period = now - since
    seconds = FIVE_MINUTES if period <= SIX_HOURS else HOUR if period <= DAY else DAY
    boundary = (since // DAY + 1) * DAY if seconds == HOUR else _NEVER
    params = {**buckets_of(since, seconds, organizations), "longer": DAY, "boundary": boundary}
    found = reader.select("counts.kinds", params)
    return [(severity, type_, int(number)) for severity, type_, number in found]


def agents(reader: Reader, since: float, now: float, organizations: Collection[str] | None, limit: int) -> Ranking:
    """Return the reporting agents by registry number; with a limit of 0, only their count."""
    return _ranking(reader, "agents", limit, _ranked_period(since, now, organizations))


def sources(reader: Reader, since: float, now: float, organizations: Collection[str] | None, limit: int) -> Ranking:
    """Return the reported source addresses; with a limit of 0, only their count."""
    if not limit and organizations is None and now - since <= DAY:
        return Ranking(reader.select("counts.count_fleet_sources", buckets_of(since, DAY))[0][0], [])
    total, top = _ranking(reader, "sources", limit, _ranked_period(since, now, organizations))
    return Ranking(total, [(_address(reader, source), count) for source, count in top])


def _ranking(reader: Reader, name: str, limit: int, params: dict[str, Any]) -> Ranking:
    """Return the total and the top entries; the query without top entries costs half."""
    if not limit:
        return Ranking(reader.select(f"counts.count_{name}", params)[0][0], [])
    *top, (_, total) = reader.select(f"counts.top_{name}", {**params, "limit": limit})
    return Ranking(total, [(value, int(number)) for value, number in top])


def _ranked_period(since: float, now: float, organizations: Collection[str] | None) -> dict[str, Any]:
    """Return the query parameters of a ranking, with buckets about as long as the period."""
    period = now - since
    seconds = HOUR if period <= HOUR else SIX_HOURS if period <= SIX_HOURS else DAY
    return buckets_of(since, seconds, organizations)


def buckets_of(since: float, seconds: int, organizations: Collection[str] | None = None) -> dict[str, Any]:
    """Return the parameters of the statements that count from a time on, for a bucket length in seconds."""
    bucket = since // seconds * seconds
    return {"seconds": seconds, "bucket": bucket, "since": since, "organizations": json_list(organizations)}


def _address(reader: Reader, number: int) -> str:
    if number < 0:
        return str(reader.select("threats.source_ip", (-number,))[0][0])
    return str(reader.select("counts.source_address", (number,))[0][0])
