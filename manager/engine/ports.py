"""What the engine needs of the world: a store that commits, and a publisher that publishes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from manager.domain.agents.agent import Agent
from manager.domain.agents.registry import RemovedAgent
from manager.domain.agents.tokens import Token
from manager.domain.correlation import History, Incident, Report
from manager.domain.policies.fleet_policies import Revision, Scope, Sections
from manager.domain.response import EmergencyEntry, Response
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
    removed_agents: list[tuple[str, str, RemovedAgent]] = field(default_factory=list)
    """Organization, hostname and removed of the agents that were removed, oldest first."""
    highest_agent_number: int = 0
    tokens: list[Token] = field(default_factory=list)
    revision: int = 0
    documents: Mapping[Scope, Sections] = field(default_factory=dict)
    policies: list[StoredPolicy] = field(default_factory=list)
    entries: list[EmergencyEntry] = field(default_factory=list)
    responses: list[Response] = field(default_factory=list)
    meta: Mapping[str, str] = field(default_factory=dict)


class Archive(History, Protocol):
    """What the store knows of incidents and of the reports behind them."""

    def live(self, since: float) -> Iterable[Incident]:
        """Return the unmerged incidents that are open or were last seen since a time."""
        ...

    def find(self, incident_id: str) -> Incident | None:
        """Return an incident by its id.

        Raises:
            StoreUnavailable: the store cannot be read just now.
        """
        ...

    def revisions(self) -> Iterable[Revision]:
        """Return every change of the fleet's policies, oldest first."""
        ...

    def recent(self, since: float) -> Iterable[Report]:
        """Return the reports with event times since a time."""
        ...

    def telling(self, since: float) -> Iterable[tuple[str, str | None, str, float, dict[str, Any]]]:
        """Return what reports since a time said of logins and paths: organization, site, agent, receipt, evidence."""
        ...


class Store(Protocol):
    """Where everything is kept. Only the engine's thread calls it."""

    @property
    def archive(self) -> Archive:
        """Incidents and the reports behind them, for what memory does not hold."""
        ...

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


class BrokerAccess(Protocol):
    """Who tells the broker which agents it lets in. What it cannot tell just now it makes good at `connected`."""

    @property
    def room(self) -> int | None:
        """How many more agents the broker can be told of before it has caught up; None for as many as there are."""
        ...

    def admit(self, agent: Agent, *, replaced: bool) -> None:
        """Let an agent in under its new credential; where it `replaced` another, that one's connections end."""
        ...

    def expel(self, agent_id: str) -> None:
        """Let an agent in no more, and end its connections at once."""
        ...

    def suspend(self, agent_id: str) -> None:
        """Let an agent in no more until `resume`, and end its connections at once."""
        ...

    def resume(self, agent_id: str) -> None:
        """Let an agent in again."""
        ...

    def connected(self) -> None:
        """The broker is there: it is made to agree with the fleet."""
        ...


class Publisher(Protocol):
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
