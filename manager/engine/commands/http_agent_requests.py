"""What HTTP agents ask of the engine: values that go into the inbox beside the messages."""

from dataclasses import dataclass
from typing import Any

from manager.domain.agents.agent import Host
from manager.domain.http_reports import PreparedReport
from manager.engine.commands.requests import AgentPolicy
from schemas.http_agents import HttpHeartbeat
from schemas.keys import EnrollmentToken

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class RegisterAgent:
    """Take an agent into the fleet. Answered by `Registered` or `TokenRefused`; Conflict if it may not replace another.

    Args:
        host: what it said of its host.
        organization_id: which organization it named.
        token: the enrollment token that it holds; None if it needs none.
        own_agent_id: which agent it has proved to be already.
        by_admin: whether the admin asks for it, and so may replace a living instance.
    """

    host: Host
    organization_id: str | None
    token: EnrollmentToken | None = None
    own_agent_id: str | None = None
    by_admin: bool = False


@dataclass(frozen=True, slots=True)
class Registered:
    """An agent was taken; `token` is its HTTP token, the only time that it is told."""

    record: Record
    token: str
    is_new: bool


@dataclass(frozen=True, slots=True)
class TokenRefused:
    """An enrollment token lets nobody in: `reason` says why, and is None if it is no token of this manager."""

    reason: str | None


@dataclass(frozen=True, slots=True)
class TakeHeartbeat:
    """Hear an agent. Answered by a `HeartbeatTaken`; NotFound if there is no such agent."""

    agent_id: str
    heartbeat: HttpHeartbeat


@dataclass(frozen=True, slots=True)
class HeartbeatTaken:
    """An agent's record, and the policies that it should fetch or take at once."""

    record: Record
    pending: tuple[AgentPolicy, ...]


@dataclass(frozen=True, slots=True)
class TakeReports:
    """Store threats, all or none. Answered by a `ReportsTaken`; NotFound if there is no such agent.

    `sent_at` is the agent's own time at sending, in seconds since 1970; without it the threats count at receipt.
    """

    agent_id: str
    reports: tuple[PreparedReport, ...]
    sent_at: float | None = None


@dataclass(frozen=True, slots=True)
class PollPolicy:
    """An agent asks for its policy. Answered by an `AgentPolicy`; NotFound if there is no such agent.

    `versions` are those that it says it has; of one that is still the newest the answer leaves the document empty.
    """

    agent_id: str
    versions: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class CreatePolicy:
    """Replace a scope's rules, as earlier admin tools set policies. Answered by a `PolicyCreated`.

    `organization_id` and `agent_id` name the scope; with neither it is the whole fleet.
    """

    rules: tuple[Record, ...]
    name: str | None
    description: str | None
    organization_id: str | None
    agent_id: str | None
    author: str


@dataclass(frozen=True, slots=True)
class PolicyCreated:
    """The fleet's revision since, the agents that the rules are for, and how many of them got another policy by it."""

    revision: int
    created_at: float
    agent_ids: tuple[str, ...]
    changed: int
