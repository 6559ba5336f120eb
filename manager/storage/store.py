"""The writer: loads what the engine keeps in memory, and commits each batch in one transaction."""

import json
from collections.abc import Iterable, Sequence
from typing import Any, cast

from peewee import (  # type: ignore[attr-defined]  # the stubs leave the wrapper out that playhouse uses
    Database,
    DatabaseError,
    InterfaceError,
    OperationalError,
    __exception_wrapper__,
)

from manager.domain.agents.registry import RemovedAgent
from manager.domain.policies.fleet_policies import Revision, Scope, Sections
from manager.engine.batch import Changes
from manager.engine.ports import Snapshot, StoredPolicy
from manager.errors import StoreRejected, StoreUnavailable
from manager.storage.archive import StoredArchive
from manager.storage.projections.projections import Projections
from manager.storage.projections.threat_counts import AGENTS, KINDS, SOURCES, OldSources, ThreatCounts
from manager.storage.responses import Responses
from manager.storage.rows import COLUMNS, TOKEN_COLUMNS, AgentRows, Seal, TokenRows
from manager.storage.threat_index import slices
from manager.storage.threat_index.bitmaps import SLICE
from manager.storage.threat_index.slices import ThreatSlices

DEAD_LETTERS_KEPT = 1000

_ONCE = " ON CONFLICT DO NOTHING"
"""A batch that was written in part may be committed again."""

_DEPARTURES = (
    "SELECT organization_id, hostname, stamp_sent_at, stamp_digest, removed_at FROM agent "
    "WHERE removed_at IS NOT NULL AND stamp_digest IS NOT NULL ORDER BY removed_at"
)

_KNOWN = " UNION ALL ".join(
    "SELECT agent_number, threat_id, digest "
    f"FROM json_each({{0}}) AS wanted CROSS JOIN {table} WHERE threat_id = wanted.value"
    for table in ("threat", "stored_id")
)
"""One parameter, so that the statement is compiled once; CROSS JOIN, so that the index is used."""

_THREAT = (
    "agent_number", "threat_id", "digest", "event_time", "received_at", "time_known", "type", "severity", "confidence",
    "technique", "source_ip", "file_hash", "document",
)  # fmt: skip
_POLICY = ("agent_number", "version", "digest", "updated_at", "published")


