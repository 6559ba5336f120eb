"""Pruning: deletes expired rows in pieces, from every table that grows."""

from collections.abc import Iterable

from peewee import Database

from manager.domain.agents.vitals_history import period_of
from manager.domain.retention import EARLIEST, last_expired
from manager.engine.ports import Pruned, PruneOrder, StoreSizes
from manager.storage.projections.projections import Projections
from manager.storage.projections.threat_counts import SourcePruner, ThreatCounts
from manager.storage.protection import StoredProtection
from manager.storage.statements import Statements
from manager.storage.threat_epochs import ThreatEpochs
from manager.storage.threat_index.indexer import ThreatIndexer


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
    ) -> None:
        self._database = database
        self._statements = statements
        self._projections = projections
        self._counts = tuple(counts)
        self._sources = SourcePruner(statements)
        self._indexer = indexer
        self._epochs = epochs
        self._protection = protection

    def sizes(self) -> StoreSizes:
        """Return the number of threats and of stored ids, as spans of sequences (gaps are rare)."""
        ((threats, ids),) = self._statements.rows("pruning.sizes")
        return StoreSizes(threats, ids)

    def prune(self, order: PruneOrder) -> Pruned:
        """Delete the rows that an order names; return their number."""
        with self._database.atomic():
            threats = self._prune_threats(order)
            ids = self._prune_ids(order)
            other = self._prune_counts(order.rows)
            other += self._prune_incidents(order)
            other += self._statements.execute("pruning.vitals_history", (period_of(order.vitals_before), order.rows))
            other += self._prune_rows("agent_history", order.history_before, order)
            other += self._statements.execute("pruning.audit", (order.audit_before, order.rows))
            for table in ("reported_measure", "block_lift"):
                other += self._prune_rows(table, order.measures_before, order)
            other += self._protection.prune(order.measures_before, order.now, order.rows)
        return Pruned(threats, ids, other + self._prune_removed_agents(order))

    def _prune_threats(self, order: PruneOrder) -> int:
        last = self._last_expired("threat", order.threats_before, order.now, order.threats)
        if last is None:
            return 0
        self._statements.execute("threats.keep_ids", (last,))
        self._projections.before_prune(last)
        self._indexer.prune(last)
        deleted = self._statements.execute("threats.delete_up_to", (last,))
        self._projections.after_prune()
        if self._forget_checkpoint_if_empty("threat"):
            self._epochs.restart()
        return deleted

    def _prune_ids(self, order: PruneOrder) -> int:
        last = self._last_expired("stored_id", order.ids_before, order.now, order.ids)
        if last is None:
            return 0
        deleted = self._statements.execute("pruning.ids", (last,))
        self._forget_checkpoint_if_empty("stored_id")
        return deleted

    def _prune_rows(self, table: str, before: float, order: PruneOrder) -> int:
        """Delete expired rows of a table in the order of their storing; return their number."""
        last = self._last_expired(table, before, order.now, order.rows)
        if last is None:
            return 0
        deleted = self._statements.execute(f"pruning.delete_{table}", (last,))
        self._forget_checkpoint_if_empty(table)
        return deleted

    def _last_expired(self, table: str, before: float, now: float, limit: int) -> int | None:
        """Return the last sequence of the oldest expired rows, at most `limit` of them; None if no row has expired.

        Rows with an impossible time of receipt expire by a checkpoint: the highest sequence at a known time.
        """
        rows = self._statements.rows(f"pruning.oldest_{table}", (limit,)) if limit else []
        if not rows:
            return None
        last = last_expired(rows, before, now)
        highest, noted_at = self._checkpoint(table, int(rows[0][0]), now)
        if noted_at < before:
            last = max(last or 0, min(highest, int(rows[-1][0])))
        return last

    def _checkpoint(self, table: str, lowest: int, now: float) -> tuple[int, float]:
        """Return a checkpoint (highest sequence, time); create a new one when all rows up to it are deleted."""
        key = _checkpoint_key(table)
        found = self._statements.rows("meta.get", (key,))
        if found:
            sequence, _, noted_at = found[0][0].partition(" ")
            if int(sequence) >= lowest and EARLIEST <= float(noted_at) <= now:
                return int(sequence), float(noted_at)
        ((highest,),) = self._statements.rows(f"pruning.highest_{table}")
        self._statements.execute("meta.upsert", (key, f"{highest} {now!r}"))
        return int(highest), now

    def _forget_checkpoint_if_empty(self, table: str) -> bool:
        """Drop the checkpoint of an empty table, because the table's next row has the lowest sequence again."""
        if self._statements.rows(f"pruning.oldest_{table}", (1,)):
            return False
        self._statements.execute("meta.delete", (_checkpoint_key(table),))
        return True

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
        """Delete removed agents whose threats are all deleted.

        SQLite would search all threats and ids for references to each agent; no threat refers to these agents, and
        ids need no agent. So the foreign key check is switched off, which must be done outside a transaction.
        """
        params = (order.removed_before, order.rows)
        if not self._statements.rows("pruning.has_removed_agents", params[:1]):
            return 0
        self._statements.execute("pruning.references_off")
        try:
            with self._database.atomic():
                return self._statements.execute("pruning.removed_agents", params)
        finally:
            self._statements.execute("pruning.references_on")


def _checkpoint_key(table: str) -> str:
    return f"checkpoint_{table}"
