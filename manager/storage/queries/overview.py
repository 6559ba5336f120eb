"""The fleet at a glance: how many agents are well, who is not, what threatens them, who has today's policy."""

from collections import Counter
from typing import Any

from peewee import Case

from manager.domain.agents.agent import State
from manager.storage.projections import count_queries
from manager.storage.queries import agents, incidents, policies, summary
from manager.storage.queries.reader import Reader, Record, moment
from manager.storage.tables import AgentTable

AGENTS_SHOWN = 200
TYPES_SHOWN = 10
DAY = 86_400.0
WEEK = 7 * DAY


def overview(reader: Reader, now: float) -> Record:
    """Return the counts and lists of the overview; `now` is in seconds since 1970."""
    states, systems = _by_state_and_system(reader)
    today = count_queries.kinds(reader, now - DAY, now, None)
    return {
        "totalAgents": states.total(),
        "onlineAgents": states[State.ONLINE],
        "staleAgents": states[State.STALE],
        "offlineAgents": states[State.OFFLINE],
        "agents": _unwell_first(reader),
        "threatSummary": _threat_summary(reader, now, today),
        "topThreats": summary.by_type(today)[:TYPES_SHOWN],
        "activePolicyVersion": policies.revision(reader),
        "policyCurrentAgents": _with_current_policy(reader),
        "agentsByOs": dict(sorted(systems.items())),
        "updatedAt": moment(now),
    }


def _by_state_and_system(reader: Reader) -> tuple[Counter[str], Counter[str]]:
    """Return the number of agents by state and by operating system; one index has both."""
    states, systems = Counter[str](), Counter[str]()
    for state, system, number in reader.select(
        "SELECT state, os, count(*) FROM agent WHERE removed_at IS NULL GROUP BY state, os"
    ):
        states[state] += number
        systems[system] += number
    return states, systems


def _with_current_policy(reader: Reader) -> int:
    """Return how many agents have in force what they should; both tables stand in the order of the agents' numbers."""
    sql = (
        "SELECT count(*) FROM agent_policy CROSS JOIN agent WHERE agent.number = agent_policy.agent_number "
        "AND removed_at IS NULL AND agent_policy.version = policy_version AND digest = policy_digest"
    )
    return int(reader.select(sql)[0][0])


def _unwell_first(reader: Reader) -> list[Record]:
    """Return the agents shown; who they are comes out of an index, so that no record is read of the others."""
    living = AgentTable.alias()
    numbers = living.select(living.number).where(living.removed_at.is_null())
    numbers = numbers.order_by(*_urgency(living)).limit(AGENTS_SHOWN)
    query = agents.selection().where(AgentTable.number.in_(numbers)).order_by(*_urgency(AgentTable))
    return [agents.record_of(row) for row in reader.rows(query)]


def _urgency(agent: Any) -> tuple[Any, ...]:
    """Return the order of the agents shown; `agent` is the table or an alias of it."""
    order = Case(agent.state, ((State.STALE.value, 0), (State.OFFLINE.value, 1)), 2)
    return order, agent.state_since.desc(), agent.number


def _threat_summary(reader: Reader, now: float, today: list[tuple[str, str, int]]) -> Record:
    """Count threats by event time: the last day and week by severity, and the last day's flat counts."""
    day = summary.by_severity(today)
    return {
        "last24h": day,
        "last7d": summary.by_severity(count_queries.kinds(reader, now - WEEK, now, None)),
        **summary.flat_counts(
            day,
            count_queries.sources(reader, now - DAY, now, None, 0).number,
            count_queries.agents(reader, now - DAY, now, None, 0).number,
            incidents.open_count(reader),
        ),
    }
