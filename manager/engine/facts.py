"""What the responder and the correlator ask of the fleet: tokens, repeat offenders, allowlists."""

from collections.abc import Callable

from manager.domain.correlation import Allowlist, Indicator
from manager.domain.policies import GLOBAL, Policies, Scope
from manager.domain.registry import Registry
from manager.domain.response import Repeat
from manager.domain.tokens import Token


class PolicyAllowlist:
    """The organizations' allowlists as their policies have them, put together when one is first asked for.

    Args:
        policies: whose documents count: the global one and the organization's own.
    """

    def __init__(self, policies: Policies) -> None:
        self._policies = policies
        self._made: dict[str, Allowlist] = {}

    def __call__(self, indicator: Indicator, /) -> bool:
        """Return whether the indicator's own organization has allowlisted it."""
        organization_id = indicator.organization_id
        allowlist = self._made.get(organization_id)
        if allowlist is None:
            entries: list[str] = []
            for scope in (GLOBAL, Scope("organization", organization_id)):
                listed = (self._policies.document(scope) or {}).get("allowlist", {})
                entries += [*listed.get("ips", ()), *listed.get("fileHashes", ())]
            allowlist = self._made[organization_id] = Allowlist({organization_id: entries})
        return allowlist(indicator)

    def changed(self) -> None:
        """A policy document was changed."""
        self._made.clear()


class FleetFacts:
    """The fleet as it is now, for the responder.

    Args:
        registry: who is registered.
        tokens: the enrollment tokens by id.
        policies: what says how repeated offenders are met.
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
        """Whether the fleet's agents came with more than one enrollment token."""
        return sum(1 for token in self._tokens().values() if token.uses) > 1

    def knows(self, agent_id: str, /) -> bool:
        """Return whether an agent is registered."""
        return self._registry.find(agent_id) is not None

    def token_of(self, agent_id: str, /) -> str | None:
        """Return the enrollment token that an agent came with."""
        agent = self._registry.find(agent_id)
        return agent.token_id if agent is not None else None

    def repeat(self, organization_id: str, /) -> Repeat:
        """Return what an organization's policy says of repeated offenders."""
        sections = self._policies.of_organization(organization_id, self._now).sections
        escalation = sections["response"]["escalation"]
        return Repeat(escalation["repeatThreshold"], float(escalation["repeatBlockDuration"]))
