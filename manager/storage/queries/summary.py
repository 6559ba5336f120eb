"""What threatened the fleet within a period that ends now; weeks that are long pruned still count.

A period of a day or more is counted by whole hours of event time, its foremost agents and sources by whole days (UTC):
it begins with the hour, or the day, in which it began. Shorter ones are counted threat by threat.
"""

from peewee import Expression, Function, fn

from manager.storage.queries import incidents
from manager.storage.queries.reader import Query, Reader, Record, moment
from manager.storage.tables import AgentTable, ThreatCountTable, ThreatTable
from manager.storage.threat_counts import AGENT, DAY, HOUR, KIND, SOURCE

PERIODS = {"1h": HOUR, "6h": 6 * HOUR, "24h": DAY, "7d": 7 * DAY, "30d": 30 * DAY}
"""The periods that can be asked for, in seconds."""

_SEVERITIES = ("critical", "high", "medium", "low")
_TOP = 10


def threat_summary(reader: Reader, now: float, period: str, organization_id: str | None) -> Record:
    """Return totals, the most frequent types, agents and sources, and the flat counts of the overview."""
    since = now - PERIODS[period]
    exact = since > now - DAY
    severities = by_severity(reader, since, organization_id, exact=exact)
    types = by_type(reader, since, organization_id, exact=exact)
    return {
        "period": period,
        "since": moment(since),
        "until": moment(now),
        "total": severities["total"],
        "bySeverity": {severity: severities[severity] for severity in _SEVERITIES},
        "byType": {line["type"]: line["count"] for line in types},
        "topAgents": _top_agents(reader, since, organization_id, exact=exact),
        "topSourceIps": _top_sources(reader, since, organization_id, exact=exact),
        **flat_counts(reader, since, severities, organization_id),
    }


def by_severity(reader: Reader, since: float, organization_id: str | None, *, exact: bool = False) -> dict[str, int]:
    """Return how many threats there were, in all and of each severity."""
    found: dict[str, int] = dict.fromkeys(_SEVERITIES, 0)
    for severity, _, number in _kinds(reader, since, organization_id, exact=exact):
        found[severity] = found.get(severity, 0) + number
    return {"total": sum(found.values()), **found}


def by_type(reader: Reader, since: float, organization_id: str | None, *, exact: bool = False) -> list[Record]:
    """Return the types with their number, the most frequent first."""
    found: dict[str, int] = {}
    for _, type_, number in _kinds(reader, since, organization_id, exact=exact):
        found[type_] = found.get(type_, 0) + number
    ordered = sorted(found.items(), key=lambda line: (-line[1], line[0]))
    return [{"type": type_, "count": number} for type_, number in ordered]


def flat_counts(reader: Reader, since: float, severities: dict[str, int], organization_id: str | None) -> Record:
    """Return the counts that stand beside one another in overview and summary."""
    return {
        "totalThreats": severities["total"],
        "criticalCount": severities["critical"],
        "highCount": severities["high"],
        "suspiciousCount": severities["medium"] + severities["low"],
        "uniqueAttackers": _distinct(reader, SOURCE, since, organization_id),
        "affectedAgents": _distinct(reader, AGENT, since, organization_id),
        "correlatedGroups": incidents.open_count(reader),
    }


def _kinds(reader: Reader, since: float, organization_id: str | None, *, exact: bool) -> list[tuple[str, str, int]]:
    """Return severity, type and number."""
    if exact:
        number = fn.COUNT(ThreatTable.sequence)
        query = ThreatTable.select(ThreatTable.severity, ThreatTable.type, number.alias("number"))
        query = _of_threats(query, since, organization_id).group_by(ThreatTable.severity, ThreatTable.type)
        return [(row["severity"], row["type"], row["number"]) for row in reader.rows(query)]
    table = ThreatCountTable
    counted = table.select(table.value, fn.SUM(table.count).alias("number"))
    counted = counted.where(*_counted(KIND, since // HOUR * HOUR, organization_id)).group_by(table.value)
    found = [(row["value"].partition(" "), int(row["number"])) for row in reader.rows(counted)]
    return [(severity, type_, number) for (severity, _, type_), number in found]


def _distinct(reader: Reader, dimension: str, since: float, organization_id: str | None) -> int:
    """Return how many agents or sources were seen since a time: each has the time at which it was seen last."""
    table = ThreatCountTable
    query = table.select(fn.COUNT(fn.DISTINCT(table.value)).alias("number"))
    conditions = (*_counted(dimension, since // DAY * DAY, organization_id), table.last_seen >= since)
    return int(reader.rows(query.where(*conditions))[0]["number"])


def _top_agents(reader: Reader, since: float, organization_id: str | None, *, exact: bool) -> list[Record]:
    number = fn.COUNT(ThreatTable.sequence)
    if exact:
        query = ThreatTable.select(ThreatTable.agent.alias("value"), number.alias("number"))
        found = _top(reader, _of_threats(query, since, organization_id).group_by(ThreatTable.agent), number)
    else:
        found = _top_counted(reader, AGENT, since, organization_id)
    agent, numbers = AgentTable, [int(value) for value, _ in found]
    known = agent.select(agent.number, agent.agent_id, agent.hostname).where(agent.number.in_(numbers))
    names = {row["number"]: row for row in reader.rows(known)}
    return [
        {"agentId": names[int(value)]["agent_id"], "hostname": names[int(value)]["hostname"], "count": count}
        for value, count in found
    ]


def _top_sources(reader: Reader, since: float, organization_id: str | None, *, exact: bool) -> list[Record]:
    if exact:
        number = fn.COUNT(ThreatTable.sequence)
        query = ThreatTable.select(ThreatTable.source_ip.alias("value"), number.alias("number"))
        query = _of_threats(query, since, organization_id).where(ThreatTable.source_ip.is_null(False))
        found = _top(reader, query.group_by(ThreatTable.source_ip), number)
    else:
        found = _top_counted(reader, SOURCE, since, organization_id)
    return [{"sourceIp": value, "ip": value, "count": count} for value, count in found]


def _top(reader: Reader, query: Query, number: Function) -> list[tuple[str, int]]:
    rows = reader.rows(query.order_by(number.desc()).limit(_TOP))
    return [(row["value"], int(row["number"])) for row in rows]


def _top_counted(reader: Reader, dimension: str, since: float, organization_id: str | None) -> list[tuple[str, int]]:
    table = ThreatCountTable
    number = fn.SUM(table.count)
    query = table.select(table.value, number.alias("number"))
    query = query.where(*_counted(dimension, since // DAY * DAY, organization_id)).group_by(table.value)
    return _top(reader, query, number)


def _counted(dimension: str, bucket: float, organization_id: str | None) -> tuple[Expression, ...]:
    table = ThreatCountTable
    wanted = (table.dimension == dimension, table.bucket >= int(bucket))
    return wanted if organization_id is None else (*wanted, table.organization_id == organization_id)


def _of_threats(query: Query, since: float, organization_id: str | None) -> Query:
    query = query.where(ThreatTable.event_time >= since)
    if organization_id is None:
        return query
    query = query.join(AgentTable, on=(ThreatTable.agent == AgentTable.number))
    return query.where(AgentTable.organization_id == organization_id)
