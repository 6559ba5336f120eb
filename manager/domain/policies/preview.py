"""Preview of a policy change: the policies before and after it, and the number of agents that it touches."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from manager.domain.policies.fleet_policies import GLOBAL, Policies, ResolvedPolicy, Scope, Sections
from manager.domain.policies.groups import Placement


class PreviewStep(NamedTuple):
    """The policy before and after a change, and the number of agents that have it; 0 for a future agent's."""

    before: ResolvedPolicy
    after: ResolvedPolicy
    agents: int

    @property
    def differs(self) -> bool:
        """Whether the change makes a difference."""
        return self.before.digest != self.after.digest


def preview(policies: Policies, scope: Scope, document: Sections | None) -> list[PreviewStep]:
    """Return the policies that would result if `scope` had this document, without emergency entries.

    One step for each different chain of documents, and one for a future agent of the scope. Entries count as long as
    they are in a document, expired or not.

    Raises:
        Invalid: a rule in it is invalid; the text names the field.
    """
    trial = policies.with_document(scope, document)
    agents: Counter[tuple[Placement, str]] = Counter()
    for agent_id in dict.fromkeys((*policies.affected_by(scope), *trial.affected_by(scope))):
        has_own = scope.target == agent_id or policies.document(Scope("agent", agent_id)) is not None
        agents[policies.effective[agent_id].placement, agent_id if has_own else ""] += 1
    agents[_example(trial, scope), scope.target if scope.kind == "agent" else ""] += 0
    return [
        PreviewStep(policies.resolve(agent_id, placement), trial.resolve(agent_id, placement), number)
        for (placement, agent_id), number in agents.items()
    ]


def count_rolled_back(policies: Policies, documents: Mapping[Scope, Sections], at: float) -> int:
    """Return the number of agents whose effective policy a rollback to these documents would change."""
    trial = policies.trial()
    trial.rollback(documents, at, "")
    return sum(
        trial.resolve(each.agent_id, each.placement, at).digest != each.resolved.digest
        for each in policies.effective.values()
    )


def largest(policies: Policies, scope: Scope, document: Sections | None, limit: int) -> list[ResolvedPolicy]:
    """Return the policies of agents in as many groups as possible that may exceed a size, if `scope` had this document.

    Only policies that the document changes are among them: the others were in force before.

    Args:
        policies: the documents in force.
        scope: an organization, a group, or the whole fleet; an agent's own document is in no other policy.
        document: the scope's new document.
        limit: the size in bytes; policies whose documents together are not larger are left out.
    """
    if scope.kind == "agent":
        return []
    trial = policies.with_document(scope, document)
    organizations, sites = _places(policies, trial, scope)
    found = []
    for organization_id in organizations:
        if trial.size_of(_scopes_in(trial, organization_id)) <= limit:
            continue
        for site in sites:
            placement = Placement(organization_id, site, trial.groups.tags)
            found.append(trial.resolve("", placement))
    return found


def _scopes_in(policies: Policies, organization_id: str) -> Iterator[Scope]:
    """Yield the scopes of all documents that apply to some agent of an organization, but for agents' own."""
    yield GLOBAL
    yield Scope("organization", organization_id)
    for name in policies.groups.names_in(organization_id):
        yield Scope("group", name)


def _places(policies: Policies, trial: Policies, scope: Scope) -> tuple[list[str], list[str | None]]:
    """Return the organizations and sites in which a scope's documents, before and after a change, apply."""
    organizations = {*trial.groups.organizations, _example(trial, scope).organization_id}
    organizations |= {each.target for each in policies.documents if each.kind == "organization"}
    sites: set[str | None] = {None, *trial.groups.sites}
    found = (each.groups.find(scope.target) for each in (policies, trial)) if scope.kind == "group" else ()
    groups = [group for group in found if group is not None]
    if scope.kind == "organization":
        organizations = {scope.target}
    elif groups and all(group.organization_id is not None for group in groups):
        organizations = {group.organization_id or "" for group in groups}
    if groups and all(group.selector.sites for group in groups):
        sites = {site for group in groups for site in group.selector.sites}
    return sorted(organizations), sorted(sites, key=lambda site: site or "")


def _example(policies: Policies, scope: Scope) -> Placement:
    """Return the placement of an agent to which a scope's document applies."""
    group = policies.groups.find(scope.target) if scope.kind == "group" else None
    if group is not None:
        return group.example
    return Placement(scope.target if scope.kind == "organization" else "")
