"""Fleet: the engine's in-memory state, one object for each rule, restored from the store."""

import secrets
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from manager.domain.access import ADMIN_NAME, AccessTokens
from manager.domain.agents.agent import Agent
from manager.domain.agents.clones import CloneTracker
from manager.domain.agents.held_back import HeldBackReports
from manager.domain.agents.liveness import Liveness
from manager.domain.agents.refused_registrations import RefusedRegistrations
from manager.domain.agents.registry import Registry
from manager.domain.agents.tokens import EnrollmentRate, Token
from manager.domain.agents.trusted_keys import TrustedKeys
from manager.domain.console_sessions import ConsoleSessions
from manager.domain.correlation import Incident
from manager.domain.ingest.ingest_workers import IngestWorkers
from manager.domain.notifications.alert_limit import AlertLimit
from manager.domain.policies.document_check import DocumentWarnings
from manager.domain.policies.fleet_policies import Alike, EffectivePolicy, Emergency, Policies, Scope, policy_of
from manager.domain.policies.groups import Placement
from manager.domain.response import Blocklists, EvidenceIndex, FleetAddresses, NeverBlock, Responder
from manager.domain.response.operator_addresses import Operator, OperatorAddresses
from manager.domain.response.organization_step import ORGANIZATION_RESPONSE, stored_response
from manager.domain.response.progress import ProgressTracker
from manager.domain.retention import ClockTrust
from manager.domain.rolling_upgrade import FEATURES
from manager.domain.signing_keys import SigningKeys
from manager.domain.store_history import StoreHistory
from manager.domain.user_names import UserNames
from manager.engine.agent_index import index_of, state_addresses
from manager.engine.outgoing.retained_clearing import RetainedClearing
from manager.engine.policies.blocklist_messages import stored_lifts, stored_never_lists, stored_sequences
from manager.engine.ports import Snapshot, StoredPolicy
from manager.engine.response.fleet_facts import FleetFacts, PolicyAllowlist
from manager.engine.settings import EngineSettings
from schemas.keys import ManagerKeyring

CLOCK_WARNING = "clock"
"""The name of the warning that pruning is paused because the clock is not trusted."""

FROZEN = "responses_frozen"
"""The key of the stored value for frozen automatic response."""


UNCHOSEN_WARNING = "organization_response"
"""The name of the warning that nobody has chosen which agents the organization-wide step counts."""

_UNCHOSEN = (
    "a block reaches the whole organization also by reports that local users can forge, because this store is "
    "from an earlier release; choose: `panguard manager responses organization vouched`, or `any` to keep it"
)


@dataclass(slots=True)
class RestoredStore:
    """Signs that the store was restored from an older copy: agents that stated newer revisions, and the highest one."""

    agents: set[str] = field(default_factory=set)
    highest: int = 0
    continued: dict[str, float] = field(default_factory=dict)
    """Monotonic time of the newest continuation of each organization's blocklist sequence."""


