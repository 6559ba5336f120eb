"""The writer: loads the engine's state and commits each batch in one transaction."""

import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, cast

import msgspec
from peewee import Database

from manager.domain.agents.agent import STAMP_IN_STORE
from manager.domain.policies.fleet_policies import Revision
from manager.engine.batch import Changes
from manager.engine.ports import CommitWork, Pruned, PruneOrder, Snapshot, StoreSizes, WaitingReports
from manager.errors import StoreRejected, StoreUnavailable
from manager.storage.agent_figures import AgentFigures
from manager.storage.archive import StoredArchive
from manager.storage.backends import Fence, backend_for
from manager.storage.events import EVENTS_KEPT, StoredEvents
from manager.storage.hand_over import HandOver, InsertedThreats
from manager.storage.health import StoreHealth
from manager.storage.loading import StateLoader
from manager.storage.location import location_of
from manager.storage.notifications import StoredNotifications
from manager.storage.projections.agent_organizations import AgentOrganizations
from manager.storage.projections.last_reports import LastReports
from manager.storage.projections.projections import REMEMBERED, Projections
from manager.storage.projections.threat_counts import AGENTS, KINDS, SOURCES, ThreatCounts
from manager.storage.protection import StoredProtection
from manager.storage.pruning import DEAD_LETTERS_KEPT, Pruner
from manager.storage.responses import StoredResponses
from manager.storage.rows import AgentRows, SecretCipher, TokenRows, access_row, stated_row, vitals_row
from manager.storage.running_figures import RunningFigures
from manager.storage.sealed_values import SealedValues
from manager.storage.statements import Statements, system_of
from manager.storage.threat_index import indexer
from manager.storage.threat_index.bitmaps import SLICE
from manager.storage.threat_index.indexer import ThreatIndexer

if TYPE_CHECKING:
    from manager.storage.postgresql.warm_agents import WarmAgents


