"""Pruning: deletes expired rows in pieces, from every table that grows."""

from collections.abc import Callable, Iterable
from typing import Protocol

from peewee import Database

from manager.domain.agents.vitals_history import period_of
from manager.engine.ports import Pruned, PruneOrder, StoreSizes
from manager.storage.expiry import Expiry
from manager.storage.projections.projections import Projections
from manager.storage.projections.threat_counts import SourcePruner, ThreatCounts
from manager.storage.protection import StoredProtection
from manager.storage.statements import Statements
from manager.storage.threat_epochs import ThreatEpochs
from manager.storage.threat_index.indexer import ThreatIndexer

DEAD_LETTERS_KEPT = 1000
"""The number of the newest dead letters that stay."""


class SystemRetention(Protocol):
    """Retention that is a database system's own; `prune_removed_agents` is called outside a transaction."""

    def threats_before(self, before: float) -> float:
        """Return the time before which threats have expired, if they are kept until a time."""
        ...

    def drop_partitions(self, order: PruneOrder, before_drop: Callable[[int], None]) -> int:
        """Drop expired partitions of threats; return the number of threats in them.

        Args:
            order: the time, and the most threats.
            before_drop: called with the highest sequence of each partition, in the transaction in which it is dropped.
        """
        ...

    def keep_ids(self, last: int) -> None:
        """Keep the ids of the threats up to a sequence, before these are deleted."""
        ...

    def prune_ids(self, order: PruneOrder) -> int:
        """Delete expired ids; return their number."""
        ...

    def prune_removed_agents(self, before: float, limit: int) -> int:
        """Delete agents that were removed before a time and whose threats are all deleted; return their number."""
        ...


class Pruner:
    """Deletes expired rows on the writer's connection.

    Args:
        database: the writer's database.
        statements: the statements of the writer's database.
        projections: process threats before they are deleted.
        counts: threat counts, each with its own retention.
        indexer: drops slices of deleted threats.
        epochs: those of the threats.
        protection: deletes reported measures, logins and lifts.
        system: the retention that is the database system's own.
    """

    def __init__(
        self,
        database: Database,
        statements: Statements,
        projections: Projections,
        *,
        counts: Iterable[ThreatCounts],
        indexer: ThreatIndexer,
        epochs: ThreatEpochs,
        protection: StoredProtection,
        system: SystemRetention,
    ) -> None:
        self._database = database
        self._statements = statements
        self._projections = projections
        self._counts = tuple(counts)
        self._sources = SourcePruner(statements)
        self._indexer = indexer
        self._epochs = epochs
        self._protection = protection
        self._system = system
        self._expiry = Expiry(statements)

    def sizes(self) -> StoreSizes:
        """Return the number of threats and of stored ids, as spans of sequences (gaps are rare)."""
        ((threats, ids),) = self._statements.rows("pruning.sizes")
        return StoreSizes(threats, ids)

    def prune(self, order: PruneOrder) -> Pruned:
        """Delete the rows that an order names; return their number."""
        threats = self._system.drop_partitions(order, self._projections.complete_up_to)
        with self._database.atomic():
            if threats:
                self._indexer.prune_before_lowest()
            threats += self._prune_threats(order)
            ids = self._system.prune_ids(order)
            other = self._prune_counts(order.rows)
            other += self._prune_incidents(order)
            other += self._statements.execute("pruning.vitals_history", (period_of(order.vitals_before), order.rows))
            other += self._prune_rows("agent_history", order.history_before, order)
            other += self._statements.execute("pruning.audit", {"before": order.audit_before, "limit": order.rows})
            for table in ("reported_measure", "block_lift"):
                other += self._prune_rows(table, order.measures_before, order)
            other += self._protection.prune(order.measures_before, order.now, order.rows)
            self._statements.execute("dead_letters.prune", (DEAD_LETTERS_KEPT,))  # of ingest workers, who prune none
        return Pruned(threats, ids, other + self._prune_removed_agents(order))

    def _prune_threats(self, order: PruneOrder) -> int:
        before = self._system.threats_before(order.threats_before)
        last = self._expiry.last_expired("threat", before, order.now, order.threats)
        if last is None:
            return 0
        self._system.keep_ids(last)
        self._projections.before_prune(last)
        self._indexer.prune(last)
        deleted = self._statements.execute("threats.delete_up_to", (last,))
        self._projections.after_prune()
        if self._expiry.forget_checkpoint_if_empty("threat"):
            self._epochs.restart()
        return deleted

    def _prune_rows(self, table: str, before: float, order: PruneOrder) -> int:
        """Delete expired rows of a table in the order of their storing; return their number."""
        last = self._expiry.last_expired(table, before, order.now, order.rows)
        if last is None:
            return 0
        deleted = self._statements.execute(f"pruning.delete_{table}", (last,))
        self._expiry.forget_checkpoint_if_empty(table)
        return deleted

    def _prune_counts(self, limit: int) -> int:
        """Delete counts that are old compared to the newest threat; without new threats all counts stay."""
        newest = self._statements.rows("threats.last_received_at")
        if not newest:
            return 0
        self._sources.prune(newest[0][0])
        return sum(each.prune(newest[0][0], limit) for each in self._counts)

    def _prune_incidents(self, order: PruneOrder) -> int:
        """Delete closed incidents and what people did about them; keep those with an entry in force, for undo."""
        expired = {"before": order.threats_before, "limit": order.rows}
        self._statements.execute("pruning.incident_members", expired)
        self._statements.execute("pruning.incident_responses", expired)
        self._statements.execute("pruning.incident_work", expired)
        self._statements.execute("pruning.recognized_threats", expired)
        return self._statements.execute("pruning.incidents", expired)

    def _prune_removed_agents(self, order: PruneOrder) -> int:
        """Delete removed agents whose threats are all deleted."""
        if not self._statements.rows("pruning.has_removed_agents", (order.removed_before,)):
            return 0
        return self._system.prune_removed_agents(order.removed_before, order.rows)
