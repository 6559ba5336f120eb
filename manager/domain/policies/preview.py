"""Preview of a policy change: the policies before and after it, and the number of agents that it touches."""

from collections import Counter
from collections.abc import Mapping
from itertools import product
from typing import NamedTuple

from manager.domain.policies.fleet_policies import Policies, ResolvedPolicy, Scope, Sections
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


def largest(policies: Policies, scope: Scope, document: Sections | None) -> list[ResolvedPolicy]:
    """Return the policies of agents in as many groups as possible, if `scope` had this document."""
    trial = policies.with_document(scope, document)
    groups = trial.groups
    organizations = {*groups.organizations, _example(trial, scope).organization_id}
    places = product(sorted(organizations), (None, *sorted(groups.sites)))
    return [trial.resolve("", Placement(organization_id, site, groups.tags)) for organization_id, site in places]


def _example(policies: Policies, scope: Scope) -> Placement:
    """Return the placement of an agent to which a scope's document applies."""
    group = policies.groups.find(scope.target) if scope.kind == "group" else None
    if group is not None:
        return group.example
    return Placement(scope.target if scope.kind == "organization" else "")
