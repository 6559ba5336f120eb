"""Ports of the engine: the store, the publisher, the access control of the broker, and what the connection tells."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeAlias

from manager.domain.access import AccessToken
from manager.domain.agents.agent import Agent, RegistrationStamp
from manager.domain.agents.registry import RemovedAgent
from manager.domain.agents.tokens import Token
from manager.domain.console_sessions import ConsoleSession
from manager.domain.correlation import History, Incident, Indicator, Span
from manager.domain.instant import Instant
from manager.domain.policies.fleet_policies import Revision, Scope, Sections
from manager.domain.response import EmergencyEntry, Response
from manager.domain.response.evidence_index import Observed
from manager.domain.response.manual_blocks import ManualBlock
from manager.engine.agent_index import AgentIndex
from manager.engine.batch import Changes, Publication, Recognition, ThreatRow


@dataclass(frozen=True, slots=True)
class StoredPolicy:
    """An agent's effective policy as stored: version and digest, without the sections."""

    version: int
    digest: str
    updated_at: float
    published: bool


@dataclass(slots=True)
class Snapshot:
    """The stored state that the engine loads into memory at its start."""

    agents: list[Agent] = field(default_factory=list)
    removed_agents: list[tuple[str, str, RemovedAgent]] = field(default_factory=list)
    """Organization, hostname and last registration of removed agents, oldest first."""
    highest_agent_number: int = 0
    tokens: list[Token] = field(default_factory=list)
    access: list[AccessToken] = field(default_factory=list)
    sessions: list[ConsoleSession] = field(default_factory=list)
    revision: int = 0
    documents: Mapping[Scope, Sections] = field(default_factory=dict)
    policies: dict[str, StoredPolicy] = field(default_factory=dict)
    """Effective policies by agent id; agents whose policies changed together share one object."""
    entries: list[EmergencyEntry] = field(default_factory=list)
    manual_blocks: list[ManualBlock] = field(default_factory=list)
    responses: list[Response] = field(default_factory=list)
    meta: Mapping[str, str] = field(default_factory=dict)
    timeline: str = ""
    """The history of the database: another one after a fail-over; empty where there is but one."""
    index: AgentIndex | None = field(default=None, compare=False)
    """The indexes of exactly these agents, if they were built before."""


class StoreSizes(NamedTuple):
    """Numbers of stored threats, and of stored ids of deleted threats."""

    threats: int
    ids: int


class Pruned(NamedTuple):
    """Numbers of deleted threats, of deleted ids, and of all other deleted rows."""

    threats: int
    ids: int
    other: int


@dataclass(frozen=True, slots=True)
class PruneOrder:
    """The rows that may be deleted in one transaction. Times are in seconds since 1970.

    Attributes:
        now: The current time.
        threats_before: Threats received before this time, and incidents last seen before it.
        ids_before: Ids of deleted threats that were received before this time.
        history_before: Changes of agents' states before this time.
        audit_before: Audit entries before this time.
        measures_before: Reported measures received before this time, and logins and lifts before it.
        removed_before: Agents that were removed before this time.
        threats: The maximum number of threats.
        ids: The maximum number of ids.
        rows: The maximum number of rows of each other table.
        vitals_before: Vitals over time before this time.
        partition_threats: The maximum number of threats in partitions that are dropped as a whole, where there are any.
    """

    now: float
    threats_before: float
    ids_before: float
    history_before: float
    audit_before: float
    measures_before: float
    removed_before: float
    threats: int
    ids: int
    rows: int
    vitals_before: float = 0.0
    partition_threats: int = 0


class WaitingReports(NamedTuple):
    """Reports that other processes stored and the leader has not decided on, in the order of storing.

    Attributes:
        rows: Each with its sequence.
        ranges: The ranges of sequences, both ends included, in which there are no others.
    """

    rows: list[tuple[int, ThreatRow]]
    ranges: list[tuple[int, int]]


