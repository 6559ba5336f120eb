"""Overview of the fleet: agents by state, threats of a day and a week, policy distribution."""

from collections import Counter
from collections.abc import Collection
from typing import Any

from peewee import Case

from manager.domain.agents.agent import State
from manager.storage.projections import threat_statistics
from manager.storage.queries import agents, incidents, policies, summary
from manager.storage.queries.reader import Reader, Record, json_list, moment
from manager.storage.tables import AgentTable

AGENTS_SHOWN = 200
TYPES_SHOWN = 10
DAY = 86_400.0
WEEK = 7 * DAY


def overview(reader: Reader, now: float, organizations: Collection[str] | None) -> Record:
    """Return the counts and lists of the overview, of organizations or of all; `now` is in seconds since 1970."""
    states, systems = _by_state_and_system(reader, organizations)
    today = threat_statistics.kinds(reader, now - DAY, now, organizations)
    return {
        "totalAgents": states.total(),
        "onlineAgents": states[State.ONLINE],
        "staleAgents": states[State.STALE],
        "offlineAgents": states[State.OFFLINE],
        "agents": _unwell_first(reader, organizations),
        "threatSummary": _threat_summary(reader, now, today, organizations),
        "topThreats": summary.by_type(today)[:TYPES_SHOWN],
        "activePolicyVersion": policies.revision(reader, organizations),
        "policyCurrentAgents": _with_current_policy(reader, organizations),
        "agentsByOs": dict(sorted(systems.items())),
        "updatedAt": moment(now),
    }


def _by_state_and_system(reader: Reader, organizations: Collection[str] | None) -> tuple[Counter[str], Counter[str]]:
    """Return the number of agents by state and by operating system."""
    if organizations is None:  # two counts in the order of an index each cost less than one that sorts
        by_state, by_os = reader.select("agents.count_by_state"), reader.select("agents.count_by_os")
        return Counter(dict(by_state)), Counter(dict(by_os))
    states, systems = Counter[str](), Counter[str]()
    for state, system, number in reader.select(
        "agents.count_organizations_by_state_and_os", (json_list(organizations),)
    ):
        states[state] += number
        systems[system] += number
    return states, systems


def _with_current_policy(reader: Reader, organizations: Collection[str] | None) -> int:
    """Return the number of agents that applied their effective policy."""
    if organizations is None:
        return int(reader.select("policies.count_current")[0][0])
    return int(reader.select("policies.count_current_of_organizations", (json_list(organizations),))[0][0])


def _unwell_first(reader: Reader, organizations: Collection[str] | None) -> list[Record]:
    """Return the agents of the overview, the most urgent first; an index finds them without reading other rows."""
    living = AgentTable.alias()
    numbers = living.select(living.number).where(living.removed_at.is_null())
    if organizations is not None:
        numbers = numbers.where(living.organization_id.in_(list(organizations)))
    numbers = numbers.order_by(*_urgency(living)).limit(AGENTS_SHOWN)
    query = agents.selection().where(AgentTable.number.in_(numbers)).order_by(*_urgency(AgentTable))
    return [agents.record_of(row) for row in reader.rows(query)]


def _urgency(agent: Any) -> tuple[Any, ...]:
    """Return the sort order: stale, offline, online; `agent` is the table or an alias of it."""
    order = Case(agent.state, ((State.STALE.value, 0), (State.OFFLINE.value, 1)), 2)
    return order, agent.state_since.desc(), agent.number


def _threat_summary(
    reader: Reader, now: float, today: list[tuple[str, str, int]], organizations: Collection[str] | None
) -> Record:
    """Count threats by event time: the last day and week by severity, and the last day's flat counts."""
    day = summary.by_severity(today)
    return {
        "last24h": day,
        "last7d": summary.by_severity(threat_statistics.kinds(reader, now - WEEK, now, organizations)),
        **summary.flat_counts(
            day,
            threat_statistics.sources(reader, now - DAY, now, organizations, 0).total,
            threat_statistics.agents(reader, now - DAY, now, organizations, 0).total,
            incidents.open_count(reader, organizations),
        ),
    }
