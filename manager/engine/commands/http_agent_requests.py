"""Requests of HTTP agents: the values that commands carry into the inbox, and their answers."""

from dataclasses import dataclass
from typing import Any, ClassVar

from manager.domain.agents.host import Host
from manager.domain.http_reports import PreparedReport
from manager.engine.commands.requests import AgentPolicy
from schemas.fast_http_heartbeats import AnyHttpHeartbeat
from schemas.generations import StoreGeneration
from schemas.keys import EnrollmentToken

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class RegisterAgent:
    """Register an agent. Answered by `Registered`, `TokenRefused` or `EnrollmentLimited`.

    Raises Conflict if it may not replace another instance.

    Args:
        host: the host as the agent describes it.
        organization_id: the organization that the agent names.
        token: the agent's enrollment token; None if it needs none.
        own_agent_id: the agent whose credential the request proved.
        by_admin: whether the admin token authorized the request, which may then replace an online instance.
        address: the client's address.
        trusted: whether it is on a trusted network. From the address of the known instance it is then a reconnection.
    """

    host: Host
    organization_id: str | None
    token: EnrollmentToken | None = None
    own_agent_id: str | None = None
    by_admin: bool = False
    address: str = ""
    trusted: bool = False


@dataclass(frozen=True, slots=True)
class RecordRefusedRegistration:
    """Record a registration that was refused before its body was read. Answered by None."""

    address: str
    reason: str


@dataclass(frozen=True, slots=True)
class EnrollmentLimited:
    """The token has enrolled its hourly number of new agents; `retry_after` is in seconds."""

    reason: str
    limit: int
    retry_after: float


@dataclass(frozen=True, slots=True)
class Registered:
    """A registered agent; `token` is its HTTP token, which is never shown again."""

    record: Record
    token: str
    is_new: bool


@dataclass(frozen=True, slots=True)
class TokenRefused:
    """A refused enrollment token; `reason` is None if this manager did not issue it."""

    reason: str | None


@dataclass(frozen=True, slots=True)
class RecordHeartbeat:
    """Record a heartbeat. Answered by a `HeartbeatRecorded`; NotFound if there is no such agent.

    `dropped` has an error message for each invalid member, which was ignored. `body` is its JSON, if that has nothing
    else in it. It needs no transaction: its values are written behind, and a later heartbeat replaces them.
    """

    needs_transaction: ClassVar[bool] = False
    agent_id: str
    heartbeat: AnyHttpHeartbeat
    dropped: tuple[str, ...] = ()
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class LearnAgent:
    """Have an ingest worker look an agent up in the database. Answered by None, whether or not there is one."""

    agent_id: str


@dataclass(frozen=True, slots=True)
class HeartbeatRecorded:
    """An agent's record, the policies that it should fetch or apply at once, and the generation of the store.

    `generation` is None while the store asks for no reports again.
    """

    record: Record
    pending: tuple[AgentPolicy, ...]
    generation: StoreGeneration | None = None


@dataclass(frozen=True, slots=True)
class StoreReports:
    """Store reports, all or none. Answered by a `Submission`; NotFound if there is no such agent.

    `sent_at` (of our guards) and `reported_at` are the agent's own time at sending, in seconds since 1970; event time
    follows from them as `http_agents.event_clock` says. `resent` are reports that the agent has receipts for.
    """

    agent_id: str
    reports: tuple[PreparedReport, ...]
    sent_at: float | None = None
    reported_at: float | None = None
    resent: bool = False

    @property
    def weight(self) -> int:
        """The number of messages that the request counts for in a batch: one for each report."""
        return max(1, len(self.reports))


@dataclass(frozen=True, slots=True)
class PollPolicy:
    """Poll an agent's policy. Answered by an `AgentPolicy`; NotFound if there is no such agent.

    `versions` are those that the agent has; if the newest is among them, the document in the answer is empty.
    """

    agent_id: str
    versions: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class CreatePolicy:
    """Replace a scope's rules. Answered by a `PolicyCreated`.

    `organization_id` and `agent_id` name the scope; with neither it is global.
    """

    rules: tuple[Record, ...]
    name: str | None
    description: str | None
    organization_id: str | None
    agent_id: str | None
    author: str


@dataclass(frozen=True, slots=True)
class PolicyCreated:
    """The fleet's revision, the agents in the scope, and the number of those with a new effective policy."""

    revision: int
    created_at: float
    agent_ids: tuple[str, ...]
    changed: int
