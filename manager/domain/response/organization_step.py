"""Organization-wide step: whether an incident's entry may go from its agents to their whole organization."""

from collections.abc import Iterable, Iterator
from enum import StrEnum
from ipaddress import ip_network
from itertools import islice
from typing import NamedTuple

from manager.domain.correlation import Incident
from manager.domain.networks import network_of
from manager.domain.response.settings import FleetView, ResponderSettings

ORGANIZATION_RESPONSE = "organization_response"
"""The key of the stored choice."""

_PREFIX = {4: 24, 6: 48}
_HOUR = 3600.0


class OrganizationResponse(StrEnum):
    """The choice of the agents that the organization-wide step counts."""

    VOUCHED = "vouched"
    """Those that vouched for the indicator."""
    ANY = "any"
    """All that the responder may act for."""


def stored_response(value: str | None) -> OrganizationResponse:
    """Return the choice for a stored value; a store from before the choice counts any agent until one is made."""
    return OrganizationResponse.VOUCHED if value == OrganizationResponse.VOUCHED else OrganizationResponse.ANY


class OrganizationStep(NamedTuple):
    """Result of the check.

    Args:
        is_due: whether enough agents report the indicator for the whole organization.
        obstacle: why it stays with its agents although enough of them report it; None without an obstacle.
        approval: why a person has to approve it first; None if nobody has to.
    """

    is_due: bool
    obstacle: str | None = None
    approval: str | None = None

    @property
    def is_allowed(self) -> bool:
        """Whether it is due and nobody has to approve it."""
        return self.is_due and self.approval is None


def organization_step(
    incident: Incident, counted: OrganizationResponse, settings: ResponderSettings, facts: FleetView, now: float
) -> OrganizationStep:
    """Check the organization-wide step of an incident.

    Args:
        incident: the incident.
        counted: which agents count.
        settings: number, age and networks of the agents that it needs.
        facts: the fleet.
        now: seconds since 1970.
    """
    enough = settings.organization_agents
    if sum(1 for _ in islice(incident.actionable_agent_ids, enough)) < enough:
        return OrganizationStep(is_due=False)
    agent_ids: Iterable[str] = incident.actionable_agent_ids
    if counted is OrganizationResponse.VOUCHED:
        agent_ids = incident.vouched
        if len(incident.vouched) < enough:
            said = f"{len(incident.vouched)} of {len(incident.members)} agents vouched, {enough} are needed"
            return OrganizationStep(is_due=False, obstacle=said)
    return OrganizationStep(is_due=True, approval=_objection(agent_ids, settings, facts, now))


def is_established(agent_id: str, settings: ResponderSettings, facts: FleetView, now: float) -> bool:
    """Return whether an agent has been registered for as long as the organization-wide step asks for."""
    if not settings.organization_age:
        return True
    registered_at = facts.registered_at(agent_id)
    return registered_at is not None and now - registered_at >= settings.organization_age


def address_network(addresses: Iterable[str]) -> str | None:
    """Return the /24 or /48 of the first public address, else of the first address; None without one."""
    parsed = [network for text in addresses if (network := network_of(text.partition("/")[0])) is not None]
    for network in sorted(parsed, key=lambda each: not each.is_global):  # a stable sort
        return str(ip_network((network.network_address, _PREFIX[network.version]), strict=False))
    return None


def _objection(agent_ids: Iterable[str], settings: ResponderSettings, facts: FleetView, now: float) -> str | None:
    """Return the reason why the agents do not suffice; it reads no further than it must."""
    established = 0
    networks: set[str] = set()
    for agent_id in _established(agent_ids, settings, facts, now):
        established += 1
        if settings.organization_networks and (network := facts.network_of(agent_id)) is not None:
            networks.add(network)
        if established >= settings.organization_agents and len(networks) >= settings.organization_networks:
            return None
    if established < settings.organization_agents:
        hours = f"{settings.organization_age / _HOUR:g} h"
        return (
            f"{established} of its agents have been registered for {hours}, {settings.organization_agents} are needed"
        )
    return f"its agents are in {len(networks)} known networks, {settings.organization_networks} are needed"


def _established(agent_ids: Iterable[str], settings: ResponderSettings, facts: FleetView, now: float) -> Iterator[str]:
    return (agent_id for agent_id in agent_ids if is_established(agent_id, settings, facts, now))
