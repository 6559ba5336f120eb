"""What the HTTP door needs of the manager: a way to ask the engine, and queries that read the store."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from manager.domain.policies.fleet_policies import Scope

Record = dict[str, Any]
Page = tuple[list[Record], str | None]
"""The records of a page, and the cursor of the next one; None at the end."""


class Answer(Protocol):
    """Where the engine's word goes: what a future is, and what stands for one without a task to wait for it."""

    def done(self) -> bool:
        """Return whether nobody waits any more."""
        ...

    def set_result(self, value: Any, /) -> None:
        """Take what the engine answered."""
        ...

    def set_exception(self, error: Exception, /) -> None:
        """Take what the engine refused it with."""
        ...


class Door(Protocol):
    """The only way by which a request changes anything."""

    async def submit(self, request: Any) -> Any:
        """Have the engine carry out a request of `manager.engine.commands`; return its answer after the commit.

        Raises:
            ManagerError: what the engine refused it with, or StoreUnavailable if it cannot commit just now.
        """
        ...

    def ask(self, request: Any, answer: Answer) -> None:
        """Do the same without waiting: `answer` is told, in the thread of the server's loop.

        Raises:
            StoreUnavailable: too many wait for an answer.
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

    def threat_summary(self, *, now: float, period: str, organization_id: str | None = None) -> Record:
        """Return what threatened the fleet, or one organization, within a period that ends now."""
        ...

    def active_policy(self) -> Record | None:
        """Return the fleet's policy as earlier admin tools know it, or None if there is none."""
        ...

    def policy_document(self, scope: Scope) -> Record | None:
        """Return the newest revision of a scope."""
        ...

    def policy_history(self, *, limit: int, cursor: str | None = None) -> Page:
        """Return every change of the fleet's policies, newest first."""
        ...

    def policy_documents(self, *, limit: int, cursor: str | None = None) -> Page:
        """Return the documents that scopes have now, the last set first."""
        ...

    def policy_differences(self, before: int, after: int | None = None) -> list[Record]:
        """Return what differs between the documents of two revisions, the newest one for None."""
        ...

    def hostnames(self, agent_ids: Sequence[str]) -> dict[str, str]:
        """Return the hostnames of agents."""
        ...

    def incidents(
        self,
        *,
        is_open: bool | None = None,
        kind: str | None = None,
        organization_id: str | None = None,
        response: str | None = None,
        chronic: bool | None = None,
        merged: bool | None = None,
        since: float | None = None,
        limit: int,
        cursor: str | None = None,
    ) -> Page:
        """Return incidents, the last opened first."""
        ...

    def incident(self, incident_id: str) -> Record | None:
        """Return one incident with its members and entries."""
        ...

    def blocks(
        self,
        *,
        after: float,
        kind: str | None = None,
        organization_id: str | None = None,
        target: str | None = None,
        incident_id: str | None = None,
        limit: int,
        cursor: str | None = None,
    ) -> Page:
        """Return what incidents have put in force beyond a time, newest first."""
        ...

    def tokens(self, *, limit: int, cursor: str | None = None) -> Page:
        """Return enrollment tokens without their secrets, newest first."""
        ...

    def dead_letters(self, *, limit: int, cursor: str | None = None) -> Page:
        """Return messages that changed nothing, newest first."""
        ...

    def audit(
        self,
        *,
        since: float | None = None,
        actor: str | None = None,
        action: str | None = None,
        target: str | None = None,
        limit: int,
        cursor: str | None = None,
    ) -> Page:
        """Return who changed what, newest first; `since` is in seconds since 1970."""
        ...


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure for Prometheus: `kind` is gauge or counter; a line for each set of labels."""

    name: str
    about: str
    kind: Literal["gauge", "counter"]
    lines: Sequence[tuple[Mapping[str, str], float]]


@dataclass(frozen=True, slots=True)
class Spread:
    """How a figure was spread: observations up to each bound, their number and their sum."""

    name: str
    about: str
    buckets: Sequence[tuple[float, int]]
    total: float


class Measurements(Protocol):
    """What is measured in the manager beyond the HTTP door; called in threads of the door's own."""

    def read(self) -> Sequence[Measure | Spread]:
        """Return the figures of this moment."""
        ...
