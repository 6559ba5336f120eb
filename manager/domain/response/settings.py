"""What the responder asks of the fleet when it decides."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from schemas.limits import AGENT_EMERGENCY_ENTRIES, ORGANIZATION_EMERGENCY_ENTRIES


class RepeatOffenderRule(NamedTuple):
    """How a repeated offender is met (`response.escalation`): after how many incidents, and for how many seconds."""

    threshold: int
    duration: float


class FleetView(Protocol):
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

    def repeat(self, organization_id: str, /) -> RepeatOffenderRule:
        """Return what an organization's policy says of repeated offenders."""
        ...


@dataclass(frozen=True, slots=True)
class ResponderSettings:
    """Defaults as the design has them (section 3, "Responder"); durations in seconds, confidence in percent.

    Args:
        duration: how long an emergency entry lasts.
        longest: what the duration may double to, once for each return of an indicator.
        organization_agents: from how many agents on an address or hash is blocked in the whole organization.
        blocks: how many new blocks fit into one window.
        window: the window's length.
        agent_share: the part of `blocks` that one agent's reports may make.
        token_share: the part that the agents of one enrollment token may make, where several are in use.
        approval_time: how long an incident waits for approval.
        max_pending: how many incidents wait at once; the first to expire makes room.
        auto_respond_step: by how much a technique incident lowers `autoRespond`.
        auto_respond_floor: the confidence below which it never goes.
        agent_entries: live emergency entries in one agent's own policy.
        organization_entries: live entries in one organization's blocklist.
        simulation: record what would be done, and do nothing.
    """

    duration: float = 4 * 3600.0
    longest: float = 24 * 3600.0
    organization_agents: int = 3
    blocks: int = 100
    window: float = 300.0
    agent_share: float = 0.1
    token_share: float = 0.5
    approval_time: float = 24 * 3600.0
    max_pending: int = 10_000
    auto_respond_step: float = 10.0
    auto_respond_floor: float = 50.0
    agent_entries: int = AGENT_EMERGENCY_ENTRIES
    organization_entries: int = ORGANIZATION_EMERGENCY_ENTRIES
    simulation: bool = False
