"""Adapters through which the response rules read the fleet: allowlists, tokens, registered agents."""

from collections.abc import Callable, Iterable

from manager.domain.agents.agent import Door
from manager.domain.agents.registry import Registry
from manager.domain.agents.tokens import Token
from manager.domain.correlation import Allowlist, Indicator
from manager.domain.networks import Network
from manager.domain.policies.fleet_policies import GLOBAL, Policies, Scope
from manager.domain.response import RepeatOffenderRule
from manager.domain.response.organization_step import address_network


class PolicyAllowlist:
    """Allowlists of the organizations, built from their policy documents at the first use.

    Args:
        policies: the global and the organization's policy documents.
    """

    def __init__(self, policies: Policies) -> None:
        self._policies = policies
        self._by_organization: dict[str, Allowlist] = {}
        self._by_scope: dict[Scope, Allowlist] = {}

    def __call__(self, indicator: Indicator, /) -> bool:
        """Return whether the indicator's own organization has allowlisted it."""
        return self._of(indicator.organization_id)(indicator)

    def overlaps(self, scope: Scope, network: Network) -> bool:
        """Return whether the document of a scope itself has allowlisted an address of a network."""
        allowlist = self._by_scope.get(scope)
        if allowlist is None:
            allowlist = self._by_scope[scope] = Allowlist({scope.target: self._entries(scope)})
        return allowlist.overlaps(scope.target, network)

    def is_empty(self, organization_id: str) -> bool:
        """Return whether an organization has allowlisted nothing."""
        return self._of(organization_id).is_empty(organization_id)

    def invalidate(self) -> None:
        """Forget the built allowlists, because a policy document changed."""
        self._by_organization.clear()
        self._by_scope.clear()

    def _of(self, organization_id: str) -> Allowlist:
        allowlist = self._by_organization.get(organization_id)
        if allowlist is None:
            entries = [*self._entries(GLOBAL), *self._entries(Scope("organization", organization_id))]
            allowlist = self._by_organization[organization_id] = Allowlist({organization_id: entries})
        return allowlist

    def _entries(self, scope: Scope) -> list[str]:
        listed = (self._policies.document(scope) or {}).get("allowlist", {})
        return [*listed.get("ips", ()), *listed.get("fileHashes", ())]


class FleetFacts:
    """Facts about the fleet that the responder needs.

    Args:
        registry: the registered agents.
        tokens: returns the enrollment tokens by id.
        policies: contain the escalation settings of each organization.
        now: seconds since 1970.
    """

    def __init__(
        self, registry: Registry, tokens: Callable[[], dict[str, Token]], policies: Policies, now: float
    ) -> None:
        self._registry = registry
        self._tokens = tokens
        self._policies = policies
        self._now = now

    @property
    def several_tokens(self) -> bool:
        """Whether the agents registered with more than one enrollment token."""
        return sum(1 for token in self._tokens().values() if token.uses) > 1

    def is_in(self, agent_id: str, organization_id: str, /) -> bool:
        """Return whether an agent is registered, and in this organization."""
        agent = self._registry.find(agent_id)
        return agent is not None and agent.organization_id == organization_id

    def untimely_reports(self, agent_ids: Iterable[str], /) -> list[str]:
        """Return a sentence part for each of these agents whose newest report does not count because of its time."""
        agents = (self._registry.find(agent_id) for agent_id in agent_ids)
        found = (agent for agent in agents if agent is not None)
        return sorted(agent.untimely.describe(agent.hostname) for agent in found if agent.untimely is not None)

    def token_of(self, agent_id: str, /) -> str | None:
        """Return the id of the enrollment token that an agent registered with."""
        agent = self._registry.find(agent_id)
        return agent.token_id if agent is not None else None

    def registered_at(self, agent_id: str, /) -> float | None:
        """Return when an agent first registered, in seconds since 1970; None if it is not registered."""
        agent = self._registry.find(agent_id)
        return agent.registered_at if agent is not None else None

    def network_of(self, agent_id: str, /) -> str | None:
        """Return the /24 or /48 of an agent: of its connection over HTTP, else of an address that it states."""
        agent = self._registry.find(agent_id)
        if agent is None:
            return None
        addresses = agent.host.addresses
        return address_network(addresses[-1:] if agent.door is Door.HTTP else addresses)

    def repeat(self, organization_id: str, /) -> RepeatOffenderRule:
        """Return the repeat-offender rule of an organization's policy."""
        sections = self._policies.of_organization(organization_id, self._now).sections
        escalation = sections["response"]["escalation"]
        return RepeatOffenderRule(escalation["repeatThreshold"], float(escalation["repeatBlockDuration"]))
