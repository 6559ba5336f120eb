"""Policy versions under any order of changes, expiries, restarts and restored stores, against a naive oracle."""

from dataclasses import dataclass, field
from math import inf
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from manager.domain.policies.fleet_policies import GLOBAL, Alike, Emergency, Policies, Scope
from manager.domain.policies.groups import Placement
from manager.domain.policies.layers import EmergencyBlock
from schemas.model import iso
from tests.support.examples import examples

NOW = 1_800_000_000.0
AGENTS = {"ag-1": "acme", "ag-2": "acme", "ag-3": "other"}
SCOPES = [
    GLOBAL,
    *(Scope("organization", name) for name in ("acme", "other")),
    *(Scope("agent", name) for name in AGENTS),
]
ADDRESSES = [f"203.0.113.{number}" for number in range(4)]

lifetimes = st.sampled_from([None, 1, 5, 30])
scopes = st.sampled_from(SCOPES)
agents = st.sampled_from(sorted(AGENTS))
blocked = st.dictionaries(st.sampled_from(ADDRESSES), lifetimes, max_size=3)


@dataclass
class Document:
    """A scope's document in the test's own words; ends are times, None for never."""

    ends: dict[str, float | None] = field(default_factory=dict)
    allowed: frozenset[str] = frozenset()
    threshold: float | None = None

    def sections(self) -> dict[str, Any]:
        """Return what the policies are given."""
        entries = [
            value if end is None else {"value": value, "expiresAt": iso(end)} for value, end in self.ends.items()
        ]
        document: dict[str, Any] = {"blocklist": {"ips": entries}, "allowlist": {"ips": sorted(self.allowed)}}
        if self.threshold is not None:
            document["thresholds"] = {"autoRespond": self.threshold}
        return document


