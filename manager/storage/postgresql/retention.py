"""Retention that only PostgreSQL has: every stored report has its id from the beginning, by the time of its storing."""

from collections.abc import Callable

from manager.domain.retention import EARLIEST, HOUR
from manager.engine.ports import PruneOrder
from manager.storage.postgresql.partitions import ThreatPartitions
from manager.storage.statements import Statements


class PostgresqlRetention:
    """Drops expired partitions, and deletes expired ids and removed agents.

    Args:
        statements: those of the writer's database.
        partitions: the partitions of the threats.
    """

    def __init__(self, statements: Statements, partitions: ThreatPartitions) -> None:
        self._statements = statements
        self._partitions = partitions

    def threats_before(self, before: float) -> float:
        """Return the last end of a partition up to a time: threats expire partition by partition."""
        length = self._partitions.length
        return before // length * length if length else before

    def drop_partitions(self, order: PruneOrder, before_drop: Callable[[int], None]) -> int:
        """Drop expired partitions of threats; return the number of threats in them."""
        return self._partitions.drop_expired(order.threats_before, order.partition_threats, before_drop)

    def keep_ids(self, last: int) -> None:
        """Do nothing: the ids are stored with their threats."""

    def prune_ids(self, order: PruneOrder) -> int:
        """Delete expired ids, the oldest first; return their number. An id is kept at least as long as its threat.

        A time that cannot be right (before 2025, more than an hour ahead of now) is replaced by the present time, so
        that the id is kept for one retention from then on.
        """
        impossible = {"earliest": EARLIEST, "latest": order.now + HOUR, "now": order.now, "limit": order.ids}
        self._statements.execute("stored_ids.correct_times", impossible)
        before = min(order.ids_before, order.threats_before)
        return self._statements.execute("stored_ids.delete", {"before": before, "limit": order.ids})

    def prune_removed_agents(self, before: float, limit: int) -> int:
        """Delete agents that were removed before a time and whose threats are all deleted; return their number."""
        return self._statements.execute("pruning.removed_agents", (before, limit))
