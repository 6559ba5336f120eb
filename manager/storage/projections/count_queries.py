"""Threats counted within a period that ends now: what the counts have, and the threats that they do not have yet.

A period begins with the bucket in which it begins: five minutes, an hour or a day for severities and types; an hour,
six hours or a day for agents and sources, of which those are left out that were not seen since. The newest threats,
which are in no bucket yet, are counted one by one.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from manager.storage.projections.threat_counts import AGENTS, DAY, HOUR, KINDS, MOMENT, SHIFT, SOURCES
from manager.storage.queries.reader import Reader


def kinds(reader: Reader, since: float, now: float, organization_id: str | None) -> list[tuple[str, str, int]]:
    """Return severity, type and number."""
    period = now - since
    length = MOMENT if period <= SHIFT else HOUR if period <= DAY else DAY
    own, param = _of_organization(organization_id)
    sql = (
        "SELECT severity, type, sum(number) FROM ("
        "SELECT severity, type, sum(count) AS number FROM threat_kind_count "
        f"WHERE seconds = ? AND bucket >= ? {own} GROUP BY severity, type UNION ALL "
        f"SELECT severity, type, count(*) FROM {_uncounted(KINDS.name, organization_id)} "
        f"AND event_time >= ? {own} GROUP BY severity, type) AS found GROUP BY severity, type"
    )
    found = reader.select(sql, (length, since // length * length, *param, since, *param))
    return [(severity, type_, int(number)) for severity, type_, number in found]


class Seen(NamedTuple):
    """How many agents or sources there were, and the foremost of them with the number of their threats."""

    number: int
    foremost: list[tuple[Any, int]]


def agents(reader: Reader, since: float, now: float, organization_id: str | None, shown: int) -> Seen:
    """Return who reported; the foremost by their numbers in the registry."""
    return _seen(reader, *_by_agent(since, now, organization_id), shown)


def sources(reader: Reader, since: float, now: float, organization_id: str | None, shown: int) -> Seen:
    """Return which source addresses were reported."""
    number, foremost = _seen(reader, *_by_source(since, now, organization_id), shown)
    return Seen(number, [(_address(reader, source), count) for source, count in foremost])


def _by_agent(since: float, now: float, organization_id: str | None) -> tuple[str, Sequence[Any]]:
    length = _length(since, now)
    own, param = _of_organization(organization_id)
    sql = (
        f"SELECT agent_number AS value, count AS number FROM {AGENTS.table} "
        f"WHERE seconds = ? AND bucket >= ? AND last_seen >= ? {own} UNION ALL "
        f"SELECT agent_number, count(*) FROM {_uncounted(AGENTS.name, organization_id)} "
        f"AND event_time >= ? {own} GROUP BY agent_number"
    )
    return sql, (length, since // length * length, since, *param, since, *param)


def _by_source(since: float, now: float, organization_id: str | None) -> tuple[str, Sequence[Any]]:
    """An address that has no number yet goes by the first of its threats, below zero."""
    length = _length(since, now)
    own, param = _of_organization(organization_id)
    sql = (
        f"SELECT source_number AS value, count AS number FROM {SOURCES.table} "
        f"WHERE seconds = ? AND bucket >= ? AND last_seen >= ? {own} UNION ALL "
        "SELECT coalesce(threat_source.number, -uncounted.first), uncounted.number FROM ("
        "SELECT source_ip, min(sequence) AS first, count(*) AS number "
        f"FROM {_uncounted(SOURCES.name, organization_id)} "
        f"AND source_ip IS NOT NULL AND event_time >= ? {own} GROUP BY source_ip || '') AS uncounted "
        "LEFT JOIN threat_source ON threat_source.address = uncounted.source_ip"
    )
    return sql, (length, since // length * length, since, *param, since, *param)


def _seen(reader: Reader, sql: str, params: Sequence[Any], shown: int) -> Seen:
    """Return the number, and the foremost unless none are to be shown: that costs twice as much."""
    if not shown:
        return Seen(reader.select(f"SELECT count(DISTINCT value) FROM ({sql}) AS found", params)[0][0], [])
    sql = (
        f"WITH total AS MATERIALIZED (SELECT value, sum(number) AS number FROM ({sql}) AS found GROUP BY value) "
        "SELECT * FROM (SELECT value, number FROM total ORDER BY number DESC, value LIMIT ?) AS foremost "
        "UNION ALL SELECT 0, count(*) FROM total"
    )
    *foremost, (_, number) = reader.select(sql, (*params, shown))
    return Seen(number, [(value, int(count)) for value, count in foremost])


def _address(reader: Reader, number: int) -> str:
    if number < 0:
        return str(reader.select("SELECT source_ip FROM threat WHERE sequence = ?", (-number,))[0][0])
    return str(reader.select("SELECT address FROM threat_source WHERE number = ?", (number,))[0][0])


def _length(since: float, now: float) -> int:
    """Return the length of the buckets that answer for a period: about as long as itself, a day at most."""
    period = now - since
    return HOUR if period <= HOUR else SHIFT if period <= SHIFT else DAY


def _uncounted(follower: str, organization_id: str | None) -> str:
    """Return the source of the threats that a follower has not counted yet; conditions may follow."""
    joined = "" if organization_id is None else "JOIN agent ON agent.number = agent_number"
    counted = f"SELECT coalesce(max(last), 0) FROM threat_follower WHERE name = '{follower}'"
    return f"threat {joined} WHERE sequence > ({counted})"


def _of_organization(organization_id: str | None) -> tuple[str, tuple[str, ...]]:
    return ("", ()) if organization_id is None else ("AND organization_id = ?", (organization_id,))
