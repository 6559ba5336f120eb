"""The outcomes of a registration, and the interface of a registration attempt, over MQTT or HTTP."""

from dataclasses import dataclass
from typing import Protocol

from agent.connection.identity import Enrolled
from agent.link.link import Account, Event, Link


@dataclass(frozen=True, slots=True)
class Accepted:
    """The manager accepted the registration; `session` is the agent's highest session known to the manager."""

    enrolled: Enrolled
    session: int


@dataclass(frozen=True, slots=True)
class Refused:
    """The manager rejected the registration."""

    error: str
    reason: str


@dataclass(frozen=True, slots=True)
class Unanswered:
    """The manager gave no valid answer; `reason` says what to check."""

    reason: str


@dataclass(frozen=True, slots=True)
class CredentialRejected:
    """The manager rejected this credential; the next attempt uses another one."""

    reason: str


Outcome = Accepted | Refused | Unanswered | CredentialRejected


class RegistrationAttempt(Protocol):
    """One registration attempt."""

    @property
    def account(self) -> Account:
        """The account that the link of this attempt connects with."""
        ...

    @property
    def resumed(self) -> bool:
        """Whether an earlier run of the guard began this attempt."""
        ...

    @property
    def due(self) -> float:
        """The next deadline, on the monotonic clock."""
        ...

    def handle(self, link: Link, event: Event, now: float) -> Outcome | None:
        """Handle a link event; return the outcome, or None while it is open."""
        ...

    def tick(self, link: Link, now: float) -> Outcome | None:
        """Run the steps that are due; return the outcome, or None while it is open."""
        ...
