"""Policy groups in any order of groups, priorities, tags, sites and moves of agents, against a naive oracle."""

from dataclasses import dataclass, field
from math import inf
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from manager.domain.policies.explain import Source
from manager.domain.policies.fleet_policies import GLOBAL, Policies, ResolvedPolicy, Scope
from manager.domain.policies.groups import Placement, PolicyGroup
from manager.domain.policies.preview import preview
from schemas.model import iso
from tests.support.examples import examples

NOW = 1_800_000_000.0
ORGANIZATIONS = ("acme", "other")
SITES = ("bonn", "rome")
TAGS = ("web", "db", "eu")
AGENTS = tuple(f"ag-{number}" for number in range(4))
NAMES = ("a", "b", "c", "d")
ADDRESSES = ("203.0.113.1", "203.0.113.2")

tags = st.frozensets(st.sampled_from(TAGS))
placements = st.builds(Placement, st.sampled_from(ORGANIZATIONS), st.sampled_from([None, *SITES]), tags)
policies = st.fixed_dictionaries(
    {},
    optional={
        "thresholds": st.fixed_dictionaries({}, optional={
            "autoRespond": st.sampled_from([70.0, 80.0]), "notifyAndWait": st.sampled_from([40.0, 60.0])}),
        "mode": st.sampled_from(["learning", "protection"]),
        "monitors": st.fixed_dictionaries({"enabled": st.sampled_from([["log"], ["log", "file"]])}),
        "blocklist": st.fixed_dictionaries({"ips": st.lists(st.builds(
            lambda value, end: value if end is None else {"value": value, "expiresAt": iso(NOW + end)},
            st.sampled_from(ADDRESSES), st.sampled_from([None, 10, 20])), max_size=2)}),
        "allowlist": st.fixed_dictionaries({"ips": st.lists(st.sampled_from(ADDRESSES), max_size=1)}),
    },
)  # fmt: skip
selectors = st.fixed_dictionaries(
    {},
    optional={
        "tagsAll": st.lists(st.sampled_from(TAGS), max_size=2),
        "tagsAny": st.lists(st.sampled_from(TAGS), max_size=2),
        "sites": st.lists(st.sampled_from(SITES), max_size=2),
    },
)


@dataclass
class Expected:
    """What the rule says of one agent, in the test's own words: each value and the document that it comes from."""

    values: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, Source] = field(default_factory=dict)
    listed: dict[str, set[Source]] = field(default_factory=dict)