class PeeweeStore:
    """The store over peewee. Rows go in by `executemany` on its connection: building queries row by row costs most.

    Args:
        database: an open, migrated database that no one else writes to.
        store_key: what the secrets of agents and tokens are encrypted with.
        piece: how many threats counts and slices take in at a time, at most `marks.SLICE`.
    """

    def __init__(self, database: Database, store_key: bytes, piece: int = SLICE) -> None:
        self._database = database
        seal = Seal(store_key)
        self._rows = AgentRows(seal)
        self._tokens = TokenRows(seal)
        self._agent_sql = self._upsert("agent", COLUMNS, "number")
        self._policy_sql = self._upsert("agent_policy", _POLICY, "agent_number")
        self._token_sql = self._upsert("enrollment_token", TOKEN_COLUMNS, "token_id")
        self._threat_sql = self._insert("threat", _THREAT) + _ONCE
        counts = {each.name: ThreatCounts(database, each) for each in (KINDS, AGENTS, SOURCES)}
        self._counts = counts.values()
        self._old_sources = OldSources(database)
        self._slices = ThreatSlices(database, self._many)
        self._followers = Projections(
            database,
            {name: each.write for name, each in counts.items()},
            {slices.NAME: self._slices.write},
            piece,
        )
        self._archive = StoredArchive(database, self._many)
        self.responses = Responses(database, self._many)
        self._meta_sql = self._upsert("meta", ("key", "value"), "key")

    @property
    def archive(self) -> StoredArchive:
        """Incidents and the reports behind them."""
        return self._archive

    def load(self) -> Snapshot:
        """Return all that is kept in memory."""
        rows = self._database.execute_sql(
            f"SELECT {', '.join(COLUMNS)} FROM agent WHERE removed_at IS NULL ORDER BY number"
        )
        agents = [self._rows.agent(row) for row in rows]
        ids = {agent.number: agent.agent_id for agent in agents}
        policies = self._all(f"SELECT {', '.join(_POLICY)} FROM agent_policy")
        tokens = self._all(f"SELECT {', '.join(TOKEN_COLUMNS)} FROM enrollment_token")
        meta = dict(self._all("SELECT key, value FROM meta"))
        revision = meta.get("fleet_revision")
        return Snapshot(
            agents=agents,
            removed_agents=[
                (organization_id, hostname, RemovedAgent(sent_at, bytes(digest), removed_at))
                for organization_id, hostname, sent_at, digest, removed_at in self._all(_DEPARTURES)
            ],
            highest_agent_number=self._all("SELECT coalesce(max(number), 0) FROM agent")[0][0],
            tokens=[self._tokens.token(row) for row in tokens],
            revision=int(revision) if revision else 0,
            documents=self._documents(),
            entries=self.responses.entries(),
            responses=self.responses.responses(),
            meta=meta,
            policies=[
                StoredPolicy(ids[number], version, digest, updated_at, bool(published))
                for number, version, digest, updated_at, published in policies
                if number in ids
            ],
        )

    def meta(self, key: str) -> str | None:
        """Return a single value that outlives a restart."""
        found = self._all(f"SELECT value FROM meta WHERE key = {self._database.param}", (key,))
        return cast("str", found[0][0]) if found else None

    def set_meta(self, key: str, value: str) -> None:
        """Keep a single value; committed when this returns."""
        with self._database.atomic():
            self._database.execute_sql(self._meta_sql, (key, value))

    def known_reports(self, keys: Sequence[tuple[int, str]]) -> dict[tuple[int, str], bytes]:
        """Return the content digests of those (agent number, threat id) that were ever stored.

        Raises:
            StoreUnavailable: the database cannot be read just now.
        """
        if not keys:
            return {}
        wanted = set(keys)
        ids = json.dumps([threat_id for _, threat_id in keys])
        try:
            rows = self._all(_KNOWN.format(self._database.param), (ids, ids))
        except (DatabaseError, InterfaceError) as error:
            raise StoreUnavailable(f"the store cannot be read: {error}") from error
        return {(row[0], row[1]): bytes(row[2]) for row in rows if (row[0], row[1]) in wanted}

    def commit(self, changes: Changes) -> None:
        """Write all changes in one transaction, on disk when this returns.

        Raises:
            StoreUnavailable: nothing was written.
        """
        try:
            with self._database.atomic():
                self._write(changes)
                self._followers.follow(len(changes.threats))
        except (OperationalError, InterfaceError) as error:
            raise StoreUnavailable(f"the store cannot commit: {_first(error)}") from error
        except (DatabaseError, ValueError, OverflowError) as error:
            raise StoreRejected(f"the store does not take it: {error}") from error

    def prune(self, threats_before: float, ids_before: float, limit: int) -> int:
        """Delete at most `limit` threats received before a time, keeping their ids, and as many older ids.

        Raises:
            StoreUnavailable: nothing was deleted.
        """
        param = self._database.param
        try:
            with self._database.atomic():
                gone = self._prune_counts(limit) + self._prune_threats(threats_before, limit)
                self._archive.prune(threats_before)
                self.responses.prune()
                gone += self._database.execute_sql(
                    f"DELETE FROM stored_id WHERE received_at < {param}", (ids_before,)
                ).rowcount
        except (DatabaseError, InterfaceError) as error:
            raise StoreUnavailable(f"the store cannot prune: {error}") from error
        return int(gone)

    def close(self) -> None:
        """Close the connection."""
        self._database.close()

    def _prune_threats(self, before: float, limit: int) -> int:
        """Threats are stored in the order of their receipt: the oldest come first."""
        param = self._database.param
        oldest = self._all(f"SELECT sequence, received_at FROM threat ORDER BY sequence LIMIT {param}", (limit,))
        last = max((sequence for sequence, received_at in oldest if received_at < before), default=None)
        if last is None:
            return 0
        self._database.execute_sql(
            "INSERT INTO stored_id (agent_number, threat_id, digest, received_at) "
            f"SELECT agent_number, threat_id, digest, received_at FROM threat WHERE sequence <= {param}",
            (last,),
        )
        self._followers.let_go(last)
        self._slices.prune(last)
        gone = self._database.execute_sql(f"DELETE FROM threat WHERE sequence <= {param}", (last,)).rowcount
        self._followers.start_again()
        return int(gone)

    def _prune_counts(self, limit: int) -> int:
        """Counts age by the newest threat: without new ones they stay as they are."""
        newest = self._all("SELECT received_at FROM threat ORDER BY sequence DESC LIMIT 1")
        if not newest:
            return 0
        self._old_sources.prune(newest[0][0])
        return sum(each.prune(newest[0][0], limit) for each in self._counts)

    def _write(self, changes: Changes) -> None:
        """Write in an order in which every row finds what it refers to."""
        if changes.agents:
            self._many(self._agent_sql, [self._rows.row(agent) for agent in changes.agents.values()])
        if changes.threats:
            self._many(self._threat_sql, changes.threats)
        self._archive.write(changes)
        self.responses.write(changes)
        self._write_settings(changes)
        if changes.history:
            self._many(self._insert("agent_history", ("agent_id", "at", "event", "detail")), changes.history)
        if changes.audit:
            self._write_audit(changes)
        if changes.removed:
            self._write_removed(changes)
        if changes.dead_letters:
            self._write_dead_letters(changes)

    def _write_settings(self, changes: Changes) -> None:
        """Write what people set: policies, tokens, single values."""
        if changes.policies:
            self._write_policies(changes)
        for revision in changes.revisions:
            self._write_revision(revision)
        if changes.fleet_revision is not None:
            self._database.execute_sql(self._meta_sql, ("fleet_revision", str(changes.fleet_revision)))
        if changes.tokens:
            self._many(self._token_sql, [self._tokens.row(token) for token in changes.tokens.values()])
        if changes.meta:
            self._many(self._meta_sql, changes.meta.items())

    def _write_policies(self, changes: Changes) -> None:
        numbers = {agent.agent_id: agent.number for agent in changes.agents.values()}
        missing = [agent_id for agent_id in changes.policies if agent_id not in numbers]
        for start in range(0, len(missing), 500):
            chunk = missing[start : start + 500]
            marks = ",".join([self._database.param] * len(chunk))
            rows = self._all(f"SELECT agent_id, number FROM agent WHERE agent_id IN ({marks})", chunk)
            numbers.update(rows)
        self._many(
            self._policy_sql,
            [
                (numbers[policy.agent_id], policy.version, policy.resolved.digest, policy.updated_at, policy.published)
                for policy in changes.policies.values()
                if policy.agent_id in numbers
            ],
        )

    def _write_revision(self, revision: Revision) -> None:
        document = None if revision.document is None else json.dumps(revision.document, ensure_ascii=False)
        self._database.execute_sql(
            self._insert("policy_revision", ("revision", "scope", "document", "at", "author")) + _ONCE,
            (revision.revision, str(revision.scope), document, revision.at, revision.author),
        )

    def _write_removed(self, changes: Changes) -> None:
        param = self._database.param
        for agent in changes.removed:
            self._rows.forget(agent.agent_id)
            self._database.execute_sql(
                "UPDATE agent SET removed_at = "
                f"{param}, keys = NULL, mqtt_digest = NULL, http_digest = NULL, stamp_reply = NULL, "
                f"state = 'removed' WHERE number = {param}",
                (agent.state_since, agent.number),
            )
            self._database.execute_sql(
                f"DELETE FROM agent_policy WHERE agent_number = {param}",
                (agent.number,),
            )

    def _write_audit(self, changes: Changes) -> None:
        columns = ("at", "actor", "action", "target", "address", "request_id", "before", "after")
        rows = [(*entry[:-2], _json_or_null(entry.before), _json_or_null(entry.after)) for entry in changes.audit]
        self._many(self._insert("audit_entry", [f'"{column}"' for column in columns]), rows)

    def _write_dead_letters(self, changes: Changes) -> None:
        columns = ("received_at", "topic", "reason", "size", "payload")
        self._many(self._insert("dead_letter", columns), changes.dead_letters)
        self._database.execute_sql(
            f"DELETE FROM dead_letter WHERE id <= (SELECT max(id) FROM dead_letter) - {self._database.param}",
            (DEAD_LETTERS_KEPT,),
        )

    def _documents(self) -> dict[Scope, Sections]:
        rows = self._all(
            "SELECT scope, document FROM policy_revision AS newest WHERE revision = "
            "(SELECT max(revision) FROM policy_revision WHERE scope = newest.scope) AND document IS NOT NULL"
        )
        return {Scope.parse(scope): json.loads(document) for scope, document in rows}

    def _all(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return cast("list[tuple[Any, ...]]", self._database.execute_sql(sql, params).fetchall())

    def _many(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        with __exception_wrapper__:
            self._database.connection().executemany(sql, rows)

    def _insert(self, table: str, columns: Sequence[str]) -> str:
        marks = ", ".join([self._database.param] * len(columns))
        return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})"

    def _upsert(self, table: str, columns: Sequence[str], key: str) -> str:
        updates = ", ".join(f"{column} = excluded.{column}" for column in columns if column != key)
        return f"{self._insert(table, columns)} ON CONFLICT ({key}) DO UPDATE SET {updates}"


def _json_or_null(state: dict[str, Any] | None) -> str | None:
    return None if state is None else json.dumps(state, ensure_ascii=False)


def _first(error: BaseException) -> BaseException:
    """Return what went wrong first: a full disk ends the transaction, and then there is none to roll back."""
    while error.__context__ is not None:
        error = error.__context__
    return error