class PeeweeStore:
    """The store on a peewee database; only the engine's thread uses it.

    Args:
        database: open and migrated, without another writer.
        store_key: encrypts the secrets of agents and tokens, 32 bytes.
        piece: the number of threats that a projection processes at a time, at most `bitmaps.SLICE`.
        health: records damage; nothing is written to a damaged store.
        events_kept: the number of events that are kept.
        remembered: the number of stored threats that projections keep in memory.
        fence: raises an error if this process may not write any more; called at the beginning of each transaction.
        threat_retention: seconds that threats are kept; a partition of PostgreSQL has about a 24th of them; 0 for none.
    """

    def __init__(
        self,
        database: Database,
        store_key: bytes,
        piece: int = SLICE,
        health: StoreHealth | None = None,
        *,
        events_kept: int = EVENTS_KEPT,
        remembered: int = REMEMBERED,
        fence: Fence | None = None,
        threat_retention: float = 0.0,
    ) -> None:
        self._database = database
        self.health = health or StoreHealth(location_of(database))
        self._statements = statements = Statements(database)
        self._backend = backend_for(database, statements, fence, threat_retention)
        cipher = SecretCipher(store_key)
        self._agents = AgentRows(cipher)
        self._tokens = TokenRows(cipher)
        self._organizations = organizations = AgentOrganizations(statements)
        counts = {each.name: ThreatCounts(statements, each) for each in (KINDS, AGENTS, SOURCES)}
        threat_index = ThreatIndexer(statements, organizations)
        self.figures = RunningFigures(AgentFigures(statements), LastReports(statements))
        """Figures that are kept from one commit to the next."""
        adding = {name: each.add for name, each in counts.items()}
        self._projections = Projections(
            statements,
            adding | {AGENTS.name: self.figures.reporters.after(adding[AGENTS.name])},
            {indexer.NAME: threat_index.add},
            piece,
            remembered,
        )
        self._hand_over = HandOver(statements, enabled=system_of(database) != "sqlite")
        self._archive = StoredArchive(statements, self.health, self._hand_over)
        self._protection = StoredProtection(statements)
        self._pruner = Pruner(
            database,
            statements,
            self._projections,
            counts=counts.values(),
            indexer=threat_index,
            epochs=self._archive.epochs,
            protection=self._protection,
            system=self._backend.retention,
        )
        self._responses = StoredResponses(statements, self.health)
        self._loader = StateLoader(
            statements, self.health, self._agents, self._tokens, self._responses, self._backend.timeline
        )
        self._notifications = StoredNotifications(statements)
        self._events = StoredEvents(statements, events_kept)
        self._begun: ExitStack | None = None
        self._commit_work: CommitWork | None = None
        self.sealed: SealedValues | None = None
        """Seals the manager's own secrets; None where no key file was opened."""

    @property
    def archive(self) -> StoredArchive:
        """The incident tables and the reports behind the incidents."""
        return self._archive

    def load(self, warm: "WarmAgents | None" = None) -> Snapshot:
        """Return the state that the engine keeps in memory.

        Args:
            warm: agents that were read before; of these only what changed since is read, if nobody else writes them.

        Raises:
            InvalidTag: the store key opens none of the secrets in the store.
            StoreDamaged: a row cannot be decoded.
            StoreUnavailable: the database cannot be read.
        """
        self._hand_over.reload()
        with self.health.errors("be read"), self.health.content("meta"):
            snapshot = self._loader.load(warm)
            self.figures.load()
            return snapshot

    def meta(self, key: str) -> str | None:
        """Return a single value that survives a restart."""
        with self.health.errors("be read"):
            found = self._statements.rows("meta.get", (key,))
        return cast("str", found[0][0]) if found else None

    def set_meta(self, key: str, value: str) -> None:
        """Store and commit a single value."""
        with self.health.commit_errors(), self._database.atomic():
            self._statements.execute("meta.upsert", (key, value))

    def known_reports(self, keys: Sequence[tuple[int, str]]) -> dict[tuple[int, str], bytes]:
        """Return the content digests of the given (agent number, threat id) pairs that are known as stored.

        Raises:
            StoreUnavailable: the database cannot be read.
        """
        if not keys:
            return {}
        wanted = set(keys)
        agents, ids = zip(*wanted, strict=True)
        params = {"agents": _json_text(agents), "threat_ids": _json_text(ids)}
        with self.health.errors("be read"):
            rows = self._statements.rows("threats.known", params)
        return {(row[0], row[1]): bytes(row[2]) for row in rows if (row[0], row[1]) in wanted}

    def waiting_reports(self, limit: int) -> WaitingReports:
        """Return at most `limit` reports that other processes stored and no commit has decided on.

        Raises:
            StoreUnavailable: the database cannot be read.
        """
        with self.health.errors("be read"):
            return self._hand_over.waiting(limit)

    def begin(self) -> None:
        """Begin the transaction of the next `commit` and acquire the write lock.

        Raises:
            StoreUnavailable: the write lock cannot be acquired.
        """
        self.health.require_sound()
        transaction = ExitStack()
        with self.health.errors("commit"):
            transaction.enter_context(self._database.transaction("IMMEDIATE"))
        self._begun = transaction

    def abandon(self) -> None:
        """End the transaction that `begin` opened, with nothing written in it; without one, do nothing."""
        transaction, self._begun = self._begun, None
        if transaction is not None:
            with self.health.errors("commit"):
                transaction.close()

    def work_beside_commits(self, work: CommitWork) -> None:
        """Have some work done while another thread makes a large commit durable: with SQLite."""
        self._commit_work = work

    def commit(self, changes: Changes) -> None:
        """Write all changes in one transaction, durable when this returns; the one that `begin` opened, if any.

        Raises:
            StoreUnavailable: nothing was written.
            StoreRejected: nothing was written; a value in the changes does not fit the tables.
        """
        transaction, self._begun = self._begun, None
        numbered = self._events.numbered(changes.events)
        try:
            with numbered, self.health.commit_errors(), self._committed(transaction, len(changes.threats)):
                self._write_once(changes, has_begun=transaction is not None)
        except BaseException as error:
            self._organizations.clear()
            self._projections.forget_recent()
            self._hand_over.end(is_committed=False)
            self.figures.after_failure(is_rolled_back=isinstance(error, StoreRejected))
            raise
        self._hand_over.end(is_committed=True)
        self.figures.after_commit()
        _forget_stored(changes)
        self._backend.after_commit()

    def sizes(self) -> StoreSizes:
        """Return the numbers of threats and of stored ids.

        Raises:
            StoreUnavailable: the database cannot be read.
        """
        with self.health.errors("be read"):
            return self._pruner.sizes()

    def prune(self, order: PruneOrder) -> Pruned:
        """Delete expired rows; return the number of deleted rows.

        Raises:
            StoreUnavailable: nothing was deleted.
        """
        self.health.require_sound()
        self.figures.reporters.hide()
        try:
            with self.health.errors("prune"):
                pruned = self._pruner.prune(order)
        except BaseException:
            self.figures.after_failure(is_rolled_back=False)
            raise
        self.figures.after_commit()
        self._backend.after_commit()
        return pruned

    @contextmanager
    def _committed(self, begun: ExitStack | None, threats: int) -> Iterator[None]:
        """Run a transaction, or the one that has begun, and commit it at the end."""
        transaction: AbstractContextManager[Any] = begun or self._database.atomic()
        with ExitStack() as stack:
            stack.enter_context(transaction)
            yield
            self._backend.commit(stack.close, threats, self._commit_work)

    def _seal(self, name: str, value: bytes) -> None:
        if self.sealed is None:
            raise StoreRejected("no key file seals this store")
        self.sealed.put(name, value)

    def close(self) -> None:
        """Close the database."""
        self._backend.close()

    def _write_once(self, changes: Changes, *, has_begun: bool) -> None:
        """Write all rows and what follows them, unless an earlier commit of the same changes took place."""
        self.health.require_sound()
        if has_begun and not self._backend.is_in_transaction():
            raise StoreUnavailable("the store ended the transaction by itself: an access in it failed")
        if self._backend.has_committed(changes):
            self._events.recall(len(changes.events))
            self._hand_over.reload()
            return
        with self.figures.agents.follow(changes):
            new, last = self._write(changes)
        self._projections.advance(changes.threats, new, last, self._hand_over.up_to)
        self._backend.announce(changes)
        self._backend.mark(changes)
        self.figures.before_commit()

    def _write(self, changes: Changes) -> tuple[int, int]:
        """Write all rows: first removals, which free hostnames for new agents; then referenced rows before others.

        Return the number of threats that the store did not have, and the sequence of the last one.
        """
        write = self._statements.execute_many
        self._organizations.follow(changes.agents.values())
        if changes.removed:
            self._write_removed(changes)
        self._write_agents(changes)
        inserted = self._backend.insert_threats(changes.threats) if changes.threats else InsertedThreats(0, 0, [])
        self._hand_over.write(changes, inserted.ranges)
        self._archive.write(changes)
        self._responses.write(changes)
        self._protection.write(changes)
        self._notifications.write(changes)
        self._write_settings(changes)
        if changes.history:
            write("agents.insert_history", changes.history)
        if changes.events:
            self._events.write(changes.events)
        if changes.audit:
            rows = [(*entry[:-2], _json_or_null(entry.before), _json_or_null(entry.after)) for entry in changes.audit]
            write("audit.insert", rows)
        if changes.dead_letters:
            write("dead_letters.insert", changes.dead_letters)
            self._statements.execute("dead_letters.prune", (DEAD_LETTERS_KEPT,))
        return inserted.new, inserted.last

    def _write_agents(self, changes: Changes) -> None:
        write = self._statements.execute_many
        if changes.agents:
            write("agents.upsert", [self._agents.to_row(agent) for agent in changes.agents.values()])
        if changes.stated:
            write("agents.update_stated", [stated_row(agent) for agent in changes.stated.values()])
        if changes.agents or changes.vitals:
            changed = {**changes.vitals, **changes.agents}
            write("agents.upsert_vitals", [vitals_row(agent) for agent in changed.values()])
        if changes.vitals_history:
            write("agents.add_to_vitals_history", changes.vitals_history)

    def _write_settings(self, changes: Changes) -> None:
        """Write policies, tokens and single values."""
        write = self._statements.execute_many
        if changes.policies:
            write(
                "policies.upsert_effective",
                [
                    (policy.version, policy.resolved.digest, policy.updated_at, policy.published, policy.agent_id)
                    for policy in changes.policies.values()
                ],
            )
        if changes.revisions:
            write("policies.insert_revision", [_revision_row(revision) for revision in changes.revisions])
        if changes.fleet_revision is not None:
            self._statements.execute("meta.upsert", ("fleet_revision", str(changes.fleet_revision)))
        if changes.tokens:
            write("tokens.upsert", [self._tokens.to_row(token) for token in changes.tokens.values()])
        if changes.access:
            write("access.upsert", [access_row(token) for token in changes.access.values()])
        if changes.sessions:
            self._write_sessions(changes)
        if changes.meta:
            write("meta.upsert", changes.meta.items())
        for name, value in changes.sealed.items():
            self._seal(name, value)

    def _write_sessions(self, changes: Changes) -> None:
        """Write the console's sessions, and delete those that have ended."""
        live = [each for each in changes.sessions.values() if each is not None]
        rows = [(each.id, each.token_digest, each.opened_at, each.used_at) for each in live]
        self._statements.execute_many("console_sessions.upsert", rows)
        ended = [(session_id,) for session_id, each in changes.sessions.items() if each is None]
        self._statements.execute_many("console_sessions.delete", ended)

    def _write_removed(self, changes: Changes) -> None:
        for agent in changes.removed:
            self._statements.execute("agents.remove", (agent.state_since, agent.number))
            self._statements.execute("policies.delete_effective", (agent.number,))
            self._statements.execute("agents.delete_vitals", (agent.number,))


def _forget_stored(changes: Changes) -> None:
    """Drop from memory what is seldom looked at and is in the store now."""
    for agent in changes.agents.values():
        agent.credential.is_stored = True
        if agent.stamp is not None:
            agent.stamp = STAMP_IN_STORE
        agent.vitals.sources = None
    for agent in changes.vitals.values():
        agent.vitals.sources = None


def _revision_row(revision: Revision) -> tuple[Any, ...]:
    document = _json_or_null(revision.document)
    return revision.revision, str(revision.scope), document, revision.at, revision.author, revision.message


def _json_text(values: Sequence[int] | Sequence[str]) -> str:
    """Return a list as JSON, in a fifth of the time that `json` takes."""
    return msgspec.json.encode(values).decode()


def _json_or_null(value: Any) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False)
