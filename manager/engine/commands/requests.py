"""What people and HTTP agents ask of the engine: values that go into the inbox beside the messages."""

from dataclasses import dataclass

from manager.domain.policies.diff import Difference
from manager.domain.policies.drift import Drift
from manager.domain.policies.fleet_policies import Scope, Sections


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


@dataclass(frozen=True, slots=True)
class UndoIncident:
    """Take an incident's response away everywhere and keep it from firing again. Answered by the incident's id."""

    incident_id: str
    author: str


@dataclass(frozen=True, slots=True)
class ApproveIncident:
    """Let an incident that waits for approval respond. Answered by its id; Conflict if it does not wait."""

    incident_id: str
    author: str


@dataclass(frozen=True, slots=True)
class RemoveBlock:
    """Take one emergency entry out of force. Answered by its id; NotFound if it is not in force."""

    entry_id: str
    author: str


@dataclass(frozen=True, slots=True)
class FreezeResponses:
    """Stop all automatic response (`frozen`), or let it go on. Answered by `frozen`."""

    frozen: bool
    author: str


@dataclass(frozen=True, slots=True)
class RollBack:
    """Set every policy document back to what it was at a revision. Answered by a `PolicySet`."""

    revision: int
    author: str


@dataclass(frozen=True, slots=True)
class Broadcast:
    """Publish every agent's effective policy and every blocklist again. Answered by the number of agents."""

    author: str


@dataclass(frozen=True, slots=True)
class ReadDrift:
    """Which agents have something else in force than what is meant for them. Answered by a list of `Drift`."""


@dataclass(frozen=True, slots=True)
class Preview:
    """What a document would change in what agents get. Answered by a list of `Difference`; nothing is changed."""

    scope: Scope
    document: Sections | None


@dataclass(frozen=True, slots=True)
class ReadState:
    """How automatic response stands. Answered by a `ResponseStanding`."""


@dataclass(frozen=True, slots=True)
class ResponseStanding:
    """How automatic response stands: frozen or simulated, what is in force, what waits for approval."""

    frozen: bool
    simulation: bool
    entries: int
    pending: int


__all__ = [
    "ApproveIncident",
    "Broadcast",
    "Difference",
    "Drift",
    "FreezeResponses",
    "Preview",
    "ReadDrift",
    "ReadState",
    "RemoveBlock",
    "ResponseStanding",
    "RollBack",
    "UndoIncident",
]
