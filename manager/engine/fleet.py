"""The state that the engine's rules work on: one object for each kind of rule, wired once."""

import secrets
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from manager.domain.agent import Agent
from manager.domain.clones import Clones
from manager.domain.correlation import CorrelatorSettings, Incident
from manager.domain.held_back import HeldBackReports
from manager.domain.immunity import ImmunityWatch
from manager.domain.liveness import Liveness, LivenessTimes
from manager.domain.policies import EffectivePolicy, Policies
from manager.domain.registry import Registry, Takeover
from manager.domain.response import (
    Blocklists,
    Evidence,
    FleetAddresses,
    NeverBlock,
    Responder,
    ResponderSettings,
)
from manager.domain.tokens import Token
from manager.engine.blocklist_messages import kept_sequences
from manager.engine.facts import FleetFacts, PolicyAllowlist
from manager.engine.ports import Snapshot, StoredPolicy
from schemas.keys import ManagerKeyring
from schemas.limits import KIB, MIB

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
    immunity: ImmunityWatch = field(default_factory=ImmunityWatch)
    addresses: FleetAddresses = field(default_factory=FleetAddresses)
    clones: Clones = field(default_factory=Clones)
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
        self.registry.reserve(snapshot.highest_agent_number)
        for departure in snapshot.departures:
            self.registry.departed(*departure)
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
        emergency = {agent_id: entries.of_agent(agent_id) for agent_id in holders}
        self.policies.load(snapshot.revision, snapshot.documents, now, emergency)

    def _restore_policy(self, agent: Agent, kept: dict[str, StoredPolicy]) -> list[EffectivePolicy]:
        stored = kept.get(agent.agent_id)
        if stored is None:
            return [self.policies.enter(agent.agent_id, agent.organization_id, agent.registered_at)]
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