class Groups(RuleBasedStateMachine):
    """An operator who sets, changes and removes documents, and moves agents about."""

    def __init__(self) -> None:
        super().__init__()
        self.policies = Policies()
        self.places: dict[str, Placement] = {}
        self.documents: dict[Scope, dict[str, Any]] = {}

    @initialize(given=st.lists(placements, min_size=len(AGENTS), max_size=len(AGENTS)))
    def enroll(self, given: list[Placement]) -> None:
        for agent_id, placement in zip(AGENTS, given, strict=True):
            self.policies.assign(agent_id, placement, NOW)
            self.places[agent_id] = placement

    @rule(name=st.sampled_from(NAMES), selector=selectors, priority=st.integers(0, 3),
          organization=st.sampled_from([None, *ORGANIZATIONS]), policy=policies)  # fmt: skip
    def set_group(
        self, name: str, selector: dict[str, Any], priority: int, organization: str | None, policy: dict[str, Any]
    ) -> None:
        document = {"selector": selector, "priority": priority, "policy": policy}
        if organization is not None:
            document["organization"] = organization
        taken = any(
            (each.get("organization"), each["priority"]) == (organization, priority)
            for scope, each in self.documents.items()
            if scope.kind == "group" and scope.target != name
        )
        assert (self.policies.groups.rival(PolicyGroup.of(name, document)) is not None) == taken
        if not taken:
            self.change(Scope("group", name), document)

    @rule(scope=st.sampled_from([GLOBAL, *(Scope("organization", name) for name in ORGANIZATIONS),
                                 *(Scope("agent", name) for name in AGENTS)]), policy=policies)  # fmt: skip
    def set_document(self, scope: Scope, policy: dict[str, Any]) -> None:
        self.change(scope, policy)

    @precondition(lambda self: self.documents)
    @rule(data=st.data())
    def remove_document(self, data: st.DataObject) -> None:
        self.change(data.draw(st.sampled_from(sorted(self.documents))), None)

    @rule(agent_id=st.sampled_from(AGENTS), placement=placements)
    def move_agent(self, agent_id: str, placement: Placement) -> None:
        before = self.digests()
        self.places[agent_id] = placement
        told = {policy.agent_id for policy in self.policies.move(agent_id, placement, NOW)}
        assert told == self.changed_since(before)

    @rule()
    def restart(self) -> None:
        kept = [
            (each.agent_id, each.version, each.resolved.digest, each.updated_at)
            for each in self.policies.effective.values()
        ]
        revision, documents = self.policies.revision, dict(self.policies.documents)
        self.policies = Policies()
        self.policies.load(revision, documents, NOW)
        alike: dict[Placement, ResolvedPolicy] = {}
        for agent_id, *stored in kept:
            place = self.places[agent_id]
            assert self.policies.restore(agent_id, place, *stored, published=True, alike=alike) is None

    def change(self, scope: Scope, document: dict[str, Any] | None) -> None:
        """Set a document; what the preview counts, and who is told, are those whose policy differs."""
        steps = preview(self.policies, scope, document)
        counted = sum(step.agents for step in steps if step.differs)
        before = self.digests()
        self.documents.pop(scope, None)
        if document is not None:
            self.documents[scope] = document
        self.policies.set(scope, document, NOW, "test")
        told = {policy.agent_id for policy in self.policies.recompute(self.policies.affected_by(scope), NOW)}
        assert told == self.changed_since(before)
        assert counted == len(told)

    def digests(self) -> dict[str, str]:
        return {agent_id: self.policies.effective[agent_id].resolved.digest for agent_id in self.places}

    def changed_since(self, before: dict[str, str]) -> set[str]:
        return {agent_id for agent_id, digest in self.digests().items() if digest != before[agent_id]}

    def chain(self, agent_id: str) -> list[tuple[Source, dict[str, Any]]]:
        """Return the documents that apply to an agent, the widest first."""
        place = self.places[agent_id]
        groups = []
        for scope, each in self.documents.items():
            selector, own = each.get("selector", {}), each.get("organization")
            if (
                scope.kind == "group"
                and own in {None, place.organization_id}
                and all(tag in place.tags for tag in selector.get("tagsAll", ()))
                and (not selector.get("tagsAny") or any(tag in place.tags for tag in selector["tagsAny"]))
                and (not selector.get("sites") or place.site in selector["sites"])
            ):
                groups.append((own is not None, each["priority"], scope.target))
        order = [GLOBAL, Scope("organization", place.organization_id)]
        order += [Scope("group", name) for *_, name in sorted(groups)] + [Scope("agent", agent_id)]
        found = [(scope, self.documents[scope]) for scope in order if scope in self.documents]
        return [
            (Source(scope.kind, scope.target), each["policy"] if scope.kind == "group" else each)
            for scope, each in found
        ]

    def expected(self, agent_id: str) -> Expected:
        """Merge an agent's documents value by value."""
        defaults = {"thresholds.autoRespond": 85, "thresholds.notifyAndWait": 50,
                    "monitors.enabled": ["log", "network", "process", "file"]}  # fmt: skip
        found = Expected(dict(defaults), dict.fromkeys(defaults, Source("default")))
        entries: dict[str, list[tuple[float, int, Source, Any]]] = {}
        allowed = {}
        for number, (source, policy) in enumerate(self.chain(agent_id)):
            said = {f"thresholds.{name}": value for name, value in policy.get("thresholds", {}).items()}
            said |= {"response.mode": policy["mode"]} if "mode" in policy else {}
            said |= {f"monitors.{name}": value for name, value in policy.get("monitors", {}).items()}
            for path, value in said.items():
                found.values[path], found.sources[path] = value, source
            for value in policy.get("allowlist", {}).get("ips", ()):
                allowed[value] = source
            for entry in policy.get("blocklist", {}).get("ips", ()):
                is_bare = isinstance(entry, str)
                end = inf if is_bare else 20.0 if entry["expiresAt"] == iso(NOW + 20) else 10.0
                entries.setdefault(entry if is_bare else entry["value"], []).append((end, number, source, entry))
        for value, source in allowed.items():
            path = f"allowlist.ips[{value}]"
            found.values[path], found.sources[path] = value, source
        for value, listed in entries.items():
            if value not in allowed:
                path = f"blocklist.ips[{value}]"
                end, last = max((end, number) for end, number, *_ in listed)
                *_, (source, entry) = [each[2:] for each in listed if each[:2] == (end, last)]
                found.values[path], found.sources[path] = entry, source
                found.listed[path] = {each[2] for each in listed}
        return found

    @invariant()
    def check(self) -> None:
        """Each value is the one of the last document that sets it, and the explanation names that document."""
        for agent_id in self.places:
            expected = self.expected(agent_id)
            explained = {each.path: each for each in self.policies.explain(agent_id)}
            unset = {"response.mode"} - expected.values.keys()
            shown = {path for path in explained if path.partition("[")[0] in
                     {"blocklist.ips", "allowlist.ips", "response.mode", *expected.values}}  # fmt: skip
            assert shown == expected.values.keys() - unset
            assert {path: explained[path].value for path in shown} == expected.values
            assert {path: explained[path].source for path in shown} == expected.sources
            assert {path: set(explained[path].sources) for path in expected.listed} == expected.listed
            chain = {source.target for source, _ in self.chain(agent_id) if source.kind == "group"}
            assert set(self.policies.effective[agent_id].groups) == chain
            self.check_whole(agent_id, explained)

    def check_whole(self, agent_id: str, explained: dict[str, Any]) -> None:
        """No value of the policy is left out of its explanation, and none is there that the policy has not."""
        sections = self.policies.effective[agent_id].resolved.sections
        paths = set()
        for name, section in sections.items():
            for member, value in section.items() if isinstance(section, dict) else [("", section)]:
                if name in {"blocklist", "allowlist"}:
                    paths |= {f"{name}.{member}[{each['value'] if isinstance(each, dict) else each}]" for each in value}
                elif isinstance(value, dict) and value:
                    paths |= {f"{name}.{member}.{inner}" for inner in value}
                else:
                    paths.add(f"{name}.{member}".rstrip("."))
        assert explained.keys() == paths

    @invariant()
    def check_members(self) -> None:
        """`members` returns the agents to which a group applies."""
        for scope in self.documents:
            if scope.kind == "group":
                inside = {a for a in self.places if scope.target in self.policies.effective[a].groups}
                assert set(self.policies.members(scope.target)) == inside


TestGroups = Groups.TestCase
TestGroups.settings = settings(max_examples=examples(40), stateful_step_count=15, deadline=None)
