"""Changes of agents by operators: tags, site and organization; removal of agents that are not heard of any more."""

from collections.abc import Iterator
from copy import copy
from functools import partial
from itertools import islice

from manager.domain.agents.agent import Agent, State
from manager.domain.instant import Instant
from manager.domain.policies.groups import Placement
from manager.domain.response import Subject
from manager.engine.batch import HistoryLine, Undo
from manager.engine.commands import audit
from manager.engine.commands.fleet import find_agent, remove_agent
from manager.engine.commands.requests import (
    UNCHANGED,
    AgentsChanged,
    ChangeAgent,
    ChangeAgents,
    PruneAgents,
    PrunedAgents,
    RemoveAgent,
)
from manager.engine.context import Context
from manager.engine.fleet import placement_of
from manager.engine.policies.signed_policy import SECTIONS_LIMIT, sections_size
from manager.engine.response import emergency_response, manual_response, ownership
from manager.errors import Conflict, Invalid
from schemas.identifiers import hostname_key

EPHEMERAL_RETENTION = 3600.0
"""Seconds that an ephemeral agent is kept while it is offline."""

TAGS_LIMIT = 32
"""The most tags of an agent."""

_NAMED = 20
"""The most refused agents that an error names."""

PRUNED_AT_ONCE = 200
"""The maximum number of agents that one request or tick removes."""


def change_agent(context: Context, request: ChangeAgent) -> str:
    """Set tags, site or organization of an agent, and queue its policy if that changes.

    Raises:
        Conflict: another agent of this hostname is in the organization.
        Invalid: the effective policy would not fit in a message.
        NotFound: there is no such agent.
    """
    agent, batch, fleet = find_agent(context, request.agent_id), context.batch, context.fleet
    before, revert = placement_of(agent), partial(_put_back, former=copy(agent))
    _check_size(context, agent, request)
    organization_id = request.organization_id or agent.organization_id
    if organization_id != agent.organization_id and not fleet.registry.move(agent, organization_id):
        raise Conflict(f"organization {organization_id} has an agent {agent.hostname} already; remove one of them")
    if request.tags is not None:
        agent.host = agent.host.changed(tags=tuple(dict.fromkeys(request.tags)))
        agent.operator_set |= {"tags"}
    if request.site != UNCHANGED:
        agent.host = agent.host.changed(site=request.site)
        agent.operator_set |= {"site"}
    batch.save(agent)
    batch.undo.append(Undo("agents", agent.agent_id, revert))
    _follow_change(context, agent, before)
    if placement_of(agent) != before:
        batch.changes.history.append(HistoryLine(agent.agent_id, batch.now.wall, "agent_changed", request.author))
        batch.event("agent_changed", agent, {"site": agent.host.site, "tags": list(agent.host.tags)})
    return agent.agent_id


def _follow_change(context: Context, agent: Agent, before: Placement) -> None:
    """Update policy, blocks and addresses after a change of what chooses an agent's groups."""
    fleet, now = context.fleet, context.batch.now.wall
    after = placement_of(agent)
    changed = fleet.policies.move(agent.agent_id, after, now)
    if after.organization_id != before.organization_id:
        changed = [fleet.policies.renew(agent.agent_id, now)]
        _enter_organization(context, agent)
    emergency_response.publish_policies(context, changed)
    fleet.set_addresses(agent)
    own = fleet.addresses.indicators_of(agent.agent_id)
    emergency_response.apply(context, fleet.responder.withdraw_unblockable(now, map(Subject.of, own)))
    manual_response.admit(context, agent, (indicator.value for indicator in own))


def _put_back(context: Context, former: Agent) -> None:
    """Restore tags, site and organization of an agent, because the store rejected its row."""
    agent = context.fleet.registry.find(former.agent_id)
    if agent is None:
        return
    before = placement_of(agent)
    if agent.organization_id != former.organization_id:
        context.fleet.registry.move_back(agent, former.organization_id, former.registered_in)
    agent.host = agent.host.changed(tags=former.host.tags, site=former.host.site)
    agent.operator_set = former.operator_set
    _follow_change(context, agent, before)


def change_agents(context: Context, request: ChangeAgents) -> AgentsChanged:
    """Change several agents alike, all or none; each change is audited.

    Raises:
        Conflict: one of them is refused; the text names the first ones.
        NotFound: there is no such agent.
    """
    agents = [find_agent(context, agent_id) for agent_id in dict.fromkeys(request.agent_ids)]
    singles = [(agent, _change_of(agent, request)) for agent in agents]
    refused = tuple(_refusals(context, singles))
    if refused and not request.dry_run:
        named = "; ".join(f"{hostname}: {reason}" for _, hostname, reason in refused[:_NAMED])
        more = f"; and {len(refused) - _NAMED} more" if len(refused) > _NAMED else ""
        raise Conflict(f"no agent is changed, {len(refused)} of {len(singles)} are refused: {named}{more}")
    moved = [(agent, single) for agent, single in singles if _placement_after(agent, single) != placement_of(agent)]
    done = AgentsChanged(
        tuple((agent.agent_id, agent.hostname) for agent, _ in moved),
        sum(_changes_policy(context, agent, single) for agent, single in moved),
        refused,
    )
    if not request.dry_run:
        for agent, single in singles:
            before = audit.agent_state(context, agent.agent_id)
            change_agent(context, single)
            after = audit.agent_state(context, agent.agent_id)
            if before != after:
                before, after = audit.changed_members(before, after)
                audit.add_entry(context, context.origin, "agent.set", agent.agent_id, before=before, after=after)
    return done


