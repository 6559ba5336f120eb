"""The fleet at a glance: how many agents are well, who is not, what threatens them, who has today's policy."""

from peewee import JOIN, Case, fn

from manager.domain.agent import State
from manager.storage.queries import agents, policies
from manager.storage.queries.reader import Query, Reader, Record, moment
from manager.storage.tables import AgentPolicyTable, AgentTable, ThreatTable

AGENTS_SHOWN = 200
TYPES_SHOWN = 10
DAY = 86_400.0
WEEK = 7 * DAY

_SEVERITIES = ("critical", "high", "medium", "low")


def overview(reader: Reader, now: float) -> Record:
    """Return the counts and lists of the overview; `now` is in seconds since 1970."""
    by_state = agents.counts(reader)
    return {
        "totalAgents": by_state["total"],
        "onlineAgents": by_state[State.ONLINE],
        "staleAgents": by_state[State.STALE],
        "offlineAgents": by_state[State.OFFLINE],
        "agents": [agents.record_of(row) for row in reader.rows(_unwell_first())],
        "threatSummary": _threat_summary(reader, now),
        "topThreats": _top_types(reader, now - DAY),
        "activePolicyVersion": policies.revision(reader),
        "policyCurrentAgents": _with_current_policy(reader),
        "agentsByOs": _by_system(reader),
        "updatedAt": moment(now),
    }


def _unwell_first() -> Query:
    order = Case(AgentTable.state, ((State.STALE.value, 0), (State.OFFLINE.value, 1)), 2)
    living = agents.selection().where(AgentTable.removed_at.is_null())
    return living.order_by(order, AgentTable.state_since.desc(), AgentTable.number).limit(AGENTS_SHOWN)


def _threat_summary(reader: Reader, now: float) -> Record:
    """Count threats by event time: the last day and week by severity, and the last day's flat counts."""
    today = _by_severity(reader, now - DAY)
    sources = ThreatTable.select(
        fn.COUNT(fn.DISTINCT(ThreatTable.source_ip)).alias("attackers"),
        fn.COUNT(fn.DISTINCT(ThreatTable.agent)).alias("affected"),
    ).where(ThreatTable.event_time >= now - DAY)
    distinct = reader.rows(sources)[0]
    return {
        "last24h": today,
        "last7d": _by_severity(reader, now - WEEK),
        "totalThreats": today["total"],
        "criticalCount": today["critical"],
        "highCount": today["high"],
        "suspiciousCount": today["medium"] + today["low"],
        "uniqueAttackers": distinct["attackers"],
        "affectedAgents": distinct["affected"],
    }


def _by_severity(reader: Reader, since: float) -> dict[str, int]:
    query = ThreatTable.select(ThreatTable.severity, fn.COUNT(ThreatTable.sequence).alias("threats"))
    query = query.where(ThreatTable.event_time >= since).group_by(ThreatTable.severity)
    found = {row["severity"]: row["threats"] for row in reader.rows(query)}
    counted = {severity: found.get(severity, 0) for severity in _SEVERITIES}
    return {"total": sum(counted.values()), **counted}


def _top_types(reader: Reader, since: float) -> list[Record]:
    count = fn.COUNT(ThreatTable.sequence)
    query = ThreatTable.select(ThreatTable.type, count.alias("count")).where(ThreatTable.event_time >= since)
    return reader.rows(query.group_by(ThreatTable.type).order_by(count.desc(), ThreatTable.type).limit(TYPES_SHOWN))


def _with_current_policy(reader: Reader) -> int:
    agent, policy = AgentTable, AgentPolicyTable
    query = agent.select(fn.COUNT(agent.number).alias("agents")).join(
        policy, JOIN.INNER, on=(policy.agent == agent.number)
    )
    same = (agent.policy_version == policy.version) & (agent.policy_digest == policy.digest)
    return int(reader.rows(query.where(agent.removed_at.is_null(), same))[0]["agents"])


def _by_system(reader: Reader) -> dict[str, int]:
    query = AgentTable.select(AgentTable.os, fn.COUNT(AgentTable.number).alias("agents"))
    query = query.where(AgentTable.removed_at.is_null()).group_by(AgentTable.os).order_by(AgentTable.os)
    return {row["os"]: row["agents"] for row in reader.rows(query)}
