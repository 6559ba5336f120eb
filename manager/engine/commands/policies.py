"""Policy commands: set, create, roll back, broadcast, preview and read policies, and list drift."""

import json
from collections.abc import Iterable, Mapping
from functools import partial

from manager.domain.agents.agent import Door
from manager.domain.policies.alerting import channels_named
from manager.domain.policies.diff import Difference, diff
from manager.domain.policies.drift import Drift, drifts, mode_set_by
from manager.domain.policies.fleet_policies import GLOBAL, Policies, Revision, Scope, Sections, policy_of
from manager.domain.policies.groups import PolicyGroup
from manager.domain.policies.preview import count_rolled_back, largest
from manager.domain.policies.preview import preview as preview_steps
from manager.domain.policies.revision_history import documents_at
from manager.engine.alerting import check_channels
from manager.engine.batch import Undo
from manager.engine.commands.fleet import find_agent
from manager.engine.commands.http_agent_requests import CreatePolicy, PolicyCreated
from manager.engine.commands.requests import (
    AgentPolicy,
    Broadcast,
    CountGroups,
    GroupCounts,
    PolicySet,
    Preview,
    Previewed,
    PreviewRollback,
    ReadDrift,
    ReadPolicy,
    RollBack,
    SetPolicy,
)
from manager.engine.context import Context
from manager.engine.policies.merged_policy import merged_policy, sequence_of, with_scopes
from manager.engine.policies.signed_policy import SECTIONS_LIMIT, sections_size
from manager.engine.response import emergency_response, manual_response, ownership
from manager.errors import Conflict, Invalid, NotFound
from schemas.presence import Mode


def set_policy(context: Context, request: SetPolicy) -> PolicySet:
    """Set a policy document and queue the effective policies that it changes.

    Raises:
        Conflict: the priority of the group is another one's.
        Invalid: the effective policy would not fit in a message, or a channel in it is for other organizations.
        NotFound: there is no such agent.
    """
    policies, now = context.fleet.policies, context.batch.now.wall
    scope = request.scope
    if scope.kind == "agent":
        find_agent(context, scope.target)
    if scope.kind == "group" and request.document is not None:
        _check_priority(policies, PolicyGroup.of(scope.target, request.document))
    _check_channels(context, scope, request.document)
    _check_size(policies, scope, request.document)
    before = {scope: policies.document(scope)}
    revision = policies.set(scope, request.document, now, request.author, request.message)
    if revision is None:
        return PolicySet(policies.revision, changed=False, agents=0)
    agents = _apply_revisions(context, [revision], before)
    data = {"scope": str(scope), "revision": policies.revision, "agents": agents}
    context.batch.event("policy_created", data=data, organization_id=_organization_of(context, scope))
    return PolicySet(policies.revision, changed=True, agents=agents)


def _check_channels(context: Context, scope: Scope, document: Sections | None) -> None:
    """Refuse a document that adds a channel of other organizations."""
    organization_id = _organization_of(context, scope)
    if scope.kind == "group" and document is not None:
        organization_id = PolicyGroup.of(scope.target, document).organization_id
    before = context.fleet.policies.document(scope)
    check_channels(context.fleet, organization_id, channels_named(document or {}), channels_named(before or {}))


def _check_priority(policies: Policies, group: PolicyGroup) -> None:
    """Refuse a group with the priority of another one."""
    rival = policies.groups.rival(group)
    if rival is not None:
        raise Conflict(f"priority {group.priority} is that of group {rival}: a priority is given once")


def _check_size(policies: Policies, scope: Scope, document: Sections | None) -> None:
    """Refuse a document by which an effective policy could exceed the size limit of a message."""
    steps = preview_steps(policies, scope, document)
    resolved = [*(step.after for step in steps), *largest(policies, scope, document, SECTIONS_LIMIT)]
    different = {id(each): each for each in resolved}.values()  # placements of the same groups share one policy
    size = max(sections_size(each.sections) for each in different)
    if size > SECTIONS_LIMIT:
        raise Invalid(f"the effective policy would have {size} bytes; at most {SECTIONS_LIMIT} fit in a message")


