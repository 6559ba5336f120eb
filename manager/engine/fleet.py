"""The state that the engine's rules work on: one object for each kind of rule, wired once."""

from collections import Counter
from dataclasses import dataclass, field

from manager.domain.agent import Agent
from manager.domain.liveness import Liveness, LivenessTimes
from manager.domain.policies import EffectivePolicy, Policies
from manager.domain.registry import Registry, Takeover
from manager.domain.tokens import Token
from manager.engine.ports import Snapshot, StoredPolicy
from schemas.keys import ManagerKeyring


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """What the engine is told at its start. Seconds, messages and bytes."""

    sweep_interval: float = 30.0
    write_behind: float = 5.0
    batch_limit: int = 500
    registrations_in_batch: int = 50
    dead_letters_in_batch: int = 50
    agent_messages: float = 200.0
    agent_bytes: float = 2 * 1024 * 1024
    burst: float = 10.0
    receipt_interval: float = 1.0
    retry_after: float = 5.0
    policies_in_step: int = 200
    threat_retention: float = 86_400.0
    id_retention: float = 7 * 86_400.0
    takeover: Takeover = Takeover.WHEN_OFFLINE
    times: LivenessTimes = field(default_factory=LivenessTimes)


@dataclass(slots=True)
class Fleet:
    """Everything that is decided upon, in memory; the store has it all on disk."""

    keyring: ManagerKeyring
    settings: EngineSettings
    registry: Registry = field(default_factory=Registry)
    policies: Policies = field(default_factory=Policies)
    tokens: dict[str, Token] = field(default_factory=dict)
    counters: Counter[str] = field(default_factory=Counter)
    liveness: Liveness = field(init=False)

    def __post_init__(self) -> None:
        """Build what depends on the settings."""
        self.liveness = Liveness(self.settings.times)

    def restore(self, snapshot: Snapshot) -> list[EffectivePolicy]:
        """Take what the store kept; return the effective policies that today's rules changed."""
        self.tokens = {token.token_id: token for token in snapshot.tokens}
        self.policies.load(snapshot.revision, snapshot.documents)
        changed: list[EffectivePolicy] = []
        kept = {policy.agent_id: policy for policy in snapshot.policies}
        self.registry.reserve(snapshot.highest_agent_number)
        for agent in snapshot.agents:
            self.registry.load(agent)
            changed += self._restore_policy(agent, kept)
        return changed

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
