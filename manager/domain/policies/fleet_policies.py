"""Policies of the fleet: scopes, revisions, and the effective policy of each agent.

An effective policy is defaults → global → organization → groups → agent → live emergency entries. It is recomputed
only for agents that a change affects, and gets a new version only when its digest changed; a version never falls.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from typing import Any, Literal, TypeAlias
from weakref import WeakValueDictionary

from msgspec import Struct

from manager.domain.policies.diff import is_urgent
from manager.domain.policies.explain import DEFAULT, Explained, Source, explain, raised
from manager.domain.policies.groups import Placement, PolicyGroup, PolicyGroups
from manager.domain.policies.layers import Emergency, Layer, Sections, expired_by, merge_layers
from manager.domain.policies.scopes import GLOBAL, Revision, Scope, check_shape, policy_of, stamped
from manager.errors import Invalid
from schemas.policy import default_sections, digest_of

__all__ = [
    "GLOBAL",
    "Alike",
    "EffectivePolicy",
    "Emergency",
    "Policies",
    "ResolvedPolicy",
    "Revision",
    "Scope",
    "Sections",
    "check_shape",
    "policy_of",
]


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class ResolvedPolicy:
    """Resolved sections that several agents share, with their digest and the narrowest scope that contributed.

    `scope` is what guards of every release read: a group counts as `agent`.
    `under` is the policy below emergency entries, where there are any.
    """

    sections: Sections
    digest: str
    scope: Literal["global", "organization", "agent"]
    under: "ResolvedPolicy | None" = field(default=None, repr=False)


Alike: TypeAlias = dict[tuple[Placement, Emergency | None], ResolvedPolicy]
"""The policies of agents without a document of their own, by all on which these depend beside the documents."""


class EffectivePolicy(Struct, gc=False):
    """One agent's policy. `version` is the revision that last changed its digest; `published` after the PUBACK.

    `urgent` is true where an unpublished change must reach the agent at once, over HTTP too.
    """

    agent_id: str
    placement: Placement
    version: int
    resolved: ResolvedPolicy
    updated_at: float
    published: bool = False
    urgent: bool = False
    groups: tuple[str, ...] = ()
    """The names of the groups whose policies it contains, in the order in which they apply."""


class Policies:
    """All documents, the revision counter, and every agent's effective policy. Times are seconds since 1970."""

    def __init__(self) -> None:
        self.revision = 1
        self.documents: dict[Scope, Sections] = {}
        self.groups = PolicyGroups()
        self.effective: dict[str, EffectivePolicy] = {}
        self._layers: dict[Scope, Layer] = {}
        self._emergency: dict[str, Emergency] = {}
        self._defaults = Layer.of_sections(default_sections())
        # Shared by agents; an entry is dropped with the last agent that has it.
        self._resolved: WeakValueDictionary[Any, ResolvedPolicy] = WeakValueDictionary()
        self._due: list[tuple[float, int, Scope | str, Layer | Emergency]] = []
        self._order = count()
        self._loaded_at = 0.0
        self._loaded_revision = 1

    def load(
        self,
        revision: int,
        documents: Mapping[Scope, Sections],
        at: float = 0.0,
        emergency: Mapping[str, Emergency] | None = None,
    ) -> None:
        """Restore documents and revision, before any agent is restored.

        Args:
            revision: the fleet's revision.
            documents: the documents by scope.
            at: the time as of which `restore` resolves: what has expired by then is not in effect.
            emergency: the agents' own emergency entries.
        """
        self.revision = self._loaded_revision = max(revision, 1)
        self._loaded_at = at
        self.documents = dict(documents)
        self.groups.load(_groups_in(documents))
        self._layers = {scope: _layer_of_stored(policy_of(scope, document)) for scope, document in documents.items()}
        self._emergency = dict(emergency or {})
        self._due.clear()
        for scope, layer in self._layers.items():
            self._schedule(scope, layer, at)
        for agent_id, entries in self._emergency.items():
            self._schedule(agent_id, entries, at)

    def restore(self, agent_id: str, placement: Placement, version: int, digest: str, updated_at: float,
                *, published: bool, alike: Alike) -> EffectivePolicy | None:  # fmt: skip
        """Restore an agent's policy, or share one `alike` without an own document; return it if its digest changed."""
        has_own = Scope("agent", agent_id) in self._layers
        facts = placement, self._emergency.get(agent_id)
        resolved = (None if has_own else alike.get(facts)) or self.resolve(agent_id, placement, self._loaded_at)
        if not has_own:
            alike[facts] = resolved
        same = resolved.digest == digest
        self.revision = max(self.revision, version)
        if not same and self.revision <= max(version, self._loaded_revision):
            self.revision += 1
        at = updated_at if same else max(updated_at, self._loaded_at)
        policy = EffectivePolicy(agent_id, placement, version if same else self.revision, resolved, at)
        policy.published, policy.groups = published and same, self.groups.of(placement)
        self.effective[agent_id] = policy
        return None if same else policy

    def document(self, scope: Scope) -> Sections | None:
        """Return the document of a scope."""
        return self.documents.get(scope)

    def set(
        self, scope: Scope, document: Sections | None, at: float, author: str, message: str | None = None
    ) -> Revision | None:
        """Set or remove (None) the document of a scope; return None if nothing changed.

        Raises:
            Invalid: a rule in it is invalid; the text names the field, and nothing was changed.
        """
        before = self.documents.get(scope)
        if document is not None:
            document = stamped(scope, document, before, at)
        if before == document:
            return None
        self._put(scope, document, at)
        self.revision += 1
        return Revision(self.revision, scope, document, at, author, message)

    def put_back(self, scope: Scope, document: Sections | None, at: float) -> None:
        """Restore the document of a scope as it was before `set`, without a revision: the store rejected that one."""
        if self.documents.get(scope) != document:
            self._put(scope, document, at)
            self.revision += 1

    def _put(self, scope: Scope, document: Sections | None, at: float) -> None:
        if document is None:
            del self.documents[scope], self._layers[scope]
            if scope.kind == "group":
                self.groups.remove(scope.target)
            return
        layer = Layer.of(policy_of(scope, document))
        self.documents[scope], self._layers[scope] = document, layer
        if scope.kind == "group":
            self.groups.set(PolicyGroup.of(scope.target, document))
        self._schedule(scope, layer, at)

    def rollback(
        self, documents: Mapping[Scope, Sections], at: float, author: str, message: str | None = None
    ) -> list[Revision]:
        """Restore the documents of an earlier revision, in one new revision for each scope that differs.

        A rule keeps the time at which it was set: an expired block does not come back. Documents of removed agents are
        not restored.
        """
        revisions = []
        for scope in sorted({*self.documents, *documents}):
            if scope.kind == "agent" and scope.target not in self.effective:
                continue
            revision = self.set(scope, documents.get(scope), at, author, message)
            if revision is not None:
                revisions.append(revision)
        return revisions

    def trial(self) -> "Policies":
        """Return a copy of documents, groups and emergency entries, to try changes on; agents stay as they are."""
        trial = Policies()
        trial.documents, trial.effective, trial.groups = dict(self.documents), self.effective, self.groups.copy()
        trial._layers, trial._emergency = dict(self._layers), dict(self._emergency)
        return trial

    def with_document(self, scope: Scope, document: Sections | None) -> "Policies":
        """Return policies in which `scope` has this document, or none, without emergency entries."""
        trial = Policies()
        trial.effective, trial.groups, trial._layers = self.effective, self.groups.copy(), dict(self._layers)
        trial._layers.pop(scope, None)
        if document is not None:
            document = stamped(scope, document, None, 0.0)
            trial._layers[scope] = Layer.of(policy_of(scope, document))
        if scope.kind == "group":
            if trial.groups.find(scope.target) is not None:
                trial.groups.remove(scope.target)
            if document is not None:
                trial.groups.set(PolicyGroup.of(scope.target, document))
        return trial

    def of_organization(self, organization_id: str, at: float) -> ResolvedPolicy:
        """Return the effective policy of an organization's agents without groups, documents or entries of their own."""
        return self.resolve("", Placement(organization_id), at)

    def assign(self, agent_id: str, placement: Placement, at: float) -> EffectivePolicy:
        """Give a new agent its effective policy; a known agent keeps its version and placement (see `move`)."""
        known = self.effective.get(agent_id)
        if known is None:
            resolved = self.resolve(agent_id, placement, at)
            known = EffectivePolicy(agent_id, placement, self.revision, resolved, at, groups=self.groups.of(placement))
            self.effective[agent_id] = known
        return known

    def move(self, agent_id: str, placement: Placement, at: float) -> list[EffectivePolicy]:
        """Change the organization, site or tags of an agent; return its policy if the digest changed."""
        policy = self.effective[agent_id]
        if policy.placement == placement:
            return []
        policy.placement = placement
        return self._recompute([agent_id], at, counted=False)

    def members(self, name: str) -> list[str]:
        """Return the ids of a group's agents."""
        group = self.groups.find(name)
        if group is None:
            return []
        return [policy.agent_id for policy in self.effective.values() if group.selects(policy.placement)]

    def recompute(self, agent_ids: Iterable[str], at: float) -> list[EffectivePolicy]:
        """Recompute agents' effective policies; return those whose digest changed, with their new version."""
        return self._recompute(agent_ids, at, counted=True)

    def affected_by(self, scope: Scope) -> list[str]:
        """Return the agents whose effective policy a change of `scope` may change."""
        if scope.kind == "global":
            return list(self.effective)
        if scope.kind == "organization":
            return [each.agent_id for each in self.effective.values() if each.placement.organization_id == scope.target]
        if scope.kind == "group":
            earlier = (policy.agent_id for policy in self.effective.values() if scope.target in policy.groups)
            return list(dict.fromkeys((*earlier, *self.members(scope.target))))
        return [scope.target] if scope.target in self.effective else []

    def set_emergency(self, entries: Mapping[str, Emergency], at: float) -> list[EffectivePolicy]:
        """Replace agents' own emergency entries (an empty `Emergency` removes them); return the changed policies."""
        for agent_id, emergency in entries.items():
            if emergency == Emergency():
                self._emergency.pop(agent_id, None)
            elif agent_id in self.effective:
                self._emergency[agent_id] = emergency
                self._schedule(agent_id, emergency, at)
        return self._recompute(entries, at, counted=False)

    def next_expiry(self) -> float | None:
        """Return the time of the next expiry in a document or in an agent's emergency entries."""
        while self._due and not self._is_current(self._due[0][2], self._due[0][3]):
            heappop(self._due)
        return self._due[0][0] if self._due else None

    def expire(self, now: float) -> list[EffectivePolicy]:
        """Recompute policies with entries that have expired by now; return the changed ones, in one new revision."""
        touched: dict[str, None] = {}
        while (due := self.next_expiry()) is not None and due <= now:
            _, _, target, source = heappop(self._due)
            self._schedule(target, source, now)
            agent_ids = self.affected_by(target) if isinstance(target, Scope) else [target]
            touched.update(dict.fromkeys(agent_ids))
        return self._recompute(touched, now, counted=False)

    def advance(self) -> int:
        """Count a change outside the documents, such as one of a blocklist; return the new revision."""
        self.revision += 1
        return self.revision

    def explain(self, agent_id: str) -> list[Explained]:
        """Return each value of an agent's effective policy with its source, as of the policy's last resolution."""
        policy = self.effective[agent_id]
        chain = self._chain(agent_id, policy.placement)
        layers = [(DEFAULT, self._defaults.sections)]
        layers += [(Source(scope.kind, scope.target), self._layers[scope].sections) for scope in chain]
        emergency = self._emergency.get(agent_id)
        if emergency is not None:
            own = Source("emergency", agent_id)
            layers.append((own, emergency.blocklist(0.0)))
            base = policy.resolved.under
            if base is not None:
                layers += [(own, raised) for raised in raised(base.sections, policy.resolved.sections)]
        return explain(layers, policy.resolved.sections)

    def renew(self, agent_id: str, at: float) -> EffectivePolicy:
        """Give an agent's policy a new version without other content, so that its guard takes what is beside it."""
        policy = self.effective[agent_id]
        policy.version, policy.updated_at, policy.published = self.advance(), at, False
        return policy

    def continue_above(self, agent_id: str, version: int, at: float) -> EffectivePolicy:
        """Raise the revision above the version that an agent proved to have, after a restore from an older copy."""
        self.revision = max(self.revision, version) + 1
        policy = self.effective[agent_id]
        policy.version, policy.updated_at, policy.published = self.revision, at, False
        return policy

    def forget(self, agent_id: str) -> None:
        """Drop a removed agent and its own documents and entries."""
        self.effective.pop(agent_id, None)
        self.documents.pop(Scope("agent", agent_id), None)
        self._layers.pop(Scope("agent", agent_id), None)
        self._emergency.pop(agent_id, None)

    def _recompute(self, agent_ids: Iterable[str], at: float, *, counted: bool) -> list[EffectivePolicy]:
        """Recompute effective policies; `counted` tells that the cause has already raised the revision."""
        changed: list[EffectivePolicy] = []
        urgency: dict[tuple[str, str], bool] = {}
        for agent_id in agent_ids:
            policy = self.effective.get(agent_id)
            if policy is None:
                continue
            before, after = policy.resolved, self.resolve(agent_id, policy.placement, at)
            policy.groups = self.groups.of(policy.placement)
            policy.resolved = after  # even with the same digest: agents must share one object
            if after.digest == before.digest:
                continue
            step = (before.digest, after.digest)
            if step not in urgency:
                urgency[step] = is_urgent(before.sections, after.sections)
            policy.urgent = urgency[step] or (policy.urgent and not policy.published)
            changed.append(policy)
        if changed and (not counted or any(policy.version >= self.revision for policy in changed)):
            self.revision += 1
        for policy in changed:
            policy.version, policy.updated_at, policy.published = self.revision, at, False
        return changed

    def _chain(self, agent_id: str, placement: Placement) -> list[Scope]:
        """Return the scopes whose documents apply to an agent, the widest first."""
        groups = (Scope("group", name) for name in self.groups.of(placement))
        chain = (GLOBAL, Scope("organization", placement.organization_id), *groups, Scope("agent", agent_id))
        return [scope for scope in chain if scope in self._layers]

    def size_of(self, scopes: Iterable[Scope]) -> int:
        """Return the size of the defaults and some documents together, in bytes: no policy of them is larger."""
        return self._defaults.size + sum(self._layers[scope].size for scope in scopes if scope in self._layers)

    def resolve(self, agent_id: str, placement: Placement, at: float = 0.0) -> ResolvedPolicy:
        """Return the policy of an agent with this placement, with its emergency entries, as of a time."""
        scopes = self._chain(agent_id, placement)
        layers = (self._defaults, *(self._layers[scope] for scope in scopes))
        kind = scopes[-1].kind if scopes else "global"
        key = (layers, expired_by(layers, None, at))
        base = self._resolved.get(key)
        if base is None:
            sections = merge_layers([layer.sections for layer in layers], at)
            base = self._resolved[key] = ResolvedPolicy(
                sections, digest_of(sections), "agent" if kind == "group" else kind
            )
        emergency = self._emergency.get(agent_id)
        if emergency is None or emergency.is_over(at):
            return base
        own = (layers, expired_by(layers, emergency, at), emergency)
        found = self._resolved.get(own)
        if found is None:
            sections = emergency.apply_to(base.sections, at)
            found = self._resolved[own] = ResolvedPolicy(sections, digest_of(sections), "agent", base)
        return found

    def _schedule(self, target: Scope | str, source: Layer | Emergency, at: float) -> None:
        due = next((time for time in source.expiries if time > at), None)
        if due is not None:
            heappush(self._due, (due, next(self._order), target, source))

    def _is_current(self, target: Scope | str, source: Layer | Emergency) -> bool:
        if isinstance(target, Scope):
            return self._layers.get(target) is source
        return self._emergency.get(target) is source


def _groups_in(documents: Mapping[Scope, Sections]) -> list[PolicyGroup]:
    return [PolicyGroup.of(scope.target, each) for scope, each in documents.items() if scope.kind == "group"]


def _layer_of_stored(document: Sections) -> Layer:
    """Compile a stored document; without its rules if this release does not understand them."""
    try:
        return Layer.of(document)
    except Invalid:
        return Layer.of({name: section for name, section in document.items() if name != "rules"})
