"""The state that the engine's rules work on: one object for each kind of rule, wired once."""

import secrets
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from manager.domain.agents.agent import Agent
from manager.domain.agents.clones import CloneTracker
from manager.domain.agents.held_back import HeldBackReports
from manager.domain.agents.liveness import Liveness, LivenessTimes
from manager.domain.agents.registry import Registry, Takeover
from manager.domain.agents.tokens import Token
from manager.domain.correlation import Allowlist, CorrelatorSettings, Incident, Indicator
from manager.domain.policies.fleet_policies import GLOBAL, EffectivePolicy, Policies, Scope
from manager.domain.response import (
    Blocklists,
    Evidence,
    FleetAddresses,
    NeverBlock,
    RepeatOffenderRule,
    Responder,
    ResponderSettings,
)
from manager.domain.response.immunity import ImmunityTracker
from manager.engine.policies.blocklist_messages import kept_sequences
from manager.engine.ports import Snapshot, StoredPolicy
from schemas.keys import ManagerKeyring
from schemas.limits import KIB, MIB


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

    def repeat(self, organization_id: str, /) -> RepeatOffenderRule:
        """Return what an organization's policy says of repeated offenders."""
        sections = self._policies.of_organization(organization_id, self._now).sections
        escalation = sections["response"]["escalation"]
        return RepeatOffenderRule(escalation["repeatThreshold"], float(escalation["repeatBlockDuration"]))


FROZEN = "responses_frozen"
"""The single value by which the store keeps that automatic response is frozen."""


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """What the engine is told at its start. Seconds, messages and bytes."""

    sweep_interval: float = 30.0
    write_behind: float = 5.0
    batch_limit: int = 500
    batch_bytes: int = 512 * KIB
    registrations_in_batch: int = 50
    dead_letters_in_batch: int = 50
    agent_messages: float = 200.0
    agent_bytes: float = 2 * MIB
    burst: float = 10.0
    suspension: float = 60.0
    receipt_interval: float = 1.0
    retry_after: float = 5.0
    policies_in_step: int = 200
    republish_after: float = 10.0
    snapshot_every: float = 10.0
    held_back_after: float = 90.0
    threat_retention: float = 86_400.0
    id_retention: float = 7 * 86_400.0
    takeover: Takeover = Takeover.WHEN_OFFLINE
    times: LivenessTimes = field(default_factory=LivenessTimes)
    correlator: CorrelatorSettings = field(default_factory=CorrelatorSettings)
    responder: ResponderSettings = field(default_factory=ResponderSettings)
    own_addresses: tuple[str, ...] = ()
    admin_networks: tuple[str, ...] = ()
    ca_fingerprint: str | None = None


@dataclass(slots=True)
class Fleet:
    """Everything that is decided upon, in memory; the store has it all on disk."""

    keyring: ManagerKeyring
    settings: EngineSettings
    registry: Registry = field(default_factory=Registry)
    policies: Policies = field(default_factory=Policies)
    tokens: dict[str, Token] = field(default_factory=dict)
    counters: Counter[str] = field(default_factory=Counter)
    immunity: ImmunityTracker = field(default_factory=ImmunityTracker)
    addresses: FleetAddresses = field(default_factory=FleetAddresses)
    clones: CloneTracker = field(default_factory=CloneTracker)
    liveness: Liveness = field(init=False)
    held_back: HeldBackReports = field(init=False)
    allowlist: PolicyAllowlist = field(init=False)
    responder: Responder = field(init=False)
    blocklists: Blocklists = field(init=False)

    def __post_init__(self) -> None:
        """Build what depends on other parts."""
        settings = self.settings
        self.liveness = Liveness(settings.times)
        self.held_back = HeldBackReports(settings.held_back_after)
        self.allowlist = PolicyAllowlist(self.policies)
        never_block = NeverBlock(
            self.allowlist, self.addresses, Evidence(), settings.own_addresses, settings.admin_networks
        )
        self.responder = Responder(settings.responder, never_block, new_entry_id)
        self.blocklists = Blocklists(self.responder.entries)

    def restore(self, snapshot: Snapshot, incidents: Iterable[Incident], now: float) -> list[EffectivePolicy]:
        """Take what the store kept; return the effective policies that today's rules changed.

        Args:
            snapshot: all that the store kept of the fleet.
            incidents: the open ones.
            now: seconds since 1970.
        """
        self.tokens = {token.token_id: token for token in snapshot.tokens}
        self.registry.reserve_numbers(snapshot.highest_agent_number)
        for removed in snapshot.removed_agents:
            self.registry.record_removed(*removed)
        for agent in snapshot.agents:
            self.registry.load(agent)
            self.note_addresses(agent)
        self.responder.load(snapshot.entries, snapshot.responses, incidents, self.facts(now), now)
        self.responder.frozen = snapshot.meta.get(FROZEN) == "true"
        self.blocklists.sequences.update(kept_sequences(snapshot.meta))
        self._restore_layers(snapshot, now)
        kept = {policy.agent_id: policy for policy in snapshot.policies}
        changed: list[EffectivePolicy] = []
        for agent in snapshot.agents:
            changed += self._restore_policy(agent, kept)
        return changed

    def facts(self, now: float) -> FleetFacts:
        """Return what the responder may ask of the fleet."""
        return FleetFacts(self.registry, lambda: self.tokens, self.policies, now)

    def note_addresses(self, agent: Agent) -> None:
        """Take an agent's own addresses and gateways: they are never blocked."""
        host = agent.host
        own = [*host.addresses, *host.gateways, *([host.ip] if host.ip else [])]
        self.addresses.set(agent.agent_id, agent.organization_id, host.site, own)

    def _restore_layers(self, snapshot: Snapshot, now: float) -> None:
        entries = self.responder.entries
        holders = {entry.target for entry in snapshot.entries if entry.scope == "agent"}
        emergency = {agent_id: entries.agent_layer(agent_id) for agent_id in holders}
        self.policies.load(snapshot.revision, snapshot.documents, now, emergency)

    def _restore_policy(self, agent: Agent, kept: dict[str, StoredPolicy]) -> list[EffectivePolicy]:
        stored = kept.get(agent.agent_id)
        if stored is None:
            return [self.policies.assign(agent.agent_id, agent.organization_id, agent.registered_at)]
        changed = self.policies.restore(
            agent.agent_id,
            agent.organization_id,
            stored.version,
            stored.digest,
            stored.updated_at,
            published=stored.published,
        )
        return [changed] if changed else []


def new_entry_id() -> str:
    """Return the id of a new emergency entry."""
    return f"blk-{secrets.token_hex(8)}"
