"""Settings of the responder, and the port to the fleet's state."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from schemas.limits import AGENT_EMERGENCY_ENTRIES, ORGANIZATION_EMERGENCY_ENTRIES


class RepeatOffenderRule(NamedTuple):
    """Escalation for repeat offenders (`response.escalation`): number of incidents, and seconds of blocking."""

    threshold: int
    duration: float


class FleetView(Protocol):
    """Port to the current fleet."""

    @property
    def several_tokens(self) -> bool:
        """Whether the agents registered with more than one enrollment token."""
        ...

    def is_in(self, agent_id: str, organization_id: str, /) -> bool:
        """Return whether an agent is registered, and in this organization."""
        ...

    def untimely_reports(self, agent_ids: Iterable[str], /) -> list[str]:
        """Return a sentence part for each of these agents whose newest report does not count because of its time."""
        ...

    def token_of(self, agent_id: str, /) -> str | None:
        """Return the id of the enrollment token that an agent registered with."""
        ...

    def registered_at(self, agent_id: str, /) -> float | None:
        """Return when an agent first registered, in seconds since 1970; None if it is not registered."""
        ...

    def network_of(self, agent_id: str, /) -> str | None:
        """Return the /24 or /48 that an agent is in; None if none of its addresses is known."""
        ...

    def repeat(self, organization_id: str, /) -> RepeatOffenderRule:
        """Return the repeat-offender rule of an organization's policy."""
        ...


@dataclass(frozen=True, slots=True)
class ResponderSettings:
    """Settings, with the design's defaults (section 3, "Responder"); durations in seconds, confidence in percent.

    Args:
        duration: duration of an emergency entry.
        longest: bound of the duration, which doubles at each return of an indicator.
        organization_agents: number of agents from which on an address or hash is blocked in the whole organization.
        organization_age: seconds for which such an agent has to be registered, else a person approves; 0 is off.
        organization_networks: number of networks that such agents are in, else a person approves; 0 is off.
        blocks: number of new blocks in one window.
        window: length of the window.
        agent_share: share of `blocks` that one agent's reports may cause.
        token_share: share that the agents of one enrollment token may cause, where several are in use.
        approval_time: how long an incident waits for approval.
        max_pending: number of incidents that wait at once; a new one drops the first to expire.
        auto_respond_step: step by which a technique incident lowers `autoRespond`.
        auto_respond_floor: lowest confidence that it sets.
        agent_entries: live emergency entries in one agent's own policy.
        organization_entries: live entries in one organization's blocklist.
        agent_manual_blocks: of these places in an agent's own policy, those that manual blocks may take.
        organization_manual_blocks: of the places in an organization's blocklist, those that manual blocks may take.
        simulation: record what would be done, and do nothing.
    """

    duration: float = 4 * 3600.0
    longest: float = 24 * 3600.0
    organization_agents: int = 3
    organization_age: float = 0.0
    organization_networks: int = 0
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
    agent_manual_blocks: int = 50
    organization_manual_blocks: int = 9000
    simulation: bool = False
