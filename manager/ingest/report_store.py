"""The database as a worker uses it: agents by their ids, and batches of reports, each in one transaction."""

import json
from collections.abc import Collection, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

import structlog

from manager.domain.agents.agent import Agent
from manager.domain.store_history import HISTORY, KEPT_FOR
from manager.engine.batch import DeadLetter, ThreatRow
from manager.engine.policies.blocklist_messages import SEQUENCE_KEY
from manager.errors import StoreRejected, StoreUnavailable
from manager.storage.health import StoreHealth
from manager.storage.location import location_of
from manager.storage.postgresql.connection import PostgresqlStore, driver_errors
from manager.storage.postgresql.partitions import ThreatPartitions, partition_length
from manager.storage.postgresql.reports import prepare_session, store_reports
from manager.storage.rows import AgentRows, SecretCipher
from manager.storage.statements import Statements

log = structlog.get_logger(__name__)

INGESTED = "panguard_ingested"
"""The channel on which workers say that they have stored something."""

_NOTIFY = f"BEGIN; SET LOCAL synchronous_commit = off; NOTIFY {INGESTED}; COMMIT"
"""In a transaction of its own: a notification makes commits wait for each other, and this one waits for no disk."""

_GENERATION = "SELECT (value::json #>> '{generation,number}')::bigint FROM meta WHERE key = %s"


_POLICIES = """
SELECT agent_id, agent_policy.version, digest, coalesce(value::bigint, 0)
FROM agent JOIN agent_policy ON agent_number = number LEFT JOIN meta ON key = %(sequence)s || organization_id
WHERE removed_at IS NULL AND agent_id = ANY (%(agent_ids)s) AND NOT EXISTS (
    SELECT FROM meta AS history
    WHERE key = %(history)s AND value::json #>> '{generation,resend_from}' IS NOT NULL
        AND (value::json #>> '{generation,made_at}')::float >= %(asked_since)s
)
"""


class PolicyVersions(NamedTuple):
    """The present policy of an agent: version and digest of its own, and the sequence of its organization's blocks."""

    version: int
    digest: str
    sequence: int

    @property
    def newest(self) -> int:
        """The version of both together, as HTTP agents get them."""
        return max(self.version, self.sequence)


class StoredOtherwise(Exception):  # noqa: N818 -- named after the cause
    """Reports that must be stored with others, or not at all, have ids that are stored with other content.

    Args:
        places: their places in the batch.
    """

    def __init__(self, places: Collection[int]) -> None:
        super().__init__("stored with other content")
        self.places = places


class ReportStore:
    """Stores reports for a worker, in one thread.

    Args:
        database: the worker's own connection.
        store_key: opens the secrets of agents.
        threat_retention: seconds that threats are kept, which determine the length of partitions; 0 for no partitions.
    """

    def __init__(self, database: PostgresqlStore, store_key: bytes, threat_retention: float = 0.0) -> None:
        self._database = database
        self._statements = Statements(database)
        self._partitions = ThreatPartitions(database, self._statements, partition_length(threat_retention))
        self._may_be_rolled_back = False
        self._rows = AgentRows(SecretCipher(store_key))
        self._health = StoreHealth(location_of(database))
        self._damaged: set[str] = set()
        """The agents whose rows are known to be damaged, each logged once."""
        self.generation: int | None = None
        """The generation of the store as the last commit of reports saw it; None before its first one."""

    def agents(self, agent_ids: Collection[str]) -> list[Agent]:
        """Return the registered agents with some ids, without those whose rows are damaged.

        Raises:
            StoreUnavailable: the database cannot be read.
        """
        with self._health.errors("be read"):
            rows = self._statements.rows("agents.load_some", {"agent_ids": json.dumps(list(agent_ids))})
        agents = []
        for row in rows:
            try:
                agents.append(self._rows.to_agent(row))
            except Exception:
                if row[1] not in self._damaged:
                    log.exception("agent_damaged", agent_id=row[1])
                    self._damaged.add(row[1])
        return agents

    def policies(self, agent_ids: Collection[str], now: float) -> dict[str, PolicyVersions]:
        """Return the present policies of some registered agents; none while the store asks guards for reports again.

        Args:
            agent_ids: the agents.
            now: seconds since 1970.

        Raises:
            StoreUnavailable: the database cannot be read.
        """
        asked = {"history": HISTORY, "asked_since": now - KEPT_FOR}
        parameters = {"sequence": SEQUENCE_KEY, "agent_ids": list(agent_ids), **asked}
        with self._health.errors("be read"), driver_errors:
            found = self._database.connection().execute(_POLICIES, parameters).fetchall()
        return {agent_id: PolicyVersions(*versions) for agent_id, *versions in found}

    def store(
        self, rows: Sequence[ThreatRow], letters: Sequence[DeadLetter], whole: AbstractSet[int] = frozenset()
    ) -> dict[int, bytes]:
        """Store reports and dead letters, durable when this returns.

        Args:
            rows: the reports.
            letters: the dead letters.
            whole: places of reports of which none may be stored with other content.

        Returns:
            the places of reports whose ids were stored before, and the digests that these are stored with.

        Raises:
            StoredOtherwise: some at those places are; nothing was stored.
            StoreUnavailable: nothing is known to be stored; the same reports may be stored again.
            StoreRejected: nothing was stored; one of the rows does not fit the tables.
        """
        known: dict[int, bytes] = {}
        generation = self.generation
        if self._may_be_rolled_back:
            self._partitions.forget()
        self._may_be_rolled_back = True
        with self._health.errors("commit"), driver_errors:
            prepare_session(self._database.connection())
        with self._health.commit_errors(), self._database.atomic():
            if rows:
                self._partitions.cover(min(row.received_at for row in rows))
                self._partitions.cover(max(row.received_at for row in rows))
                with driver_errors:
                    known = store_reports(self._database.connection(), rows).known
                    differing = [place for place, digest in known.items() if digest != rows[place].digest]
                    if otherwise := [place for place in differing if place in whole]:
                        raise StoredOtherwise(otherwise)
                    found = self._database.connection().execute(_GENERATION, (HISTORY,)).fetchall()
                generation = found[0][0] or None if found else None
            if letters:
                self._statements.execute_many("dead_letters.insert", letters)
        self.generation, self._may_be_rolled_back = generation, False
        return known

    def store_each(self, rows: Sequence[ThreatRow]) -> tuple[dict[int, bytes], list[int]]:
        """Store the reports of a rejected batch one by one; return what `store` does, and the places of those refused.

        Raises:
            StoreUnavailable: the database cannot commit; what was stored is known then.
        """
        known: dict[int, bytes] = {}
        refused: list[int] = []
        for place, row in enumerate(rows):
            try:
                found = self.store([row], [])
            except StoreRejected:
                refused.append(place)
            else:
                for digest in found.values():
                    known[place] = digest
        return known, refused

    def notify(self) -> None:
        """Wake the leader, which would look by itself within a second."""
        try:
            with self._health.errors("notify"), driver_errors:
                self._database.connection().execute(_NOTIFY, prepare=False)  # several statements
        except StoreUnavailable:
            return
