"""Threat statistics of a period that ends now, from the counts and the threats that are not counted yet.

A period is rounded down to the start of a bucket: five minutes, an hour or a day for severities and types; an hour, six
hours or a day for agents and sources. Agents and sources that were not seen within the period are left out.
"""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from manager.storage.projections.threat_counts import DAY, FIVE_MINUTES, HOUR, SIX_HOURS
from manager.storage.queries.reader import Reader, json_list

_NEVER = 2**62
"""The boundary of a period that is counted in buckets of one length."""


class _Hours(NamedTuple):
    """The hours that are added to the whole days from `whole` on or, with the sign -1, left out of them."""

    first_hour: float
    end_hour: float
    sign: int
    whole: float


class Ranking(NamedTuple):
    """The number of agents or sources, and the top entries by number of threats."""

    total: int
    top: list[tuple[Any, int]]


def kinds(
    reader: Reader, since: float, now: float, organizations: Collection[str] | None
) -> list[tuple[str, str, int]]:
    """Return tuples of severity, type and number of threats."""
    period = now - since
    if SIX_HOURS < period <= DAY:
        hours = _hours_since(since)
        params = buckets_of(since, HOUR, organizations) | {
            "bucket": hours.first_hour, "end": hours.end_hour, "sign": hours.sign, "whole": hours.whole,
        }  # fmt: skip
    else:
        params = buckets_of(since, FIVE_MINUTES if period <= SIX_HOURS else DAY, organizations)
        params |= {"end": _NEVER, "sign": 1, "whole": _NEVER}
    found = reader.select("counts.kinds", params | {"longer": DAY})
    return [(severity, type_, int(number)) for severity, type_, number in found]


def day_and_week(now: float, organizations: Collection[str] | None = None) -> dict[str, Any]:
    """Return the parameters of the statements that count the last day, of which one counts the last week, too."""
    since, week_ago = now - DAY, now - 7 * DAY
    week = {"week": week_ago // DAY * DAY, "week_ago": week_ago}
    return {**buckets_of(since, DAY, organizations), **_hours_since(since)._asdict(), **week}


def _hours_since(since: float) -> _Hours:
    """Return the fewer hours of a day: those from a time on are added to later days, or those before it left out."""
    hour, day = since // HOUR * HOUR, since // DAY * DAY
    if hour - day < day + DAY - hour:
        return _Hours(day, hour, -1, day)
    return _Hours(hour, day + DAY, 1, day + DAY)


def agents(reader: Reader, since: float, now: float, organizations: Collection[str] | None, limit: int) -> Ranking:
    """Return the reporting agents by registry number; with a limit of 0, only their count."""
    return _ranking(reader, "agents", limit, _ranked_period(since, now, organizations))


def fleet_agents(reader: Reader, day: Mapping[str, Any]) -> int:
    """Return the number of agents of all organizations that reported within a day, by the parameters `day_and_week`."""
    return int(reader.select("counts.count_fleet_agents", day)[0][0])


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