@dataclass(slots=True)
class Fleet:
    """Registry, policies, tokens, liveness and response in memory; the store holds the durable copy."""

    keyring: ManagerKeyring
    settings: EngineSettings
    registry: Registry = field(default_factory=Registry)
    policies: Policies = field(default_factory=Policies)
    tokens: dict[str, Token] = field(default_factory=dict)
    access: AccessTokens = field(default_factory=AccessTokens)
    sessions: ConsoleSessions = field(default_factory=ConsoleSessions)
    counters: Counter[str] = field(default_factory=Counter)
    meta: Mapping[str, str] = field(default_factory=dict)
    """The single values of the store, as loaded at the start."""
    restored_at: float = 0.0
    """The time of the start, in seconds since 1970."""
    acceptance: ProgressTracker = field(default_factory=ProgressTracker)
    """Responses until their targets have accepted them."""
    immunity: ProgressTracker = field(default_factory=ProgressTracker)
    """Responses until their targets enforce them."""
    addresses: FleetAddresses = field(default_factory=FleetAddresses)
    operator_addresses: OperatorAddresses = field(default_factory=OperatorAddresses)
    clones: CloneTracker = field(default_factory=CloneTracker)
    retained_clearing: RetainedClearing = field(default_factory=RetainedClearing)
    clock_trust: ClockTrust = field(default_factory=ClockTrust)
    warnings: dict[str, str] = field(default_factory=dict)
    """Warnings for operators about lasting conditions, by the name of the condition."""
    restored_store: RestoredStore = field(default_factory=RestoredStore)
    document_warnings: DocumentWarnings = field(default_factory=DocumentWarnings)
    waiting_approvals: dict[str, str | None] = field(default_factory=dict)
    """Incidents whose wait for approval was announced by an event, with their organizations."""
    alert_limit: AlertLimit = field(default_factory=AlertLimit)
    refused_registrations: RefusedRegistrations = field(default_factory=RefusedRegistrations)
    ingest_workers: IngestWorkers = field(default_factory=IngestWorkers)
    life_key: bytes | None = None
    """Verifies the messages of ingest workers; None where there are none."""
    features: tuple[str, ...] = FEATURES
    """The features beyond the first release that all managers of the store have; guards are told with the keys."""
    enrollment_rate: EnrollmentRate = field(init=False)
    liveness: Liveness = field(init=False)
    held_back: HeldBackReports = field(init=False)
    allowlist: PolicyAllowlist = field(init=False)
    responder: Responder = field(init=False)
    blocklists: Blocklists = field(init=False)
    signing_keys: SigningKeys = field(init=False)
    """The signing keys; those of the keyring until `use_signing_keys`."""
    trusted_keys: TrustedKeys = field(default_factory=TrustedKeys)
    store_history: StoreHistory = field(init=False)
    """Runs and generation of the store."""
    lost_since: float | None = None
    """Since when the database may have lost reports by a fail-over before this run; None without one."""
    user_names: UserNames = field(init=False)
    """Masks user names that are no account in everything that is told: events, messages, feeds."""

    def __post_init__(self) -> None:
        """Build the parts that depend on other parts."""
        settings = self.settings
        self.signing_keys = SigningKeys(self.keyring.seed)
        self.store_history = StoreHistory(self.keyring.mark_key)
        self.user_names = UserNames(self.keyring.user_name_key)
        self.document_warnings.channels = settings.channels
        self.liveness = Liveness(settings.times, self.is_ephemeral)
        self.enrollment_rate = EnrollmentRate(settings.enrollment_rate)
        self.held_back = HeldBackReports(settings.held_back_after)
        self.allowlist = PolicyAllowlist(self.policies)
        never_block = NeverBlock(
            self.allowlist,
            self.addresses,
            EvidenceIndex(),
            settings.own_addresses,
            settings.admin_networks,
            fleet_networks=settings.fleet_networks,
            operators=self.operator_addresses,
        )
        self.responder = Responder(settings.responder, never_block, new_entry_id)
        self.responder.entries.groups_of = self._groups_of
        self.blocklists = Blocklists(self.responder.entries)

    def use_signing_keys(self, keys: SigningKeys) -> None:
        """Sign with the active one of these keys from now on; secrets that were sealed for the former ones open."""
        self.signing_keys = keys
        self.keyring.use(keys.seed, (each.seed for each in keys.former if each.seed is not None))

    def restore(
        self, snapshot: Snapshot, incidents: Iterable[Incident], now: float, pending_step: float = 0.0
    ) -> list[EffectivePolicy]:
        """Load the stored state; return the effective policies that this release resolves differently.

        Args:
            snapshot: the stored state.
            incidents: those that are open, or closed within the last 900 s.
            now: seconds since 1970.
            pending_step: seconds by which the clock monitor's first tick will shift responses and grants.
        """
        self.restored_at = now
        self.meta = snapshot.meta
        self.store_history.load(snapshot.meta)
        self.lost_since = self.store_history.begin_run(now, snapshot.timeline)
        self.retained_clearing.load(snapshot.meta)
        self.tokens = {token.token_id: token for token in snapshot.tokens}
        self.access.load(snapshot.access)
        self.sessions.load(snapshot.sessions)
        index = snapshot.index or index_of(snapshot.agents)
        self.registry.adopt(index.registry)
        self.addresses.adopt(index.addresses)
        self.registry.reserve_numbers(snapshot.highest_agent_number)
        for removed in snapshot.removed_agents:
            self.registry.record_removed(*removed)
        for agent in snapshot.agents:
            self.liveness.watch(agent)
        incidents = list(incidents)
        self.responder.load(snapshot.entries, snapshot.responses, incidents, self.facts(now), now - pending_step)
        organizations = {incident.id: incident.organization_id for incident in incidents}
        waiting = (response.incident_id for response in self.responder.responses.pending())
        self.waiting_approvals = {incident_id: organizations.get(incident_id) for incident_id in waiting}
        self.responder.entries.manual.load(snapshot.manual_blocks)
        self.responder.frozen = snapshot.meta.get(FROZEN) == "true"
        self._restore_organization_response(snapshot.meta)
        self.blocklists.sequences.update(stored_sequences(snapshot.meta))
        self.blocklists.never.update(stored_never_lists(snapshot.meta))
        for organization_id, lifted in stored_lifts(snapshot.meta).items():
            self.responder.never_block.lifted.load(organization_id, lifted)
        self._restore_layers(snapshot, now)
        changed: list[EffectivePolicy] = []
        alike: Alike = {}
        for agent in snapshot.agents:
            changed += self._restore_policy(agent, snapshot.policies.get(agent.agent_id), alike)
        return changed

    def is_ephemeral(self, agent: Agent) -> bool:
        """Return whether an agent registered with an ephemeral token: it goes offline silently, and is removed soon."""
        token = self.tokens.get(agent.token_id or "")
        return token is not None and token.ephemeral

    def operator(self, digest: bytes | None, now: float) -> Operator | None:
        """Return the access token with a digest, or the admin token (None), as a person; None if it is refused."""
        if digest is None:
            return Operator(ADMIN_NAME, self.settings.admin_text)
        token = self.access.find(digest)
        if token is None or not token.is_live(now):
            return None
        return Operator(token.name, token.text_id, frozenset(token.organizations) or None)

    def text_of_token(self, name: str, now: float) -> str | None:
        """Return the id of the present text of the admin token or an access token; None for one that is refused."""
        if name == ADMIN_NAME:
            return self.settings.admin_text
        token = self.access.get(name)
        return token.text_id if token is not None and token.is_live(now) else None

    def forget_agent(self, agent: Agent) -> None:
        """Drop an agent whose registration was not stored."""
        agent.stamp = None  # the same registration may arrive again
        self.remove_agent(agent, 0.0)

    def remove_agent(self, agent: Agent, now: float) -> None:
        """Drop an agent from registry and policies, its addresses, and everything that is tracked of it."""
        self.registry.remove(agent, now)
        self.liveness.forget(agent)
        self.clones.forget(agent.agent_id)
        self.held_back.forget(agent.agent_id)
        self.policies.forget(agent.agent_id)
        self.addresses.discard(agent.agent_id)
        self.document_warnings.set({str(Scope("agent", agent.agent_id)): None})
        self.acceptance.forget_agent(agent.agent_id)
        self.immunity.forget_agent(agent.agent_id)
        self.restored_store.agents.discard(agent.agent_id)
        self.trusted_keys.forget(agent.agent_id)

    def foreign_key_warning(self) -> str | None:
        """Return the warning of signing keys that agents state and the store has never had; None without any."""

        def name_of(agent_id: str) -> str:
            agent = self.registry.agents.get(agent_id)
            return agent_id if agent is None else agent.host.hostname

        return self.trusted_keys.warning(name_of)

    def facts(self, now: float) -> FleetFacts:
        """Return the facts about the fleet that the responder needs."""
        return FleetFacts(self.registry, lambda: self.tokens, self.policies, now)

    def set_addresses(self, agent: Agent) -> None:
        """Set an agent's own addresses and gateways; these are never blocked."""
        state_addresses(self.addresses, agent)

    def _restore_organization_response(self, meta: Mapping[str, str]) -> None:
        stored = meta.get(ORGANIZATION_RESPONSE)
        self.responder.organization_response = stored_response(stored)
        if stored != self.responder.organization_response:
            self.warnings[UNCHOSEN_WARNING] = _UNCHOSEN

    def _restore_layers(self, snapshot: Snapshot, now: float) -> None:
        entries = self.responder.entries
        holders = dict.fromkeys(entry.target for entry in snapshot.entries if entry.scope == "agent")
        holders |= dict.fromkeys(holder.target for holder in entries.manual.holders() if holder.scope == "agent")
        if any(holder.scope == "group" for holder in entries.manual.holders()):
            self.policies.load(snapshot.revision, snapshot.documents, now)  # the groups, which choose the agents
            holders |= dict.fromkeys(agent_id for agent_id in self.registry.agents if self._groups_of(agent_id))
        layers = ((agent_id, entries.agent_layer(agent_id)) for agent_id in holders)
        alike: dict[Emergency, Emergency] = {}
        emergency = {agent_id: alike.setdefault(layer, layer) for agent_id, layer in layers}
        self.policies.load(snapshot.revision, snapshot.documents, now, emergency)
        self.document_warnings.set(
            {str(scope): policy_of(scope, document) for scope, document in snapshot.documents.items()}
        )

    def _groups_of(self, agent_id: str) -> tuple[str, ...]:
        agent = self.registry.find(agent_id)
        return () if agent is None else self.policies.groups.of(placement_of(agent))

    def _restore_policy(self, agent: Agent, stored: StoredPolicy | None, alike: Alike) -> list[EffectivePolicy]:
        if stored is None:
            return [self.policies.assign(agent.agent_id, placement_of(agent), agent.registered_at)]
        changed = self.policies.restore(
            agent.agent_id,
            placement_of(agent),
            stored.version,
            stored.digest,
            stored.updated_at,
            published=stored.published,
            alike=alike,
        )
        return [changed] if changed else []


def placement_of(agent: Agent) -> Placement:
    """Return the facts about an agent that choose its policy groups."""
    return _placement(agent.organization_id, agent.host.site, agent.host.tags)


@lru_cache(10_000)
def _placement(organization_id: str, site: str | None, tags: tuple[str, ...]) -> Placement:
    """Return a placement; agents at one place share it."""
    return Placement(organization_id, site, frozenset(tags))


def new_entry_id() -> str:
    """Return the id of a new emergency entry."""
    return f"blk-{secrets.token_hex(8)}"