class Versions(RuleBasedStateMachine):
    """A manager that changes policies, stops, and is given older stores; and agents that obey higher versions only."""

    def __init__(self) -> None:
        super().__init__()
        self.policies = Policies()
        self.now = NOW
        self.documents: dict[Scope, Document] = {}
        self.emergency: dict[str, dict[str, float]] = {}
        self.seen: dict[str, tuple[int, Any]] = {}
        self.backup: tuple[Any, ...] | None = None

    @initialize()
    def enroll(self) -> None:
        for agent_id, organization_id in AGENTS.items():
            self.policies.assign(agent_id, Placement(organization_id), self.now)
        self.check()

    @rule(scope=scopes, ends=blocked, allowed=st.frozensets(st.sampled_from(ADDRESSES), max_size=1),
          threshold=st.sampled_from([None, 60.0, 85.0]))  # fmt: skip
    def set_document(
        self, scope: Scope, ends: dict[str, int | None], allowed: frozenset[str], threshold: float | None
    ) -> None:
        times = {value: None if lasts is None else self.now + lasts for value, lasts in ends.items()}
        self.documents[scope] = document = Document(times, allowed, threshold)
        before = self.expected_all()
        self.policies.set(scope, document.sections(), self.now, "test")
        told = {policy.agent_id for policy in self.policies.recompute(self.policies.affected_by(scope), self.now)}
        self.check_told(told, before)

    @rule(scope=scopes)
    def remove_document(self, scope: Scope) -> None:
        self.documents.pop(scope, None)
        before = self.expected_all()
        self.policies.set(scope, None, self.now, "test")
        told = {policy.agent_id for policy in self.policies.recompute(self.policies.affected_by(scope), self.now)}
        self.check_told(told, before)

    @rule(
        agent_ids=st.sets(agents, min_size=1), ends=st.dictionaries(st.sampled_from(ADDRESSES), st.sampled_from([2, 9]))
    )
    def respond(self, agent_ids: set[str], ends: dict[str, int]) -> None:
        times = {value: self.now + lasts for value, lasts in ends.items()}
        self.emergency.update(dict.fromkeys(agent_ids, times))
        before = self.expected_all()
        told = self.policies.set_emergency({agent_id: self.entries(agent_id) for agent_id in agent_ids}, self.now)
        self.check_told({policy.agent_id for policy in told}, before)

    @rule(seconds=st.sampled_from([1, 2, 4, 40]))
    def pass_time(self, seconds: int) -> None:
        self.now += seconds
        before = self.expected_all()
        told = {policy.agent_id for policy in self.policies.expire(self.now)}
        self.check_told(told, before)

    @rule()
    def restart(self) -> None:
        """Stop, and start 3 s later from what the store kept."""
        self.now += 3
        self.rebuild(self.stored())

    @rule()
    def back_up(self) -> None:
        self.backup = (self.stored(), dict(self.documents), dict(self.emergency))

    @rule()
    def restore_backup(self) -> None:
        """Start from an older store: each agent proves in its next heartbeat what version it has."""
        if self.backup is None:
            return
        stored, self.documents, self.emergency = self.backup[0], dict(self.backup[1]), dict(self.backup[2])
        self.rebuild(stored)
        for agent_id in AGENTS:
            version, said = self.seen[agent_id]
            policy = self.policies.effective[agent_id]
            if version > policy.version or (version == policy.version and said != self.says(agent_id)):
                self.policies.continue_above(agent_id, version, self.now)

    def stored(self) -> tuple[Any, ...]:
        """Return what a store keeps."""
        kept = [
            (policy.agent_id, policy.version, policy.resolved.digest, policy.updated_at, policy.published)
            for policy in self.policies.effective.values()
        ]
        emergency = {agent_id: self.entries(agent_id) for agent_id in self.emergency}
        return self.policies.revision, dict(self.policies.documents), emergency, kept

    def rebuild(self, stored: tuple[Any, ...]) -> None:
        """Build the policies from what a store kept."""
        revision, documents, emergency, kept = stored
        self.policies = Policies()
        self.policies.load(revision, documents, self.now, emergency)
        alike: Alike = {}
        for agent_id, version, digest, updated_at, published in kept:
            placement = Placement(AGENTS[agent_id])
            self.policies.restore(agent_id, placement, version, digest, updated_at, published=published, alike=alike)

    def entries(self, agent_id: str) -> Emergency:
        """Return an agent's emergency entries."""
        ends = self.emergency.get(agent_id, {})
        return Emergency(addresses=tuple(EmergencyBlock(value, "r", "i", end) for value, end in sorted(ends.items())))

    def expected(self, agent_id: str) -> tuple[dict[str, float | None], frozenset[str], float]:
        """Return what an agent's policy says by the rule: live entries, the longest of each, minus the allowlist."""
        threshold, allowed = 85.0, frozenset[str]()
        ends: dict[str, float] = {}
        chain = [GLOBAL, Scope("organization", AGENTS[agent_id]), Scope("agent", agent_id)]
        layers = [self.documents[scope] for scope in chain if scope in self.documents]
        layers.append(Document(dict(self.emergency.get(agent_id, {}))))
        for layer in layers:
            threshold = threshold if layer.threshold is None else layer.threshold
            allowed |= layer.allowed
            for value, end in layer.ends.items():
                if end is None or end > self.now:
                    ends[value] = max(end or inf, ends.get(value, 0.0))
        live = {value: None if end == inf else end for value, end in ends.items() if value not in allowed}
        return live, allowed, threshold

    def expected_all(self) -> dict[str, Any]:
        return {agent_id: self.expected(agent_id) for agent_id in AGENTS}

    def says(self, agent_id: str) -> str:
        return self.policies.effective[agent_id].resolved.digest

    def check_told(self, told: set[str], expected: dict[str, Any]) -> None:
        """Those and only those are told whose policy says something else than it did."""
        differ = {agent_id for agent_id in AGENTS if self.seen[agent_id][1] != self.says(agent_id)}
        assert told == differ, expected

    @invariant()
    def check(self) -> None:
        """Every agent has what the rule says, under a version that never falls and rises with each other content."""
        if not self.policies.effective:
            return
        for agent_id in AGENTS:
            policy = self.policies.effective[agent_id]
            sections = policy.resolved.sections
            ends, allowed, threshold = self.expected(agent_id)
            found = {
                entry["value"] if isinstance(entry, dict) else entry: entry.get("expiresAt")
                if isinstance(entry, dict)
                else None
                for entry in sections["blocklist"]["ips"]
            }
            assert found == {value: end and iso(end) for value, end in ends.items()}
            assert sections["allowlist"]["ips"] == sorted(allowed)
            assert sections["thresholds"]["autoRespond"] == threshold
            assert policy.version <= self.policies.revision
            if agent_id in self.seen:
                version, digest = self.seen[agent_id]
                assert policy.version >= version
                assert policy.resolved.digest == digest or policy.version > version
            self.seen[agent_id] = (policy.version, policy.resolved.digest)


TestVersions = Versions.TestCase
TestVersions.settings = settings(max_examples=examples(60), stateful_step_count=30, deadline=None)
