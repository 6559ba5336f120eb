"""Slices of the stored threats, each with marks that tell which of them have what the lists are filtered by.

A search by any combination of them reads a mark or two of each slice instead of its threats (docs/decisions/0010).
"""

from peewee import Database

from manager.storage.connection import BulkWriter
from manager.storage.threat_index.bitmaps import bits_at, packed, packed_agents

NAME = "slices"
ORGANIZATION, TYPE, SEVERITY = "organization", "type", "severity"
"""What marks tell; a slice knows agents by itself."""


class ThreatSlices:
    """Writes slices, in the writer's transaction and on its connection.

    Args:
        database: the writer's database.
        many: executes a statement for many rows.
    """

    def __init__(self, database: Database, many: BulkWriter) -> None:
        self._database = database
        self._many = many
        self._organizations: dict[int, str] = {}
        param = database.param
        self._read_sql = (
            "SELECT sequence, agent_number, type, severity, received_at FROM threat "
            f"WHERE sequence BETWEEN {param} AND {param}"
        )
        self._slice_sql = (
            "INSERT INTO threat_slice (first, last, earliest, latest, agents, places) "
            f"VALUES ({', '.join([param] * 6)})"
        )
        self._mark_sql = f"INSERT INTO threat_mark (first, dimension, value, marks) VALUES ({', '.join([param] * 4)})"

    def write(self, first: int, last: int) -> None:
        """Write the slice of the threats from one sequence to another; none if there are none."""
        rows = self._database.execute_sql(self._read_sql, (first, last)).fetchall()
        if not rows:
            return
        agents = [0] * (last - first + 1)
        places: dict[tuple[str, str, str], list[int]] = {}
        organizations = self._organizations
        for sequence, agent_number, type_, severity, _ in rows:
            place = sequence - first
            agents[place] = agent_number
            organization_id = organizations.get(agent_number) or self._organization(agent_number)
            key = (organization_id, type_, severity)
            if key in places:
                places[key].append(place)
            else:
                places[key] = [place]
        bits: dict[tuple[str, str], int] = {}
        for values, found in places.items():
            those = bits_at(found)
            for value in zip((ORGANIZATION, TYPE, SEVERITY), values, strict=True):
                bits[value] = bits.get(value, 0) | those
        received = [row[4] for row in rows]
        self._database.execute_sql(self._slice_sql, (first, last, min(received), max(received), *packed_agents(agents)))
        self._many(self._mark_sql, [(first, *value, packed(those)) for value, those in sorted(bits.items())])

    def prune(self, last: int) -> None:
        """Delete the slices whose threats are all gone: up to a sequence."""
        param = self._database.param
        gone = f"SELECT first FROM threat_slice WHERE first <= {param} AND last <= {param}"
        self._database.execute_sql(f"DELETE FROM threat_mark WHERE first IN ({gone})", (last, last))
        self._database.execute_sql(f"DELETE FROM threat_slice WHERE first <= {param} AND last <= {param}", (last, last))

    def _organization(self, agent_number: int) -> str:
        """Return an agent's organization, which never changes, and remember it."""
        sql = f"SELECT organization_id FROM agent WHERE number = {self._database.param}"
        found: str = self._database.execute_sql(sql, (agent_number,)).fetchone()[0]
        self._organizations[agent_number] = found
        return found
