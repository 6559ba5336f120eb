"""What the engine needs of the world: a store that commits, and a courier that publishes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from manager.domain.agent import Agent
from manager.domain.policies import Scope, Sections
from manager.domain.tokens import Token
from manager.engine.batch import Changes, Publication


@dataclass(frozen=True, slots=True)
class StoredPolicy:
    """An agent's effective policy as the store kept it: enough to see whether it still holds."""

    agent_id: str
    version: int
    digest: str
    updated_at: float
    published: bool


@dataclass(slots=True)
class Snapshot:
    """All that the engine keeps in memory, as the store has it at the start."""

    agents: list[Agent] = field(default_factory=list)
    highest_agent_number: int = 0
    tokens: list[Token] = field(default_factory=list)
    revision: int = 0
    documents: Mapping[Scope, Sections] = field(default_factory=dict)
    policies: list[StoredPolicy] = field(default_factory=list)


class Store(Protocol):
    """Where everything is kept. Only the engine's thread calls it."""

    def load(self) -> Snapshot:
        """Return what was kept."""
        ...

    def known_reports(self, keys: Sequence[tuple[int, str]]) -> dict[tuple[int, str], bytes]:
        """Return the content digests of those (agent number, threat id) that were ever stored.

        Raises:
            StoreUnavailable: it cannot be read just now.
        """
        ...

    def commit(self, changes: Changes) -> None:
        """Write all changes in one transaction, on disk when this returns.

        Raises:
            StoreUnavailable: nothing was written; the same changes may be committed again.
            StoreRejected: nothing was written, and never will be: something in the changes does not fit.
        """
        ...

    def prune(self, threats_before: float, ids_before: float, limit: int) -> int:
        """Delete at most `limit` threats received before a time, keeping their ids, and as many older ids.

        Returns:
            How many rows were deleted.

        Raises:
            StoreUnavailable: nothing was deleted.
        """
        ...


class Courier(Protocol):
    """Who carries publications to the broker."""

    @property
    def ready(self) -> bool:
        """Whether the broker is connected; what is published while it is not is lost."""
        ...

    @property
    def backlog(self) -> int:
        """How many publications the broker has not confirmed yet."""
        ...

    def publish(self, publication: Publication) -> None:
        """Hand a message to the broker."""
        ...
