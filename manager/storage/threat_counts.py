"""How many threats there were, kept longer than the threats: by hour, severity and type; by day, agent and source.

Counted in the transaction that stores the threats. A summary of weeks stays true when the threats are long gone, and
the overview need not look at a million of them.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from peewee import Database

from manager.engine.batch import ThreatRow

HOUR = 3600
DAY = 86_400
KEPT = 90 * DAY

KIND, AGENT, SOURCE = "kind", "agent", "source"
"""What is counted: severity and type together, agents by their number, source addresses."""

_COLUMNS = ("dimension", "bucket", "organization_id", "value", "count", "last_seen")


class Many(Protocol):
    """Writes rows by one statement."""

    def __call__(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        """Execute the statement for each row."""
        ...


class ThreatCounts:
    """The counts, in the writer's transaction and on its connection.

    A batch that the store rejected and took piece by piece may be counted twice; nothing else ever is.

    Args:
        database: the writer's database.
        many: executes a statement for many rows.
    """

    def __init__(self, database: Database, many: Many) -> None:
        self._database = database
        self._many = many
        self._organizations: dict[int, str] = {}
        self._pruned = 0
        marks = ", ".join([database.param] * len(_COLUMNS))
        self._sql = (
            f"INSERT INTO threat_count ({', '.join(_COLUMNS)}) VALUES ({marks}) "
            "ON CONFLICT (dimension, bucket, organization_id, value) DO UPDATE SET "
            "count = threat_count.count + excluded.count, last_seen = max(threat_count.last_seen, excluded.last_seen)"
        )

    def write(self, threats: Sequence[ThreatRow]) -> None:
        """Count new threats."""
        counts: dict[tuple[str, int, str, str], list[float]] = {}
        for row in threats:
            organization_id, at = self._organization(row.agent_number), row.event_time
            hour, day = int(at // HOUR) * HOUR, int(at // DAY) * DAY
            keys = [
                (KIND, hour, organization_id, f"{row.severity} {row.type}"),
                (AGENT, day, organization_id, str(row.agent_number)),
            ]
            if row.source_ip is not None:
                keys.append((SOURCE, day, organization_id, row.source_ip))
            for key in keys:
                line = counts.get(key)
                if line is None:
                    counts[key] = [1, at]
                else:
                    line[0] += 1
                    line[1] = max(line[1], at)
        self._many(self._sql, [(*key, int(number), last) for key, (number, last) in sorted(counts.items())])
        self._prune(threats[-1].received_at)

    def _organization(self, agent_number: int) -> str:
        """Return an agent's organization, which never changes."""
        known = self._organizations.get(agent_number)
        if known is None:
            found = self._database.execute_sql(
                f"SELECT organization_id FROM agent WHERE number = {self._database.param}", (agent_number,)
            ).fetchone()
            known = self._organizations[agent_number] = str(found[0]) if found else ""
        return known

    def _prune(self, now: float) -> None:
        """Delete what is older than the counts are kept, once a day."""
        day = int(now // DAY) * DAY
        if day > self._pruned:
            self._pruned = day
            self._database.execute_sql(f"DELETE FROM threat_count WHERE bucket < {self._database.param}", (day - KEPT,))
