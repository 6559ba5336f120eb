"""Threat index, writing: slices of consecutive threats, with a bitmap for each value of a filter.

A search by any combination of filters reads a few bitmaps of each slice instead of its threats
(docs/decisions/0010).
"""

from collections.abc import Sequence

from manager.storage.projections.agent_organizations import AgentOrganizations
from manager.storage.projections.recent_threats import RecentThreat
from manager.storage.statements import Statements
from manager.storage.threat_index.bitmaps import bits_at, packed, packed_agents

NAME = "slices"
ORGANIZATION, TYPE, SEVERITY = "organization", "type", "severity"
"""The dimensions that have bitmaps; agents are part of the slice."""


_HIGHEST = 2**63 - 1


class ThreatIndexer:
    """Writes and prunes slices in the writer's transaction.

    Args:
        statements: the statements of the writer's database.
        organizations: those of the agents.
    """

    def __init__(self, statements: Statements, organizations: AgentOrganizations) -> None:
        self._statements = statements
        self._organizations = organizations

    def add(self, first: int, last: int, threats: Sequence[RecentThreat] | None) -> None:
        """Write the slice of the threats from one sequence to another; none if there are no threats.

        Args:
            first: the first sequence.
            last: the last one.
            threats: all of them, if they are in memory; else they are read from the store.
        """
        found: Sequence[tuple[int, int, str, str, float, float]]
        if threats is not None:
            found = [(sequence, *threat) for sequence, threat in enumerate(threats, first)]
        else:
            found = self._statements.rows("threat_index.threats_of_slice", (first, last))
        if found:
            self._write(first, last, found)

    def _write(self, first: int, last: int, threats: Sequence[tuple[int, int, str, str, float, float]]) -> None:
        """Write a slice of threats: sequence, agent number, type, severity, time of receipt and event time."""
        agents = [0] * (last - first + 1)
        organizations = self._organizations.of({threat[1] for threat in threats})
        positions: dict[tuple[str, str, str], list[int]] = {}
        for sequence, agent_number, type_, severity, _, _ in threats:
            agents[sequence - first] = agent_number
            positions.setdefault((organizations[agent_number], type_, severity), []).append(sequence - first)
        bitmaps: dict[tuple[str, str], int] = {}
        for values, found in positions.items():
            bits = bits_at(found)
            for value in zip((ORGANIZATION, TYPE, SEVERITY), values, strict=True):
                bitmaps[value] = bitmaps.get(value, 0) | bits
        received = [threat[4] for threat in threats]
        slice_row = (first, last, min(received), max(received), *packed_agents(agents))
        self._statements.execute("threat_index.insert_slice", slice_row)
        bitmap_rows = [(first, *value, packed(bits)) for value, bits in sorted(bitmaps.items())]
        self._statements.execute_many("threat_index.insert_bitmap", bitmap_rows)

    def prune_before_lowest(self) -> None:
        """Delete the slices without threats: those before the lowest sequence of a threat."""
        ((lowest, _),) = self._statements.rows("threats.sequences")
        self.prune(lowest - 1 if lowest else _HIGHEST)

    def prune(self, last: int) -> None:
        """Delete the slices whose threats are all pruned: those up to a sequence."""
        self._statements.execute("threat_index.prune_bitmaps", {"sequence": last})
        self._statements.execute("threat_index.prune_slices", {"sequence": last})
