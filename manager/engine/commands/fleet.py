"""Fleet commands: remove and deregister agents, list organizations, trust the clock."""

from functools import partial
from typing import NamedTuple

from manager.domain.agents.agent import Agent
from manager.domain.policies.fleet_policies import Scope, Sections
from manager.domain.response import EmergencyEntry, ResponseChanges
from manager.domain.response.manual_blocks import ManualBlock, ManualHolder
from manager.engine.batch import HistoryLine, Undo
from manager.engine.commands.requests import AcceptClock, DeregisterAgent, ReadOrganizations, RemoveAgent
from manager.engine.context import Context
from manager.engine.fleet import CLOCK_WARNING, placement_of
from manager.engine.origin import MANAGER
from manager.engine.response import emergency_response, manual_response
from manager.errors import NotFound
from schemas.identifiers import DEFAULT_ORGANIZATION
from schemas.model import iso


def find_agent(context: Context, agent_id: str) -> Agent:
    """Return an agent of the registry.

    Raises:
        NotFound: there is no such agent.
    """
    agent = context.fleet.registry.find(agent_id)
    if agent is None:
        raise NotFound(f"Agent {agent_id} not found")
    return agent


def remove_agent(context: Context, request: RemoveAgent) -> str:
    """Remove an agent permanently, with its credential, policy document, emergency entries and retained messages."""
    agent = find_agent(context, request.agent_id)
    fleet, batch = context.fleet, context.batch
    kept = _kept_of(context, agent)
    context.read_stamp(agent)
    _remove_document(context, Scope("agent", agent.agent_id), request.author)
    fleet.remove_agent(agent, batch.now.wall)
    emergency_response.apply(context, fleet.responder.forget_agent(agent.agent_id))
    manual_response.forget_agent(context, agent.agent_id)
    agent.state_since = batch.now.wall
    batch.changes.agents.pop(agent.agent_id, None)
    batch.changes.policies.pop(agent.agent_id, None)
    batch.changes.stated.pop(agent.agent_id, None)
    batch.changes.vitals.pop(agent.agent_id, None)
    batch.changes.removed.append(agent)
    line = HistoryLine(agent.agent_id, batch.now.wall, "agent_removed", request.author)
    batch.changes.history.append(line)
    batch.undo.append(Undo("removed", agent.agent_id, partial(_put_back, agent=agent, kept=kept), records=(line,)))
    batch.publications += fleet.retained_clearing.add(agent.agent_id)
    batch.changes.meta.update(fleet.retained_clearing.changed_value())
    batch.cut_off.append(agent.agent_id)
    batch.event("agent_removed", agent)
    return agent.agent_id


class _Kept(NamedTuple):
    """The parts of an agent that its removal takes away."""

    state_since: float
    document: Sections | None
    entries: list[EmergencyEntry]
    blocks: list[ManualBlock]


def _kept_of(context: Context, agent: Agent) -> _Kept:
    entries, agent_id = context.fleet.responder.entries, agent.agent_id
    return _Kept(
        agent.state_since,
        context.fleet.policies.document(Scope("agent", agent_id)),
        entries.list_of("agent", agent_id),
        list(entries.manual.list_of(ManualHolder("agent", agent_id))),
    )


def _put_back(context: Context, agent: Agent, kept: _Kept) -> None:
    """Restore an agent with its document, entries and blocks, because the store rejected its removal.

    Document, entries and blocks are stored anew: their own removal is stored. What is measured of responses on the
    agent is not measured on.
    """
    fleet, now, scope = context.fleet, context.batch.now.wall, Scope("agent", agent.agent_id)
    agent.state_since = kept.state_since
    fleet.registry.put_back(agent)
    fleet.liveness.watch(agent)
    fleet.retained_clearing.discard(agent.agent_id)
    context.batch.changes.meta.update(fleet.retained_clearing.changed_value())
    fleet.set_addresses(agent)
    if kept.document is not None:
        revision = fleet.policies.set(scope, kept.document, now, MANAGER.actor)
        if revision is not None:
            context.batch.changes.revisions.append(revision)
    fleet.policies.assign(agent.agent_id, placement_of(agent), now)
    emergency_response.publish_policies(context, [fleet.policies.renew(agent.agent_id, now)])
    if kept.entries:
        fleet.responder.entries.load(kept.entries)
        audited = len(context.batch.changes.audit)
        emergency_response.apply(context, ResponseChanges(added=kept.entries))
        del context.batch.changes.audit[audited:]  # nothing was decided anew
    for block in kept.blocks:
        fleet.responder.entries.manual.add(block)
    manual_response.apply(context, kept.blocks, ())


def _remove_document(context: Context, scope: Scope, author: str) -> None:
    policies = context.fleet.policies
    if policies.document(scope) is None:
        return
    revision = policies.set(scope, None, context.batch.now.wall, author)
    if revision is not None:
        context.batch.changes.revisions.append(revision)
        context.batch.changes.fleet_revision = policies.revision


def read_organizations(context: Context, _request: ReadOrganizations) -> dict[str, int]:
    """Return the number of agents of each organization that an agent, a token, a policy or a live block names."""
    fleet = context.fleet
    named = {token.organization_id for token in fleet.tokens.values() if token.revoked_at is None}
    named |= {scope.target for scope in fleet.policies.documents if scope.kind == "organization"}
    named |= fleet.access.organizations() | fleet.policies.groups.organizations | {DEFAULT_ORGANIZATION}
    named |= {each.target for each in fleet.responder.entries.manual.holders() if each.scope == "organization"}
    found = {organization_id: 0 for organization_id in named if organization_id is not None}
    for agent in fleet.registry.agents.values():
        found[agent.organization_id] = found.get(agent.organization_id, 0) + 1
    return dict(sorted(found.items()))


def deregister_agent(context: Context, request: DeregisterAgent) -> str:
    """Mark an agent as offline; its record is kept."""
    agent = find_agent(context, request.agent_id)
    context.batch.transition(context.fleet.liveness.leave(agent, context.batch.now))
    return agent.agent_id


def accept_clock(context: Context, _request: AcceptClock) -> str:
    """Trust the manager's clock for the deletion of old rows."""
    now = context.batch.now
    context.fleet.clock_trust.accept(now)
    context.fleet.warnings.pop(CLOCK_WARNING, None)
    return iso(now.wall)
