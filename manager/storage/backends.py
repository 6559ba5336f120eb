"""Back ends of the writer: what it needs of a database system beside the named statements."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, cast

from peewee import Database

from manager.engine.batch import Changes, ThreatRow
from manager.engine.ports import CommitWork
from manager.storage.hand_over import InsertedThreats
from manager.storage.pruning import SystemRetention
from manager.storage.sqlite.backend import SqliteBackend
from manager.storage.statements import Statements, system_of

if TYPE_CHECKING:
    from manager.storage.postgresql.connection import PostgresqlStore

Fence = Callable[[], None]
"""Raises an error if this process may not write any more; called at the beginning of each transaction."""


class Backend(Protocol):
    """A database system's part in writing."""

    @property
    def retention(self) -> SystemRetention:
        """The retention that is the system's own."""
        ...

    def timeline(self) -> str:
        """Return which history of the database this is; another one after a fail-over, empty where there is but one."""
        ...

    def is_in_transaction(self) -> bool:
        """Return whether the transaction goes on; a system may end one by itself after an error."""
        ...

    def insert_threats(self, rows: Sequence[ThreatRow]) -> InsertedThreats:
        """Insert threats in their order, as far as the store does not have them.

        If it had none of them, their sequences follow on each other.

        Raises:
            StoreRejected: another process has stored a threat with the id of one of them and another content.
        """
        ...

    def has_committed(self, changes: Changes) -> bool:
        """Return, in a transaction, whether an earlier commit of the same changes took place unanswered."""
        ...

    def mark(self, changes: Changes) -> None:
        """Write, in the changes' transaction, that by which `has_committed` recognizes it."""
        ...

    def announce(self, changes: Changes) -> None:
        """Tell other processes, with the transaction's commit, which agents have other keys or are removed."""
        ...

    def commit(self, end: Callable[[], None], threats: int, work: CommitWork | None) -> None:
        """Commit the transaction.

        Args:
            end: ends it.
            threats: the number of threats in it.
            work: may be done meanwhile.
        """
        ...

    def after_commit(self) -> None:
        """Do what is due after a commit."""
        ...

    def close(self) -> None:
        """Close the database."""
        ...


def backend_for(
    database: Database, statements: Statements, fence: Fence | None = None, threat_retention: float = 0.0
) -> Backend:
    """Return the back end of a writer's database.

    Args:
        database: the writer's database.
        statements: its statements.
        fence: passed by each transaction in PostgreSQL.
        threat_retention: seconds that threats are kept; PostgreSQL keeps them in partitions of about a 24th.
    """
    if system_of(database) == "sqlite":
        if fence is not None:
            raise ValueError("SQLite has one writer, and no fence")
        return SqliteBackend(database, statements)
    from manager.storage.postgresql.backend import PostgresqlBackend  # noqa: PLC0415 -- imports psycopg

    return PostgresqlBackend(cast("PostgresqlStore", database), statements, fence, threat_retention)
