"""Threat summary of a period that ends now, including pruned threats."""

from collections.abc import Collection

from manager.storage.projections import threat_statistics
from manager.storage.projections.threat_counts import DAY, HOUR
from manager.storage.queries import incidents
from manager.storage.queries.reader import Reader, Record, moment
from manager.storage.tables import AgentTable

PERIODS = {"1h": HOUR, "6h": 6 * HOUR, "24h": DAY, "7d": 7 * DAY, "30d": 30 * DAY}
"""The lengths of the periods, in seconds."""

_SEVERITIES = ("critical", "high", "medium", "low")
_TOP = 10


def threat_summary(reader: Reader, now: float, period: str, organizations: Collection[str] | None) -> Record:
    """Return totals, the most frequent types, agents and sources, and the flat counts of the overview."""
    since = now - PERIODS[period]
    kinds = threat_statistics.kinds(reader, since, now, organizations)
    severities = by_severity(kinds)
    sources = threat_statistics.sources(reader, since, now, organizations, _TOP)
    agents = threat_statistics.agents(reader, since, now, organizations, _TOP)
    return {
        "period": period,
        "since": moment(since),
        "until": moment(now),
        "total": severities["total"],
        "bySeverity": {severity: severities[severity] for severity in _SEVERITIES},
        "byType": {line["type"]: line["count"] for line in by_type(kinds)},
        "topAgents": _agent_records(reader, agents.top),
        "topSourceIps": [{"sourceIp": address, "ip": address, "count": count} for address, count in sources.top],
        **flat_counts(severities, sources.total, agents.total, incidents.open_count(reader, organizations)),
    }


def by_severity(kinds: list[tuple[str, str, int]]) -> dict[str, int]:
    """Return the total number of threats, and the number of each severity."""
    found: dict[str, int] = dict.fromkeys(_SEVERITIES, 0)
    for severity, _, number in kinds:
        found[severity] = found.get(severity, 0) + number
    return {"total": sum(found.values()), **found}


def by_type(kinds: list[tuple[str, str, int]]) -> list[Record]:
    """Return the types with their counts, the most frequent first."""
    found: dict[str, int] = {}
    for _, type_, number in kinds:
        found[type_] = found.get(type_, 0) + number
    ordered = sorted(found.items(), key=lambda line: (-line[1], line[0]))
    return [{"type": type_, "count": number} for type_, number in ordered]


def flat_counts(severities: dict[str, int], sources: int, agents: int, open_incidents: int) -> Record:
    """Return the counts that both the overview and the summary contain."""
    return {
        "totalThreats": severities["total"],
        "criticalCount": severities["critical"],
        "highCount": severities["high"],
        "suspiciousCount": severities["medium"] + severities["low"],
        "uniqueAttackers": sources,
        "affectedAgents": agents,
        "correlatedGroups": open_incidents,
    }


def _agent_records(reader: Reader, top: list[tuple[int, int]]) -> list[Record]:
    agent, numbers = AgentTable, [number for number, _ in top]
    known = agent.select(agent.number, agent.agent_id, agent.hostname).where(agent.number.in_(numbers))
    names = {row["number"]: row for row in reader.rows(known)}
    return [
        {"agentId": names[number]["agent_id"], "hostname": names[number]["hostname"], "count": count}
        for number, count in top
    ]
