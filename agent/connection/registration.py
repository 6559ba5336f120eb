"""What a registration comes to, whichever way it goes to the manager."""

from dataclasses import dataclass
from typing import Protocol

from agent.connection.identity import Enrolled
from agent.link.link import Account, Event, Link


@dataclass(frozen=True, slots=True)
class Accepted:
    """The manager took the guard; `session` is the last that it knows of it."""

    enrolled: Enrolled
    session: int


@dataclass(frozen=True, slots=True)
class Refused:
    """The manager turned this registration away."""

    error: str
    reason: str


@dataclass(frozen=True, slots=True)
class Unanswered:
    """Nothing that counts was heard; `reason` says what to look at."""

    reason: str


@dataclass(frozen=True, slots=True)
class Again:
    """The manager turned this credential away, and the next registration has another one to show."""

    reason: str


Outcome = Accepted | Refused | Unanswered | Again


class RegistrationAttempt(Protocol):
    """One registration under way."""

    @property
    def account(self) -> Account:
        """What its link is dialled with."""
        ...

    @property
    def resumed(self) -> bool:
        """Whether it was begun by an earlier run of the guard."""
        ...

    @property
    def due(self) -> float:
        """When `tick` has something to do, on the monotonic clock."""
        ...

    def handle(self, link: Link, event: Event, now: float) -> Outcome | None:
        """Take what the link tells; return what became of the registration, or None while that is open."""
        ...

    def tick(self, link: Link, now: float) -> Outcome | None:
        """Do what is due; return what became of the registration, or None while that is open."""
        ...
