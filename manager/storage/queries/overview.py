"""Overview of the fleet: agents by state, threats of a day and a week, policy distribution."""

from collections import Counter
from collections.abc import Collection
from typing import Any, NamedTuple

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


class _Figures(NamedTuple):
    """Counts of the overview that are one number each."""

    attackers: int
    affected_agents: int
    open_incidents: int
    revision: int
    agents_with_current_policy: int


_FLEET_FIGURES = (
    "counts.count_fleet_sources",
    "counts.count_fleet_agents",
    "incidents.count_open",
    "policies.fleet_revision",
    "policies.count_current",
)
"""The statements of `_Figures` for the fleet."""


def overview(reader: Reader, now: float, organizations: Collection[str] | None) -> Record:
    """Return the counts and lists of the overview, of organizations or of all; `now` is in seconds since 1970."""
    states, systems = _by_state_and_system(reader, organizations)
    figures = _figures(reader, now, organizations)
    today = threat_statistics.kinds(reader, now - DAY, now, organizations)
    return {
        "totalAgents": states.total(),
        "onlineAgents": states[State.ONLINE],
        "staleAgents": states[State.STALE],
        "offlineAgents": states[State.OFFLINE],
        "agents": _unwell_first(reader, organizations),
        "threatSummary": _threat_summary(reader, now, today, figures, organizations),
        "topThreats": summary.by_type(today)[:TYPES_SHOWN],
        "activePolicyVersion": figures.revision,
        "policyCurrentAgents": figures.agents_with_current_policy,
        "agentsByOs": dict(sorted(systems.items())),
        "updatedAt": moment(now),
    }


def _by_state_and_system(reader: Reader, organizations: Collection[str] | None) -> tuple[Counter[str], Counter[str]]:
    """Return the number of agents by state and by operating system."""
    states, systems = Counter[str](), Counter[str]()
    if organizations is None:  # two counts in the order of an index each cost less than one that sorts
        for counted, value, number in reader.select("agents.count_by_state_and_os"):
            (states if counted == "state" else systems)[value] = number
        return states, systems
    for state, system, number in reader.select(
        "agents.count_organizations_by_state_and_os", (json_list(organizations),)
    ):
        states[state] += number
        systems[system] += number
    return states, systems


def _figures(reader: Reader, now: float, organizations: Collection[str] | None) -> _Figures:
    """Return the single counts; those of the fleet by one statement."""
    if organizations is None:
        return _Figures(*reader.values(_FLEET_FIGURES, threat_statistics.buckets_of(now - DAY, int(DAY))))
    current = reader.select("policies.count_current_of_organizations", (json_list(organizations),))
    return _Figures(
        threat_statistics.sources(reader, now - DAY, now, organizations, 0).total,
        threat_statistics.agents(reader, now - DAY, now, organizations, 0).total,
        incidents.open_count(reader, organizations),
        policies.revision(reader, organizations),
        int(current[0][0]),
    )


def _unwell_first(reader: Reader, organizations: Collection[str] | None) -> list[Record]:
    """Return the agents of the overview, the most urgent first; an index finds them without reading other rows."""
    wanted: Any
    if organizations is None:
        wanted = [number for (number,) in reader.select("agents.most_urgent", {"limit": AGENTS_SHOWN})]
    else:
        living = AgentTable.alias()
        wanted = living.select(living.number).where(
            living.removed_at.is_null(), living.organization_id.in_(list(organizations))
        )
        wanted = wanted.order_by(*_urgency(living)).limit(AGENTS_SHOWN)
    query = agents.selection().where(AgentTable.number.in_(wanted)).order_by(*_urgency(AgentTable))
    return [agents.record_of(row) for row in reader.rows(query)]


def _urgency(agent: Any) -> tuple[Any, ...]:
    """Return the sort order: stale, offline, online; `agent` is the table or an alias of it."""
    order = Case(agent.state, ((State.STALE.value, 0), (State.OFFLINE.value, 1)), 2)
    return order, agent.state_since.desc(), agent.number


def _threat_summary(
    reader: Reader,
    now: float,
    today: list[tuple[str, str, int]],
    figures: _Figures,
    organizations: Collection[str] | None,
) -> Record:
    """Count threats by event time: the last day and week by severity, and the last day's flat counts."""
    day = summary.by_severity(today)
    return {
        "last24h": day,
        "last7d": summary.by_severity(threat_statistics.kinds(reader, now - WEEK, now, organizations)),
        **summary.flat_counts(day, figures.attackers, figures.affected_agents, figures.open_incidents),
    }
