"""Expiry of rows in the order of their storing, with a checkpoint for rows whose time of receipt cannot be right."""

from manager.domain.retention import EARLIEST, last_expired
from manager.storage.statements import Statements


class Expiry:
    """Finds the oldest expired rows of a table in the writer's transaction.

    Args:
        statements: those of the writer's database; for each table `pruning.oldest_{table}` and
            `pruning.highest_{table}`.
    """

    def __init__(self, statements: Statements) -> None:
        self._statements = statements

    def last_expired(self, table: str, before: float, now: float, limit: int) -> int | None:
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

    def forget_checkpoint_if_empty(self, table: str) -> bool:
        """Drop the checkpoint of an empty table, because the table's next row has the lowest sequence again."""
        if self._statements.rows(f"pruning.oldest_{table}", (1,)):
            return False
        self._statements.execute("meta.delete", (_checkpoint_key(table),))
        return True


def _checkpoint_key(table: str) -> str:
    return f"checkpoint_{table}"
