"""The fleet at a glance: how many agents are well, who is not, what threatens them, who has today's policy."""

from collections import Counter

from peewee import JOIN, Case, fn

from manager.domain.agent import State
from manager.storage.queries import agents, policies, summary
from manager.storage.queries.reader import Reader, Record, moment
from manager.storage.tables import AgentPolicyTable, AgentTable

AGENTS_SHOWN = 200
TYPES_SHOWN = 10
DAY = 86_400.0
WEEK = 7 * DAY


def overview(reader: Reader, now: float) -> Record:
    """Return the counts and lists of the overview; `now` is in seconds since 1970."""
    by_state = agents.counts(reader)
    return {
        "totalAgents": by_state["total"],
        "onlineAgents": by_state[State.ONLINE],
        "staleAgents": by_state[State.STALE],
        "offlineAgents": by_state[State.OFFLINE],
        "agents": _unwell_first(reader),
        "threatSummary": _threat_summary(reader, now),
        "topThreats": summary.by_type(reader, now - DAY, None)[:TYPES_SHOWN],
        "activePolicyVersion": policies.revision(reader),
        "policyCurrentAgents": _with_current_policy(reader),
        "agentsByOs": _by_system(reader),
        "updatedAt": moment(now),
    }


def _unwell_first(reader: Reader) -> list[Record]:
    """Return the agents shown: numbers first, so that no record is read of those that are not."""
    order = Case(AgentTable.state, ((State.STALE.value, 0), (State.OFFLINE.value, 1)), 2)
    query = AgentTable.select(AgentTable.number).where(AgentTable.removed_at.is_null())
    query = query.order_by(order, AgentTable.state_since.desc(), AgentTable.number).limit(AGENTS_SHOWN)
    numbers = [row["number"] for row in reader.rows(query)]
    shown = {row["number"]: row for row in reader.rows(agents.selection().where(AgentTable.number.in_(numbers)))}
    return [agents.record_of(shown[number]) for number in numbers if number in shown]


def _threat_summary(reader: Reader, now: float) -> Record:
    """Count threats by event time: the last day and week by severity, and the last day's flat counts."""
    day = summary.by_severity(reader, now - DAY, None)
    return {
        "last24h": day,
        "last7d": summary.by_severity(reader, now - WEEK, None),
        **summary.flat_counts(reader, now - DAY, day, None),
    }


def _with_current_policy(reader: Reader) -> int:
    agent, policy = AgentTable, AgentPolicyTable
    query = agent.select(fn.COUNT(agent.number).alias("agents")).join(
        policy, JOIN.INNER, on=(policy.agent == agent.number)
    )
    same = (agent.policy_version == policy.version) & (agent.policy_digest == policy.digest)
    return int(reader.rows(query.where(agent.removed_at.is_null(), same))[0]["agents"])


def _by_system(reader: Reader) -> dict[str, int]:
    """Return agents by operating system; asked by state as well, because one index then answers it by itself."""
    query = AgentTable.select(AgentTable.state, AgentTable.os, fn.COUNT(AgentTable.number).alias("agents"))
    rows = reader.rows(query.where(AgentTable.removed_at.is_null()).group_by(AgentTable.state, AgentTable.os))
    found: Counter[str] = Counter()
    for row in rows:
        found[row["os"]] += row["agents"]
    return dict(sorted(found.items()))
