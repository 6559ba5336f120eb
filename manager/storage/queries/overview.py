"""Overview of the fleet: agents by state, threats of a day and a week, policy distribution."""

import json
from collections import Counter
from collections.abc import Collection, Mapping
from typing import NamedTuple, TypeAlias

from peewee import Case

from manager.domain.agents.agent import State
from manager.storage.agent_figures import ALL_AGENTS, AgentCounts
from manager.storage.projections import threat_statistics
from manager.storage.queries import agents, incidents, policies, summary
from manager.storage.queries.reader import Reader, Record, json_list, moment
from manager.storage.running_figures import RunningFigures
from manager.storage.tables import AgentTable

AGENTS_SHOWN = 200
TYPES_SHOWN = 10
DAY = 86_400.0


_Kinds: TypeAlias = list[tuple[str, str, int]]
"""Tuples of severity, type and number of threats."""


class _Figures(NamedTuple):
    """Counts of the overview, and the numbers of the agents that it shows, as a JSON list."""

    states: Mapping[str, int]
    systems: Mapping[str, int]
    agents_with_current_policy: int
    day: _Kinds
    week: _Kinds
    attackers: int
    affected_agents: int
    open_incidents: int
    revision: int
    most_urgent: str


_FLEET_FIGURES = (
    "counts.kinds_of_day_and_week",
    "counts.count_fleet_sources",
    "counts.uncounted_agents",
    "incidents.count_open",
    "policies.fleet_revision",
    "agents.most_urgent",
)
"""The statements of `_Figures` for the fleet, beside those whose figures the store's writer keeps."""


def overview(
    reader: Reader, now: float, organizations: Collection[str] | None, running: RunningFigures | None = None
) -> Record:
    """Return the counts and lists of the overview, of organizations or of all.

    Args:
        reader: reads the store.
        now: seconds since 1970.
        organizations: None for all.
        running: the figures that the store's writer keeps; None where another process writes.
    """
    if organizations is None:
        figures = _of_fleet(reader, now, running)
    else:
        figures = _of_organizations(reader, now, organizations)
    states = figures.states
    return {
        "totalAgents": sum(states.values()),
        "onlineAgents": states.get(State.ONLINE, 0),
        "staleAgents": states.get(State.STALE, 0),
        "offlineAgents": states.get(State.OFFLINE, 0),
        "agents": agents.of_numbers(reader, figures.most_urgent),
        "threatSummary": _threat_summary(figures),
        "topThreats": summary.by_type(figures.day)[:TYPES_SHOWN],
        "activePolicyVersion": figures.revision,
        "policyCurrentAgents": figures.agents_with_current_policy,
        "agentsByOs": dict(sorted(figures.systems.items())),
        "updatedAt": moment(now),
    }


def _of_fleet(reader: Reader, now: float, running: RunningFigures | None) -> _Figures:
    """Return the figures of all agents, by one statement: after each the thread waits for the interpreter's lock."""
    params = threat_statistics.day_and_week(now) | {"limit": AGENTS_SHOWN}
    kinds, attackers, uncounted, *others = reader.values(_FLEET_FIGURES, params)
    # What is kept is read after the statement, so that it is never older than what that found.
    if running is not None:
        running.wait()
    counts = None if running is None else running.agents.known
    if counts is None:
        counts = AgentCounts.of_values(*reader.values(ALL_AGENTS))
    affected = None if running is None else running.reporters.count(now - DAY, json.loads(uncounted))
    if affected is None:
        affected = threat_statistics.fleet_agents(reader, params)
    return _Figures(*counts, *_day_and_week(kinds), attackers, affected, *others)


def _of_organizations(reader: Reader, now: float, organizations: Collection[str]) -> _Figures:
    """Return the figures of the agents of organizations."""
    states, systems, named = Counter[str](), Counter[str](), json_list(organizations)
    for state, system, number in reader.select("agents.count_organizations_by_state_and_os", (named,)):
        states[state] += number
        systems[system] += number
    params = threat_statistics.day_and_week(now, organizations)
    (kinds,) = reader.values(("counts.kinds_of_day_and_week",), params)
    ((current,),) = reader.select("policies.count_current_of_organizations", (named,))
    return _Figures(
        states,
        systems,
        int(current),
        *_day_and_week(kinds),
        threat_statistics.sources(reader, now - DAY, now, organizations, 0).total,
        threat_statistics.agents(reader, now - DAY, now, organizations, 0).total,
        incidents.open_count(reader, organizations),
        policies.revision(reader, organizations),
        _most_urgent(reader, organizations),
    )


def _day_and_week(kinds: str) -> tuple[_Kinds, _Kinds]:
    """Return the kinds of the last day and of the last week from the value of their statement."""
    found = json.loads(kinds)
    day = [(severity, type_, number) for severity, type_, number, _ in found if number]
    return day, [(severity, type_, number) for severity, type_, _, number in found]


def _most_urgent(reader: Reader, organizations: Collection[str]) -> str:
    """Return the numbers of the agents of organizations that are shown, the most urgent first: a JSON list."""
    agent = AgentTable
    order = Case(agent.state, ((State.STALE.value, 0), (State.OFFLINE.value, 1)), 2)
    query = agent.select(agent.number).where(agent.removed_at.is_null(), agent.organization_id.in_(list(organizations)))
    rows = reader.rows(query.order_by(order, agent.state_since.desc(), agent.number).limit(AGENTS_SHOWN))
    return json.dumps([row["number"] for row in rows])


def _threat_summary(figures: _Figures) -> Record:
    """Return the threats by event time: of the last day and week by severity, and the last day's flat counts."""
    day = summary.by_severity(figures.day)
    return {
        "last24h": day,
        "last7d": summary.by_severity(figures.week),
        **summary.flat_counts(day, figures.attackers, figures.affected_agents, figures.open_incidents),
    }
