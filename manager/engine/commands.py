"""What people and legacy agents ask of the engine: values that go into the inbox beside the messages."""

from dataclasses import dataclass

from manager.domain.policies import Scope, Sections


@dataclass(frozen=True, slots=True)
class SetPolicy:
    """Give a scope a policy document, or take it away with None. Answered by a `PolicySet`."""

    scope: Scope
    document: Sections | None
    author: str


@dataclass(frozen=True, slots=True)
class PolicySet:
    """A policy document was taken: the fleet's revision since, and how many agents got a new effective policy."""

    revision: int
    changed: bool
    agents: int


@dataclass(frozen=True, slots=True)
class RemoveAgent:
    """Remove an agent from the registry for good. Answered by its agent id; NotFound if there is none."""

    agent_id: str
    author: str


@dataclass(frozen=True, slots=True)
class DeregisterAgent:
    """Mark an agent as offline and keep its record. Answered by its agent id; NotFound if there is none."""

    agent_id: str


@dataclass(frozen=True, slots=True)
class CreateToken:
    """Make an enrollment token. Answered by the `EnrollmentToken`, the only time that its secret is seen.

    `expires_at` is in seconds since 1970; `max_uses` counts agents; both None means without limits.
    """

    author: str
    organization_id: str | None = None
    site: str | None = None
    tags: tuple[str, ...] = ()
    expires_at: float | None = None
    max_uses: int | None = None


@dataclass(frozen=True, slots=True)
class RevokeToken:
    """Let nobody register with a token any more. Answered by its id; NotFound if there is none."""

    token_id: str
    author: str


@dataclass(frozen=True, slots=True)
class ReadPolicy:
    """Read an agent's effective policy. Answered by an `AgentPolicy`; NotFound if there is no such agent."""

    agent_id: str


@dataclass(frozen=True, slots=True)
class AgentPolicy:
    """An agent's effective policy: the document as it is signed and sent, without the signature."""

    agent_id: str
    version: int
    digest: str
    document: Sections
