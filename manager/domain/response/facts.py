"""What the responder asks of the fleet when it decides."""

from typing import NamedTuple, Protocol


class Repeat(NamedTuple):
    """How a repeated offender is met (`response.escalation`): after how many incidents, and for how many seconds."""

    threshold: int
    duration: float


class Facts(Protocol):
    """The fleet as it is now."""

    @property
    def several_tokens(self) -> bool:
        """Whether the fleet's agents came with more than one enrollment token."""
        ...

    def knows(self, agent_id: str, /) -> bool:
        """Return whether an agent is registered."""
        ...

    def token_of(self, agent_id: str, /) -> str | None:
        """Return the enrollment token that an agent came with."""
        ...

    def repeat(self, organization_id: str, /) -> Repeat:
        """Return what an organization's policy says of repeated offenders."""
        ...
