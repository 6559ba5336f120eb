"""Writing to PostgreSQL: fenced transactions, threats by COPY, and commits whose answer was lost."""

import secrets
from collections.abc import Callable, Sequence

from psycopg.pq import TransactionStatus

from manager.engine.batch import Changes, ThreatRow
from manager.engine.ports import CommitWork
from manager.errors import StoreRejected
from manager.storage.hand_over import InsertedThreats
from manager.storage.postgresql.connection import PostgresqlStore, driver_errors
from manager.storage.postgresql.partitions import ThreatPartitions, partition_length
from manager.storage.postgresql.reports import set_decided_times, store_reports
from manager.storage.postgresql.retention import PostgresqlRetention
from manager.storage.statements import Statements

_MARK = "commit_mark"
"""Key of the single value that names the last commit."""

AGENTS_CHANGED = "panguard_agents"
"""The channel on which the leader names agents whose keys changed, and removed ones."""

_NOTIFY_AGENTS = "SELECT pg_notify(%s, agent_id) FROM unnest(%s::text[]) AS changed (agent_id)"
_TIMELINE = "SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)"

_LOCK_MARK = "SELECT value FROM meta WHERE key = %s FOR UPDATE"


class PostgresqlBackend:
    """Writing to PostgreSQL on the engine's connection.

    A connection may be lost between the commit and its answer. So each commit writes a random mark in its transaction.
    A commit after one without an answer first locks the mark's row, which waits for the end of that transaction, and
    reads whether it took place.

    Args:
        database: the writer's database.
        statements: its statements.
        fence: called at the beginning of each transaction of the database.
        threat_retention: seconds that threats are kept, which determine the length of partitions; 0 for no partitions.
    """

    def __init__(
        self,
        database: PostgresqlStore,
        statements: Statements,
        fence: Callable[[], None] | None = None,
        threat_retention: float = 0.0,
    ) -> None:
        self._database = database
        self._statements = statements
        database.fence = fence
        self._partitions = ThreatPartitions(database, statements, partition_length(threat_retention))
        self.retention = PostgresqlRetention(statements, self._partitions)
        self._unanswered: tuple[str, Changes] | None = None
        self._may_be_rolled_back = False

    def timeline(self) -> str:
        """Return the timeline of the server, which a promotion changes."""
        ((timeline,),) = self._database.connection().execute(_TIMELINE).fetchall()
        return str(timeline)

    def is_in_transaction(self) -> bool:
        """Return whether the transaction goes on; an error in it, also one in a query, has ended it."""
        return bool(self._database.connection().info.transaction_status == TransactionStatus.INTRANS)

    def insert_threats(self, rows: Sequence[ThreatRow]) -> InsertedThreats:
        """Insert threats by COPY, into partitions made for them.

        An ingest worker may have stored some since they were looked up. Their rows get the times by which they were
        decided: the next leader would count one a second time that lies outside its incident.

        Raises:
            StoreRejected: a worker has stored another content under the id of one.
        """
        if self._may_be_rolled_back:
            self._partitions.forget()
        self._may_be_rolled_back = True
        received = [row.received_at for row in rows]
        self._partitions.cover(min(received))
        self._partitions.cover(max(received))
        connection = self._database.connection()
        with driver_errors:
            stored = store_reports(connection, rows)
            ranges = [(stored.first, stored.first + len(rows) - 1)]
            for place, digest in stored.known.items():
                if digest != rows[place].digest:
                    raise StoreRejected(f"another report of this agent has the id {rows[place].threat_id}")
            if stored.known:
                ranges += [(sequence, sequence) for sequence in set_decided_times(connection, rows, stored.known)]
        return InsertedThreats(len(rows) - len(stored.known), ranges[0][1], ranges)

    def has_committed(self, changes: Changes) -> bool:
        """Return whether the last commit, which was not answered, took place and was of the same changes."""
        if self._unanswered is None:
            return False
        mark, earlier = self._unanswered
        with driver_errors:
            found = self._database.connection().execute(_LOCK_MARK, (_MARK,)).fetchall()
        return changes is earlier and found == [(mark,)]

    def mark(self, changes: Changes) -> None:
        """Write a new mark."""
        mark = secrets.token_hex(16)
        self._statements.execute("meta.upsert", (_MARK, mark))
        self._unanswered = mark, changes

    def announce(self, changes: Changes) -> None:
        """Notify the ingest workers, with the transaction's commit, of agents with other keys and of removed ones."""
        agent_ids = [agent.agent_id for agent in changes.removed]
        agent_ids += [agent.agent_id for agent in changes.agents.values() if not agent.credential.is_stored]
        if agent_ids:
            self._database.connection().execute(_NOTIFY_AGENTS, (AGENTS_CHANGED, agent_ids))

    def commit(self, end: Callable[[], None], _threats: int, _work: CommitWork | None) -> None:
        """Commit in this thread: the connection belongs to it."""
        end()

    def after_commit(self) -> None:
        """Note that the commit was answered."""
        if self._unanswered is not None and self._unanswered[1].threats:
            self._may_be_rolled_back = False
        self._unanswered = None

    def close(self) -> None:
        """Close the connection."""
        self._database.close()
