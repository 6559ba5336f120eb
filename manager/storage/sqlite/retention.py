"""Retention that only SQLite has: ids are kept when their threats are deleted; references are not checked."""

from collections.abc import Callable

from peewee import Database

from manager.engine.ports import PruneOrder
from manager.storage.expiry import Expiry
from manager.storage.statements import Statements


class SqliteRetention:
    """Keeps and deletes the ids of deleted threats, and deletes removed agents.

    Args:
        database: the writer's database.
        statements: those of the writer's database.
    """

    def __init__(self, database: Database, statements: Statements) -> None:
        self._database = database
        self._statements = statements
        self._expiry = Expiry(statements)

    def threats_before(self, before: float) -> float:
        """Return the time: threats expire one by one."""
        return before

    def drop_partitions(self, _order: PruneOrder, _before_drop: Callable[[int], None]) -> int:
        """Return 0: the threats are in one table."""
        return 0

    def keep_ids(self, last: int) -> None:
        """Keep the ids of the threats up to a sequence, before these are deleted."""
        self._statements.execute("deleted_ids.keep", (last,))

    def prune_ids(self, order: PruneOrder) -> int:
        """Delete expired ids, which are in the order in which their threats were stored; return their number."""
        last = self._expiry.last_expired("stored_id", order.ids_before, order.now, order.ids)
        if last is None:
            return 0
        deleted = self._statements.execute("deleted_ids.delete", (last,))
        self._expiry.forget_checkpoint_if_empty("stored_id")
        return deleted

    def prune_removed_agents(self, before: float, limit: int) -> int:
        """Delete agents that were removed before a time and whose threats are all deleted; return their number.

        SQLite would search all threats and ids for references to each agent; no threat refers to these agents, and
        ids need no agent. So the foreign key check is switched off, which must be done outside a transaction.
        """
        self._database.execute_sql("PRAGMA foreign_keys = OFF")
        try:
            with self._database.atomic():
                return self._statements.execute("pruning.removed_agents", (before, limit))
        finally:
            self._database.execute_sql("PRAGMA foreign_keys = ON")
