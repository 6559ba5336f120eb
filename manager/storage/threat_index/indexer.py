"""Threat index, writing: slices of consecutive threats, with a bitmap for each value of a filter.

A search by any combination of filters reads a few bitmaps of each slice instead of its threats
(docs/decisions/0010).
"""

from manager.storage.statements import Statements
from manager.storage.threat_index.bitmaps import bits_at, packed, packed_agents

NAME = "slices"
ORGANIZATION, TYPE, SEVERITY = "organization", "type", "severity"
"""The dimensions that have bitmaps; agents are part of the slice."""


class ThreatIndexer:
    """Writes and prunes slices in the writer's transaction.

    Args:
        statements: the statements of the writer's database.
    """

    def __init__(self, statements: Statements) -> None:
        self._statements = statements

    def add(self, first: int, last: int) -> None:
        """Write the slice of the threats from one sequence to another; none if there are no threats."""
        rows = self._statements.rows("threat_index.threats_of_slice", (first, last))
        if not rows:
            return
        agents = [0] * (last - first + 1)
        positions: dict[tuple[str, str, str], list[int]] = {}
        organizations: dict[int, str] = {}  # of this slice alone: agents move
        for sequence, agent_number, type_, severity, _ in rows:
            position = sequence - first
            agents[position] = agent_number
            if agent_number not in organizations:
                organizations[agent_number] = self._organization(agent_number)
            key = (organizations[agent_number], type_, severity)
            if key in positions:
                positions[key].append(position)
            else:
                positions[key] = [position]
        bitmaps: dict[tuple[str, str], int] = {}
        for values, found in positions.items():
            bits = bits_at(found)
            for value in zip((ORGANIZATION, TYPE, SEVERITY), values, strict=True):
                bitmaps[value] = bitmaps.get(value, 0) | bits
        received = [row[4] for row in rows]
        slice_row = (first, last, min(received), max(received), *packed_agents(agents))
        self._statements.execute("threat_index.insert_slice", slice_row)
        bitmap_rows = [(first, *value, packed(bits)) for value, bits in sorted(bitmaps.items())]
        self._statements.execute_many("threat_index.insert_bitmap", bitmap_rows)

    def prune(self, last: int) -> None:
        """Delete the slices whose threats are all pruned: those up to a sequence."""
        self._statements.execute("threat_index.prune_bitmaps", {"sequence": last})
        self._statements.execute("threat_index.prune_slices", {"sequence": last})

    def _organization(self, agent_number: int) -> str:
        """Return the organization that an agent is in now."""
        found: str = self._statements.rows("agents.organization", (agent_number,))[0][0]
        return found
