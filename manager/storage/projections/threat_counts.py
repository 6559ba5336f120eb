"""How many threats there were, kept longer than the threats: by severity and type, by agent, by source address.

Each is counted in buckets of several lengths: a question about a period is answered by one or two buckets about as long
as it, or by many short ones where a bucket has few lines. So a summary of weeks stays true when the threats are long
gone, and nobody need look at a million of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from peewee import Database

MOMENT = 300
HOUR = 3600
SHIFT = 6 * HOUR
DAY = 86_400
KEPT = 90 * DAY

_SOURCES_KEPT = KEPT + 10 * DAY
_LOOKED_AT = 2000


@dataclass(frozen=True, slots=True)
class Counting:
    """One thing that is counted.

    Args:
        name: who it is among the followers of the stored threats.
        table: where.
        key: the columns that tell what is counted, beside the bucket.
        grouped: a query for the key, the organization, a bucket of the shortest length, number and last event time of
            the threats of a span of sequences.
        kept: how long buckets of each length are kept; lengths and times in seconds.
    """

    name: str
    table: str
    key: tuple[str, ...]
    grouped: str
    kept: Mapping[int, int]


def _grouped(columns: str, shortest: int, join: str = "") -> str:
    return (
        f"SELECT {columns}, CAST(event_time / {shortest} AS INTEGER) * {shortest} AS bucket, count(*) AS number, "
        f"max(event_time) AS seen FROM threat {join} WHERE sequence BETWEEN ? AND ?"
    )


_AGENT = "JOIN agent ON agent.number = agent_number"

KINDS = Counting(
    "kinds",
    "threat_kind_count",
    ("organization_id", "severity", "type"),
    _grouped("organization_id, severity, type", MOMENT, _AGENT) + " GROUP BY 1, 2, 3, 4",
    {MOMENT: DAY // 2, HOUR: 2 * DAY, DAY: KEPT},
)
AGENTS = Counting(
    "agents",
    "threat_agent_count",
    ("agent_number",),
    "SELECT agent_number, organization_id, bucket, counted.number AS number, seen FROM ("
    + _grouped("agent_number", HOUR)
    + f" GROUP BY 1, 2) AS counted {_AGENT}",
    {HOUR: 3 * HOUR, SHIFT: 3 * SHIFT, DAY: KEPT},
)
SOURCES = Counting(
    "sources",
    "threat_source_count",
    ("source_number", "organization_id"),
    _grouped(
        "threat_source.number AS source_number, organization_id",
        HOUR,
        f"JOIN threat_source ON address = source_ip {_AGENT}",
    )
    + " GROUP BY 1, 2, 3",
    {HOUR: 3 * HOUR, SHIFT: 3 * SHIFT, DAY: KEPT},
)


class ThreatCounts:
    """Writes counts, in the writer's transaction and on its connection.

    Args:
        database: the writer's database.
        counting: what is counted.
    """

    def __init__(self, database: Database, counting: Counting) -> None:
        self._database = database
        self._counting = counting
        self._sql = _writing(counting).replace("?", database.param)

    def write(self, first: int, last: int) -> None:
        """Count the threats from one sequence to another."""
        if self._counting is SOURCES:
            self._name_sources(first, last)
        self._database.execute_sql(self._sql, (first, last))

    def prune(self, now: float, limit: int) -> int:
        """Delete at most `limit` of the counts that are older than they are kept; return how many went."""
        param, key = self._database.param, ", ".join(("seconds", "bucket", *self._counting.key))
        table, gone = self._counting.table, 0
        for seconds, kept in self._counting.kept.items():
            old = f"SELECT {key} FROM {table} WHERE seconds = {param} AND bucket < {param} LIMIT {param}"
            sql = f"DELETE FROM {table} WHERE ({key}) IN ({old})"
            gone += self._database.execute_sql(sql, (seconds, now - kept - seconds, limit - gone)).rowcount
        return gone

    def _name_sources(self, first: int, last: int) -> None:
        """Give new source addresses a number; when one was last seen is noted to the day, as far as it matters."""
        param = self._database.param
        self._database.execute_sql(
            "INSERT INTO threat_source (address, last_seen) SELECT source_ip, event_time FROM threat "
            f"WHERE source_ip IS NOT NULL AND sequence BETWEEN {param} AND {param} "
            "ON CONFLICT (address) DO UPDATE SET last_seen = excluded.last_seen "
            f"WHERE excluded.last_seen > threat_source.last_seen + {DAY}",
            (first, last),
        )


class OldSources:
    """Forgets addresses that no count names any more, a part of them at a time.

    Args:
        database: the writer's database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._looked_at = 0

    def prune(self, now: float) -> None:
        """Look at the next addresses, and delete those that were last seen before their counts were deleted."""
        param = self._database.param
        sql = f"SELECT number FROM threat_source WHERE number > {param} ORDER BY number LIMIT {param}"
        numbers = [row[0] for row in self._database.execute_sql(sql, (self._looked_at, _LOOKED_AT)).fetchall()]
        if numbers:
            self._database.execute_sql(
                f"DELETE FROM threat_source WHERE number BETWEEN {param} AND {param} AND last_seen < {param}",
                (numbers[0], numbers[-1], now - _SOURCES_KEPT),
            )
        self._looked_at = numbers[-1] if len(numbers) == _LOOKED_AT else 0


def _writing(counting: Counting) -> str:
    columns = list(counting.key)
    if "organization_id" not in columns:
        columns.append("organization_id")
    lengths = " UNION ALL ".join(f"SELECT {seconds} AS seconds" for seconds in counting.kept)
    table = counting.table
    return (
        f"INSERT INTO {table} (seconds, bucket, {', '.join(columns)}, count, last_seen) "
        f"SELECT length.seconds, bucket / length.seconds * length.seconds, {', '.join(columns)}, number, seen "
        f"FROM ({lengths}) AS length CROSS JOIN ({counting.grouped}) AS grouped WHERE true "
        f"ON CONFLICT (seconds, bucket, {', '.join(counting.key)}) DO UPDATE SET "
        f"count = {table}.count + excluded.count, last_seen = max({table}.last_seen, excluded.last_seen)"
    )
