"""What people ask of incidents, blocks and the fleet's policies as a whole."""

from dataclasses import dataclass

from manager.domain.policies import Scope, Sections
from manager.domain.policy_diff import Difference
from manager.domain.policy_drift import Drift


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
