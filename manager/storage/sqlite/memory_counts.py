"""Counts of threats by kind and by agent, from the threats in memory.

SQLite is in this process, so rows cost little to write one by one. To count by itself it would read each threat back
and look its agent up, once for each kind of counts. The rows are the same.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from manager.storage.projections.agent_organizations import AgentOrganizations
from manager.storage.projections.recent_threats import RecentThreat
from manager.storage.projections.threat_counts import AGENTS, FIVE_MINUTES, HOUR, KINDS
from manager.storage.statements import Statements

Rows: TypeAlias = Iterator[tuple[Any, ...]]


class MemoryCounts:
    """Adds threats in memory to the counts by kind and by agent, in the writer's transaction.

    Args:
        statements: those of the writer's database.
        organizations: those of the agents.
    """

    def __init__(self, statements: Statements, organizations: AgentOrganizations) -> None:
        self._statements = statements
        self._organizations = organizations

    def add(self, name: str, threats: Sequence[RecentThreat]) -> bool:
        """Add threats to the counts of a name; return False for counts by address, whose rows are too many."""
        if name == KINDS.name:
            self._statements.execute_many("counts.upsert_kinds", _rows_of_kinds(threats, self._of(threats)))
        elif name == AGENTS.name:
            self._statements.execute_many("counts.upsert_agents", _rows_of_agents(threats, self._of(threats)))
        return name in {KINDS.name, AGENTS.name}

    def _of(self, threats: Sequence[RecentThreat]) -> Mapping[int, str]:
        return self._organizations.of({threat[0] for threat in threats})


def _rows_of_kinds(threats: Sequence[RecentThreat], organizations: Mapping[int, str]) -> Rows:
    times = defaultdict[tuple[int, str, str, str], list[float]](list)
    for agent_number, type_, severity, _, event_time in threats:
        times[int(event_time / FIVE_MINUTES), organizations[agent_number], severity, type_].append(event_time)
    for seconds in KINDS.kept:
        for (bucket, organization_id, severity, type_), found in times.items():
            start = bucket * FIVE_MINUTES // seconds * seconds
            yield seconds, start, organization_id, severity, type_, len(found), max(found)


def _rows_of_agents(threats: Sequence[RecentThreat], organizations: Mapping[int, str]) -> Rows:
    times = defaultdict[tuple[int, int], list[float]](list)
    for agent_number, _, _, _, event_time in threats:
        times[int(event_time / HOUR), agent_number].append(event_time)
    in_order = [(*key, organizations[key[1]], len(found), max(found)) for key, found in sorted(times.items())]
    for seconds in AGENTS.kept:
        for bucket, agent_number, organization_id, count, last_seen in in_order:
            yield seconds, bucket * HOUR // seconds * seconds, agent_number, organization_id, count, last_seen