class Archive(History, Protocol):
    """Read access to stored incidents and the reports behind them."""

    def live(self, since: float) -> Iterable[Incident]:
        """Return the unmerged incidents that are open or were last seen since a time."""
        ...

    def responding(self, closed_since: float) -> Iterable[Incident]:
        """Return, without their members, the incidents that are open or closed since a time."""
        ...

    def find(self, incident_id: str) -> Incident | None:
        """Return an incident by its id.

        Raises:
            StoreUnavailable: the store cannot be read just now.
        """
        ...

    def response(self, incident_id: str) -> Response | None:
        """Return the response of an incident, also one that is not remembered any more.

        Raises:
            StoreUnavailable: the store cannot be read just now.
        """
        ...

    def recognition(self, threat_id: str, agent_id: str) -> Recognition | None:
        """Return who recognized a threat of an agent, and when."""
        ...

    def work_counts(self, incident_id: str) -> tuple[int, int]:
        """Return the number of entries of people's work on an incident, and of those with a note.

        Raises:
            StoreUnavailable: the store cannot be read just now.
        """
        ...

    def expect(self, rows: Sequence[ThreatRow], missing: Callable[[], Iterable[Span]]) -> None:
        """Note the reports that are correlated next, before the next commit: their values are looked up together.

        Args:
            rows: the reports.
            missing: returns the history that the correlator will ask for, in about this order.
        """
        ...

    def stamp(self, agent_number: int) -> RegistrationStamp | None:
        """Return the newest registration of an agent.

        Raises:
            StoreUnavailable: the store cannot be read just now.
        """
        ...

    def sources(self, agent_number: int) -> str:
        """Return the JSON of an agent's newest source reports.

        Raises:
            StoreUnavailable: the store cannot be read just now.
        """
        ...

    def revisions(self) -> Iterable[Revision]:
        """Return every policy revision, oldest first."""
        ...

    def follow_clock(self, seconds: float) -> tuple[str, str]:
        """Read all stored reports as from before a step of the clock; return the key and the value to store.

        Raises:
            StoreUnavailable: the store cannot be read just now.
        """
        ...

    def evidence(self) -> Iterable[tuple[Indicator, Observed]]:
        """Return the evidence of the never-block rules, the least recently renewed first."""
        ...


CommitWork: TypeAlias = Callable[[Callable[[], bool]], None]
"""Work beside a commit; called with a function that returns whether the commit is over. It does not raise errors, and
touches neither the store nor what the batch decided."""


class Store(Protocol):
    """The durable state. Only the engine's thread calls it."""

    @property
    def archive(self) -> Archive:
        """Stored incidents and reports, for data that is not in memory."""
        ...

    def load(self) -> Snapshot:
        """Return the stored state."""
        ...

    def known_reports(self, keys: Sequence[tuple[int, str]]) -> dict[tuple[int, str], bytes]:
        """Return the content digests of the given (agent number, threat id) pairs that are known as stored.

        Raises:
            StoreUnavailable: the store cannot be read just now.
        """
        ...

    def waiting_reports(self, limit: int) -> WaitingReports:
        """Return at most `limit` reports that other processes stored and no commit has decided on.

        Raises:
            StoreUnavailable: the store cannot be read just now.
        """
        ...

    def begin(self) -> None:
        """Begin the transaction of the next `commit` and acquire the write lock.

        Raises:
            StoreUnavailable: the store cannot commit just now.
        """
        ...

    def abandon(self) -> None:
        """End the transaction that `begin` opened, with nothing written in it; without one, do nothing."""
        ...

    def work_beside_commits(self, work: CommitWork) -> None:
        """Have some work done, in the caller's thread, while another thread makes a large commit durable.

        A store whose commits use no other thread does not call it.
        """
        ...

    def commit(self, changes: Changes) -> None:
        """Write all changes in one transaction, durable when this returns.

        It ends the transaction that `begin` opened, also after an error.

        Raises:
            StoreUnavailable: nothing was written; the same changes may be committed again.
            StoreRejected: nothing was written; a value in the changes does not fit the tables.
        """
        ...

    def sizes(self) -> StoreSizes:
        """Return the number of rows whose deletion is limited by the hour.

        Raises:
            StoreUnavailable: the store cannot be read.
        """
        ...

    def prune(self, order: PruneOrder) -> Pruned:
        """Delete expired rows, keeping the ids of deleted threats; return the number of deleted rows.

        Raises:
            StoreUnavailable: nothing was deleted.
        """
        ...


class BrokerAccess(Protocol):
    """Access control of the broker. A change that cannot be applied now is applied at `connected`."""

    @property
    def room(self) -> int | None:
        """The number of registrations that the broker's access control can absorb now; None for no limit."""
        ...

    def admit(self, agent: Agent, *, replaced: bool) -> None:
        """Accept an agent's new credential; if it `replaced` another one, end the connections made with the old one."""
        ...

    def expel(self, agent_id: str) -> None:
        """Reject an agent from now on, and end its connections at once."""
        ...

    def suspend(self, agent_id: str) -> None:
        """Reject an agent until `resume`, and end its connections at once."""
        ...

    def resume(self, agent_id: str) -> None:
        """Accept a suspended agent again."""
        ...

    def connected(self) -> None:
        """Synchronize the broker's access control with the fleet, after a connect."""
        ...


class Publisher(Protocol):
    """Sends publications to the broker."""

    @property
    def ready(self) -> bool:
        """Whether the broker is connected; publications made without a connection are lost."""
        ...

    @property
    def backlog(self) -> int:
        """The number of publications that the broker has not confirmed yet."""
        ...

    def publish(self, publication: Publication) -> None:
        """Send a message to the broker."""
        ...


class ConnectionListener(Protocol):
    """Receives changes of the connection: the engine."""

    def connected(self, now: Instant, *, fresh: bool) -> None:
        """The broker is connected; `fresh` if it has no stored session of this manager."""
        ...

    def disconnected(self) -> None:
        """The connection to the broker is lost."""
        ...
