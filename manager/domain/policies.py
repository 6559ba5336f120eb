"""The fleet's policies: scopes, resolution, revisions, and the effective policy of each agent.

An effective policy is defaults → global → organization → agent (→ live emergency entries). It is computed anew only
for agents that a change touches, and gets a new version only when its digest changed; a version never falls.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from manager.domain.resolution import resolve
from schemas.policy import default_sections, digest_of

Sections = Mapping[str, Any]
ScopeKind = Literal["global", "organization", "agent"]


@dataclass(frozen=True, slots=True, order=True)
class Scope:
    """Whom a policy document is for: everybody, one organization, or one agent (`target` names it)."""

    kind: ScopeKind
    target: str = ""

    def __str__(self) -> str:
        """Return the scope as it is written in tables and logs."""
        return f"{self.kind}:{self.target}" if self.target else self.kind

    @classmethod
    def parse(cls, text: str) -> "Scope":
        """Return the scope that `str` wrote."""
        kind, _, target = text.partition(":")
        if kind == "organization":
            return cls("organization", target)
        return cls("agent", target) if kind == "agent" else cls("global")


GLOBAL = Scope("global")


@dataclass(frozen=True, slots=True)
class Resolved:
    """The sections that some agents share, with their digest and the narrowest scope that had a say."""

    sections: Sections
    digest: str
    scope: ScopeKind


@dataclass(slots=True)
class EffectivePolicy:
    """One agent's policy: `version` is the fleet's revision that last changed the digest; `published` by a PUBACK."""

    agent_id: str
    organization_id: str
    version: int
    resolved: Resolved
    updated_at: float
    published: bool = False


@dataclass(frozen=True, slots=True)
class Revision:
    """One change of the fleet's policies: the document that a scope got, or None if it lost its own."""

    revision: int
    scope: Scope
    document: Sections | None
    at: float
    author: str


class Policies:
    """All documents, the revision counter, and every agent's effective policy."""

    def __init__(self) -> None:
        self.revision = 1
        self.documents: dict[Scope, Sections] = {}
        self.effective: dict[str, EffectivePolicy] = {}
        self._defaults = default_sections()
        self._shared: dict[tuple[Scope, ...], Resolved] = {}

    def load(self, revision: int, documents: Mapping[Scope, Sections]) -> None:
        """Take what the store kept, before any agent is taken."""
        self.revision = max(revision, 1)
        self.documents = dict(documents)
        self._shared.clear()

    def restore(self, agent_id: str, organization_id: str, version: int, digest: str, updated_at: float,
                *, published: bool) -> EffectivePolicy | None:  # fmt: skip
        """Take an agent's effective policy as the store kept it; return it if today's rules changed its digest."""
        resolved = self._resolve(agent_id, organization_id)
        same = resolved.digest == digest
        if not same:
            self.revision += 1
        policy = EffectivePolicy(
            agent_id,
            organization_id,
            version if same else self.revision,
            resolved,
            updated_at,
            published=published and same,
        )
        self.effective[agent_id] = policy
        return None if same else policy

    def document(self, scope: Scope) -> Sections | None:
        """Return what an admin set for a scope."""
        return self.documents.get(scope)

    def set(self, scope: Scope, document: Sections | None, at: float, author: str) -> Revision | None:
        """Give a scope its document, or take it away with None; a change that alters nothing is no revision."""
        before = self.documents.get(scope)
        if before == document:
            return None
        if document is None:
            del self.documents[scope]
        else:
            self.documents[scope] = document
        self.revision += 1
        self._shared.clear()
        return Revision(self.revision, scope, document, at, author)

    def preview(self, scope: Scope, document: Sections | None) -> list[Resolved]:
        """Return what agents would get if `scope` had this document: one for each different chain of layers."""
        trial = Policies()
        trial.load(self.revision, {**self.documents, scope: document or {}})
        targets = {
            (policy.organization_id, agent_id if Scope("agent", agent_id) in trial.documents else "")
            for agent_id in self.touched_by(scope)
            for policy in (self.effective[agent_id],)
        }
        targets.add((scope.target, "") if scope.kind == "organization" else ("", scope.target))
        return [trial._resolve(agent_id, organization_id) for organization_id, agent_id in targets]

    def enter(self, agent_id: str, organization_id: str, at: float) -> EffectivePolicy:
        """Give an agent its effective policy, at registration; one that has it keeps its version."""
        known = self.effective.get(agent_id)
        if known is None:
            resolved = self._resolve(agent_id, organization_id)
            known = EffectivePolicy(agent_id, organization_id, self.revision, resolved, at)
            self.effective[agent_id] = known
        return known

    def touch(self, agent_ids: Iterable[str], at: float) -> list[EffectivePolicy]:
        """Compute agents' effective policies anew; return those whose digest changed, with their new version."""
        changed = []
        for agent_id in agent_ids:
            policy = self.effective[agent_id]
            resolved = self._resolve(agent_id, policy.organization_id)
            if resolved.digest != policy.resolved.digest:
                policy.resolved = resolved
                policy.version = self.revision
                policy.updated_at = at
                policy.published = False
                changed.append(policy)
        return changed

    def touched_by(self, scope: Scope) -> list[str]:
        """Return the agents whose effective policy a change of `scope` may change."""
        if scope.kind == "global":
            return list(self.effective)
        if scope.kind == "organization":
            return [policy.agent_id for policy in self.effective.values() if policy.organization_id == scope.target]
        return [scope.target] if scope.target in self.effective else []

    def continue_above(self, agent_id: str, version: int, at: float) -> EffectivePolicy:
        """An agent proved a version above its own in this store, which was restored: go on above it."""
        self.revision = max(self.revision, version) + 1
        policy = self.effective[agent_id]
        policy.version, policy.updated_at, policy.published = self.revision, at, False
        return policy

    def forget(self, agent_id: str) -> None:
        """Forget a removed agent and the document that was for it alone."""
        self.effective.pop(agent_id, None)
        self.documents.pop(Scope("agent", agent_id), None)

    def _resolve(self, agent_id: str, organization_id: str) -> Resolved:
        chain = (GLOBAL, Scope("organization", organization_id), Scope("agent", agent_id))
        layers = tuple(scope for scope in chain if scope in self.documents)
        found = self._shared.get(layers)
        if found is None:
            sections = resolve([self._defaults, *(self.documents[scope] for scope in layers)])
            found = Resolved(sections, digest_of(sections), layers[-1].kind if layers else "global")
            self._shared[layers] = found
        return found