def create_policy(context: Context, request: CreatePolicy) -> PolicyCreated:
    """Replace a scope's rules and keep its other sections; name and description are stored beside the document.

    Raises:
        Invalid: a rule lacks a member that its type needs.
        NotFound: there is no such agent.
    """
    policies, now = context.fleet.policies, context.batch.now.wall
    scope = scope_of(request.organization_id, request.agent_id)
    document = {**(policies.document(scope) or {}), "rules": list(request.rules)}
    done = set_policy(context, SetPolicy(scope, document, request.author))
    about = {"revision": done.revision, "name": request.name, "description": request.description, "at": now}
    context.batch.changes.meta[f"policy:{scope}"] = json.dumps(about)
    return PolicyCreated(done.revision, now, tuple(policies.affected_by(scope)), done.agents)


def scope_of(organization_id: str | None, agent_id: str | None) -> Scope:
    """Return the scope that an organization id and an agent id name."""
    if agent_id is not None:
        return Scope("agent", agent_id)
    return GLOBAL if organization_id is None else Scope("organization", organization_id)


def _organization_of(context: Context, scope: Scope) -> str | None:
    """Return the organization that a scope is within; None for the whole fleet."""
    if scope.kind == "agent":
        return find_agent(context, scope.target).organization_id
    return scope.target if scope.kind == "organization" else None


def roll_back(context: Context, request: RollBack) -> PolicySet:
    """Restore every document of an earlier revision, as new revisions.

    Raises:
        NotFound: there is no such revision, or it is older than the first change in the history.
    """
    policies, now = context.fleet.policies, context.batch.now.wall
    documents = _documents_at(context, request.revision)
    message = request.message or f"rollback to {request.revision}"
    before = dict(policies.documents)
    revisions = policies.rollback(documents, now, request.author, message)
    if not revisions:
        return PolicySet(policies.revision, changed=False, agents=0)
    agents = _apply_revisions(context, revisions, before)
    context.batch.event("policy_created", data={"scope": "rollback", "revision": policies.revision, "agents": agents})
    return PolicySet(policies.revision, changed=True, agents=agents)


def preview_rollback(context: Context, request: PreviewRollback) -> PolicySet:
    """Return the revision, and the number of agents whose effective policy a rollback would change; changes nothing.

    Raises:
        NotFound: there is no such revision, or it is older than the first change in the history.
    """
    policies, documents = context.fleet.policies, _documents_at(context, request.revision)
    agents = count_rolled_back(policies, documents, context.batch.now.wall)
    return PolicySet(policies.revision, changed=False, agents=agents)


def _documents_at(context: Context, wanted: int) -> dict[Scope, Sections]:
    policies = context.fleet.policies
    if not 1 <= wanted <= policies.revision:
        raise NotFound(f"Revision {wanted} not found: the newest is {policies.revision}")
    history = list(context.archive.revisions())
    first = min((each.revision for each in history), default=None)
    if first is None or wanted < first:
        begins = "is empty" if first is None else f"begins with revision {first}"
        raise NotFound(f"Revision {wanted} not found: the history of policies {begins}; remove the documents set since")
    return documents_at(history, wanted)


def broadcast(context: Context, _request: Broadcast) -> int:
    """Publish every effective policy and every blocklist again."""
    effective = context.fleet.policies.effective
    context.policy_queue.add(effective)
    context.blocklist_messages.publish_all()
    return len(effective)


def read_drift(context: Context, request: ReadDrift) -> list[Drift]:
    """Return the agents whose policy in force differs from their effective policy."""
    fleet = context.fleet
    wanted = request.organizations
    agents = [each for each in fleet.registry.agents.values() if wanted is None or each.organization_id in wanted]
    return list(drifts(agents, fleet.policies.effective, fleet.blocklists.sequences))


def preview(context: Context, request: Preview) -> Previewed:
    """Return the changes that a document would make to effective policies; changes nothing."""
    policies, scope = context.fleet.policies, request.scope
    if scope.kind == "group" and request.document is not None:
        _check_priority(policies, PolicyGroup.of(scope.target, request.document))
    steps = [step for step in preview_steps(policies, scope, request.document) if step.differs]
    found: dict[str, Difference] = {}
    for step in steps:
        for difference in diff(step.before.sections, step.after.sections):
            found.setdefault(difference.path, difference)
    return Previewed([found[path] for path in sorted(found)], sum(step.agents for step in steps))


