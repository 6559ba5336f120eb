"""What the HTTP door needs of the manager: a way to ask the engine, and queries that read the store."""

from collections.abc import Sequence
from typing import Any, Protocol

from manager.domain.policies import Scope

Record = dict[str, Any]
Page = tuple[list[Record], str | None]
"""The records of a page, and the cursor of the next one; None at the end."""


class Door(Protocol):
    """The only way by which a request changes anything."""

    async def submit(self, request: Any) -> Any:
        """Have the engine carry out one of `manager.engine.commands` and return its answer, once it is committed.

        Raises:
            ManagerError: what the engine refused it with, or StoreUnavailable if it cannot commit just now.
        """
        ...


class Queries(Protocol):
    """What can be read, as records in the wire's words; lists come in pages. Called in threads of the door's own."""

    def agents(
        self,
        *,
        status: str | None = None,
        organization_id: str | None = None,
        tags: Sequence[str] = (),
        hostname: str | None = None,
        limit: int,
        cursor: str | None = None,
    ) -> Page:
        """Return agents in the order in which they first registered."""
        ...

    def agent(self, agent_id: str) -> Record | None:
        """Return one agent with its newest threats."""
        ...

    def agent_counts(self) -> dict[str, int]:
        """Return how many agents are in each state, and of all as `total`."""
        ...

    def overview(self, now: float) -> Record:
        """Return the fleet at a glance."""
        ...

    def threats(
        self,
        *,
        since: float | None = None,
        severity: str | None = None,
        type_: str | None = None,
        organization_id: str | None = None,
        agent_id: str | None = None,
        limit: int,
        cursor: str | None = None,
    ) -> Page:
        """Return threats, the last stored first."""
        ...

    def policy_document(self, scope: Scope) -> Record | None:
        """Return the newest revision of a scope."""
        ...

    def policy_history(self, *, limit: int, cursor: str | None = None) -> Page:
        """Return every change of the fleet's policies, newest first."""
        ...

    def tokens(self, *, limit: int, cursor: str | None = None) -> Page:
        """Return enrollment tokens without their secrets, newest first."""
        ...

    def dead_letters(self, *, limit: int, cursor: str | None = None) -> Page:
        """Return messages that changed nothing, newest first."""
        ...