def _change_of(agent: Agent, request: ChangeAgents) -> ChangeAgent:
    """Return what a change of several agents is for one of them."""
    tags = None
    if request.add_tags or request.remove_tags:
        every = dict.fromkeys((*agent.host.tags, *request.add_tags))
        tags = tuple(tag for tag in every if tag not in request.remove_tags)
    return ChangeAgent(agent.agent_id, request.author, tags, request.site, request.organization_id)


def _refusals(context: Context, singles: list[tuple[Agent, ChangeAgent]]) -> Iterator[tuple[str, str, str]]:
    """Yield the id and hostname of each agent that cannot be changed so, and why."""
    entering: set[tuple[str, str]] = set()
    for agent, single in singles:
        organization_id = single.organization_id or agent.organization_id
        reason = None
        if single.tags is not None and len(single.tags) > TAGS_LIMIT:
            reason = f"it would have {len(single.tags)} tags, at most {TAGS_LIMIT} are taken"
        elif organization_id != agent.organization_id:
            there = context.fleet.registry.find_by_hostname(organization_id, agent.hostname)
            name = organization_id, hostname_key(agent.hostname)
            if (there is not None and there is not agent) or name in entering:
                reason = f"organization {organization_id} would have two agents of this hostname; remove one of them"
            entering.add(name)
        if reason is None:
            try:
                _check_size(context, agent, single)
            except Invalid as error:
                reason = str(error)
        if reason is not None:
            yield agent.agent_id, agent.hostname, reason


def _changes_policy(context: Context, agent: Agent, request: ChangeAgent) -> bool:
    """Return whether an agent gets a new policy by a change; that of another organization is always new."""
    after, policies = _placement_after(agent, request), context.fleet.policies
    resolved = policies.resolve(agent.agent_id, after, context.batch.now.wall)
    moved = after.organization_id != agent.organization_id
    return moved or resolved.digest != policies.effective[agent.agent_id].resolved.digest


def _placement_after(agent: Agent, request: ChangeAgent) -> Placement:
    """Return the facts that choose an agent's groups, after a change."""
    tags = agent.host.tags if request.tags is None else request.tags
    site = agent.host.site if request.site == UNCHANGED else request.site
    return Placement(request.organization_id or agent.organization_id, site, frozenset(tags))


def _check_size(context: Context, agent: Agent, request: ChangeAgent) -> None:
    placement = _placement_after(agent, request)
    sections = context.fleet.policies.resolve(agent.agent_id, placement, context.batch.now.wall).sections
    size = sections_size(sections)
    if size > SECTIONS_LIMIT:
        raise Invalid(f"the effective policy would have {size} bytes; at most {SECTIONS_LIMIT} fit in a message")


def _enter_organization(context: Context, agent: Agent) -> None:
    """Let the broker accept the agent for its new organization's topics; its guard reads there which one it is."""
    fleet = context.fleet
    fleet.acceptance.forget_agent(agent.agent_id)
    fleet.immunity.forget_agent(agent.agent_id)
    agent.in_force.blocklist_sequence = 0  # what it stated of the former organization says nothing about the new one
    agent.condition = agent.condition.changed(enforced=None)
    context.batch.admitted.append((agent, True))
    ownership.follow_agent(context, agent)


def prune_agents(context: Context, request: PruneAgents) -> PrunedAgents:
    """Remove agents that are not online and were last heard of before a time; each removal is audited."""
    silent = [agent for agent in context.fleet.registry.agents.values() if _is_silent_since(agent, request.before)]
    due = sorted(silent, key=last_heard)[: None if request.dry_run else PRUNED_AT_ONCE]
    found = [(agent.agent_id, agent.hostname) for agent in due]
    if not request.dry_run:
        for agent in due:
            remove_audited(context, agent, request.author)
    return PrunedAgents(found, more=len(silent) > len(due))


def remove_expired(context: Context, now: Instant) -> None:
    """Remove agents that signed off and did not come back within the retention, if the clock may be trusted.

    Agents that are stale stay: whoever crashed has not said that it is gone.
    """
    kept = context.fleet.settings.offline_retention
    if kept is None or not context.fleet.clock_trust.is_trusted(now):
        return
    gone = [each for each in context.fleet.liveness.offline.values() if last_heard(each) < now.wall - kept]
    for agent in gone[:PRUNED_AT_ONCE]:
        remove_audited(context, agent, "offline_retention")


def remove_audited(context: Context, agent: Agent, author: str) -> None:
    """Remove an agent permanently, with an audit entry of its own."""
    before = audit.agent_state(context, agent.agent_id)
    remove_agent(context, RemoveAgent(agent.agent_id, author))
    audit.add_entry(context, context.origin, "agent.remove", agent.agent_id, before=before, after=None)


def remove_ephemeral(context: Context, now: Instant) -> None:
    """Remove the ephemeral agents that have been offline for an hour, some in each run.

    Only time counts in which the manager received through the agent's door: an agent that came back meanwhile is still
    to be heard.
    """
    fleet = context.fleet
    due = (
        agent
        for agent in fleet.liveness.offline.values()
        if now.wall - agent.state_since >= EPHEMERAL_RETENTION
        and fleet.is_ephemeral(agent)
        and (since := fleet.liveness.hearing_since(agent.door)) is not None
        and now.monotonic - max(agent.heard_monotonic, since) >= EPHEMERAL_RETENTION
    )
    for agent in list(islice(due, PRUNED_AT_ONCE)):
        remove_audited(context, agent, "manager")


def last_heard(agent: Agent) -> float:
    """Return when an agent was last heard of, in seconds since 1970: heartbeat, registration, or change of state."""
    return max(agent.last_heartbeat or 0.0, agent.registered_at, agent.state_since)


def _is_silent_since(agent: Agent, before: float) -> bool:
    return agent.state is not State.ONLINE and last_heard(agent) < before