def count_groups(context: Context, _request: CountGroups) -> dict[str, GroupCounts]:
    """Return the numbers of agents of each policy group, in all and by mode."""
    found: dict[str, GroupCounts] = {}
    for agent in context.fleet.registry.agents.values():
        policy = context.fleet.policies.effective[agent.agent_id]
        is_protecting = agent.vitals.mode == Mode.PROTECTION
        for name in policy.groups:
            counts = found.setdefault(name, GroupCounts())
            counts.agents += 1
            counts.set_to_protection += mode_set_by(policy) == Mode.PROTECTION
            counts.in_protection += is_protecting
            counts.blocking += is_protecting and agent.condition.enforces()
    return found


def read_policy(context: Context, request: ReadPolicy) -> AgentPolicy:
    """Return the policy that an agent enforces, for people: its own with the organization's emergency entries.

    An HTTP agent gets both in one document, under the version and digest shown. An MQTT agent gets them apart: version
    and digest are its policy's, and `blocklistSequence` is the blocklist's. Emergency entries carry their scope.
    """
    agent = find_agent(context, request.agent_id)
    if agent.door is Door.HTTP:
        policy = merged_policy(context, agent)
        version, digest, document = policy.version, policy.digest, policy.document
    else:
        effective = context.fleet.policies.effective[agent.agent_id]
        version, digest = effective.version, effective.resolved.digest
        document = context.serializer.document(effective, context.batch.now.wall)
    entries = context.fleet.responder.entries
    manual = entries.manual
    blocklist = with_scopes(
        document["blocklist"],
        [
            *entries.list_of("organization", agent.organization_id),
            *manual.in_organization(agent.organization_id).values(),
        ],
        [*entries.list_of("agent", agent.agent_id), *entries.manual_of(agent.agent_id).values()],
    )
    shown = {**document, "blocklist": blocklist, "blocklistSequence": sequence_of(context, agent)}
    return AgentPolicy(agent.agent_id, version, digest, shown)


def _apply_revisions(context: Context, revisions: list[Revision], before: Mapping[Scope, Sections | None]) -> int:
    """Update effective policies, allowlists and responses after a change; return the number of changed policies."""
    policies, batch = context.fleet.policies, context.batch
    touched = dict.fromkeys(agent_id for revision in revisions for agent_id in policies.affected_by(revision.scope))
    batch.changes.revisions += revisions
    for each in revisions:
        revert = partial(_put_back, scope=each.scope, document=before.get(each.scope))
        batch.undo.append(Undo("revisions", str(each.scope), revert))
    return _follow_documents(context, touched, {each.scope: each.document for each in revisions})


def _put_back(context: Context, scope: Scope, document: Sections | None) -> None:
    """Restore a document, because the store rejected the revision that changed it."""
    policies = context.fleet.policies
    touched = policies.affected_by(scope)
    policies.put_back(scope, document, context.batch.now.wall)
    _follow_documents(context, dict.fromkeys((*touched, *policies.affected_by(scope))), {scope: document})


def _follow_documents(context: Context, touched: Iterable[str], documents: Mapping[Scope, Sections | None]) -> int:
    """Update what depends on documents, for some agents; return the number of changed policies."""
    fleet, now = context.fleet, context.batch.now.wall
    changed = fleet.policies.recompute(touched, now)
    fleet.document_warnings.set(
        {str(scope): None if each is None else policy_of(scope, each) for scope, each in documents.items()}
    )
    context.batch.changes.fleet_revision = fleet.policies.revision
    emergency_response.publish_policies(context, changed)
    fleet.allowlist.invalidate()
    emergency_response.apply(context, fleet.responder.withdraw_unblockable(now))
    manual_response.regroup(context, touched)
    ownership.follow_groups(context)
    manual_response.withdraw_unblockable(context)
    return len(changed)
