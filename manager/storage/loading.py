"""Loads the state that the engine keeps in memory, at a start or a take-over."""

import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from cryptography.exceptions import InvalidTag

from manager.domain.agents.agent import Agent
from manager.domain.agents.registry import RemovedAgent
from manager.domain.console_sessions import ConsoleSession
from manager.domain.policies.fleet_policies import Scope, Sections, check_shape
from manager.engine.agent_index import AgentIndex
from manager.engine.ports import Snapshot, StoredPolicy
from manager.storage.health import StoreHealth
from manager.storage.responses import StoredResponses
from manager.storage.rows import AgentRows, TokenRows, access_token
from manager.storage.statements import Statements

if TYPE_CHECKING:
    from manager.storage.postgresql.warm_agents import WarmAgents

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StateLoader:
    """Loads the state of a store.

    Attributes:
        statements: The statements of the writer's database.
        health: Reports damage.
        agent_rows: Decodes agents.
        token_rows: Decodes enrollment tokens.
        responses: Reads responses and blocks.
        timeline: Returns the history of the database.
    """

    statements: Statements
    health: StoreHealth
    agent_rows: AgentRows
    token_rows: TokenRows
    responses: StoredResponses
    timeline: Callable[[], str]

    def load(self, warm: "WarmAgents | None") -> Snapshot:
        """Return the stored state.

        Args:
            warm: agents that were read before; of these only what changed since is read.

        Raises:
            InvalidTag: the store key opens none of the secrets in the store.
            StoreDamaged: a row cannot be decoded.
            peewee.DatabaseError, peewee.InterfaceError: the database cannot be read.
        """
        rows = self.statements.rows
        with self.health.content("agent"):
            agents, agents_locked, index = self._agents(warm)
        with self.health.content("enrollment_token"):
            tokens, tokens_locked = _decoded_rows(self.token_rows.to_token, rows("tokens.load"))
        if agents_locked or tokens_locked:
            if not agents and not tokens:
                raise InvalidTag
            table = "agent" if agents_locked else "enrollment_token"
            raise self.health.found(f"a secret in table {table} cannot be decrypted, others can")
        with self.health.content("access_token"):
            access = [access_token(row) for row in rows("access.load")]
        ids = {agent.number: agent.agent_id for agent in agents}
        meta = dict(rows("meta.load"))
        revision = meta.get("fleet_revision")
        digests: dict[str, str] = {}  # shared: most agents have a policy that others have, too
        return Snapshot(
            agents=agents,
            index=index,
            removed_agents=[
                (organization_id, hostname, RemovedAgent(sent_at, bytes(digest), removed_at))
                for organization_id, hostname, sent_at, digest, removed_at in rows("agents.load_removed")
            ],
            highest_agent_number=rows("agents.highest_number")[0][0],
            tokens=tokens,
            access=access,
            sessions=[ConsoleSession(*row) for row in rows("console_sessions.load")],
            revision=int(revision) if revision else 0,
            documents=self._documents(),
            entries=self.responses.entries(ids.values()),
            manual_blocks=self.responses.manual_blocks(),
            responses=self.responses.responses(),
            meta=meta,
            timeline=self.timeline(),
            policies={
                ids[number]: _shared_policy(version, digests.setdefault(digest, digest), updated_at, bool(published))
                for number, version, digest, updated_at, published in self.statements.each("policies.load_effective")
                if number in ids
            },
        )

    def _agents(self, warm: "WarmAgents | None") -> tuple[list[Agent], int, AgentIndex | None]:
        """Return the agents, the number of those whose secret the store key does not decrypt, and their indexes."""
        with suppress(InvalidTag):  # then all are read, and those that do not open are counted
            taken = None if warm is None else warm.take(self.statements)
            if taken is not None:
                return taken.agents, 0, taken.index
        # one row at a time: all of them at once would leave the heap in pieces
        return *_decoded_rows(self.agent_rows.to_agent, self.statements.each("agents.load")), None

    def _documents(self) -> dict[Scope, Sections]:
        rows = self.statements.rows("policies.current_documents")
        with self.health.content("policy_revision"):
            documents: dict[Scope, Sections] = {
                Scope.parse(scope): dict(json.loads(document)) for scope, document in rows
            }
            for scope, document in documents.items():
                check_shape(scope, document)
            return documents


_shared_policy = lru_cache(4096)(StoredPolicy)


def _decoded_rows(decode: Callable[[tuple[Any, ...]], T], rows: Iterable[tuple[Any, ...]]) -> tuple[list[T], int]:
    """Return the decoded rows, and the number of rows whose secret the store key does not decrypt."""
    decoded: list[T] = []
    locked = 0
    for row in rows:
        try:
            decoded.append(decode(row))
        except InvalidTag:
            locked += 1
    return decoded, locked
