"""What the commands on incidents, blocks and the fleet's policies do: plain functions in one table."""

from collections.abc import Callable
from typing import Any

from manager.domain.correlation import Incident
from manager.domain.policies.diff import Difference, diff
from manager.domain.policies.drift import Drift, drifts
from manager.domain.policies.fleet_policies import Revision
from manager.domain.policies.revision_history import documents_at
from manager.engine.batch import HistoryLine
from manager.engine.commands.requests import (
    ApproveIncident,
    Broadcast,
    FreezeResponses,
    PolicySet,
    Preview,
    ReadDrift,
    ReadState,
    RemoveBlock,
    ResponseStanding,
    RollBack,
    UndoIncident,
)
from manager.engine.context import Context
from manager.engine.fleet import FROZEN
from manager.engine.response import emergency_response
from manager.errors import NotFound


def documents_changed(context: Context, revisions: list[Revision]) -> int:
    """Carry through what follows from changed documents; return how many agents got a new effective policy."""
    fleet, now = context.fleet, context.batch.now.wall
    touched = dict.fromkeys(
        agent_id for revision in revisions for agent_id in fleet.policies.affected_by(revision.scope)
    )
    changed = fleet.policies.recompute(touched, now)
    context.batch.changes.revisions += revisions
    context.batch.changes.fleet_revision = fleet.policies.revision
    emergency_response.publish(context, changed)
    fleet.allowlist.changed()
    emergency_response.carry_out(context, fleet.responder.withdraw_unblockable(now))
    return len(changed)


def undo_incident(context: Context, request: UndoIncident) -> str:
    """Take an incident's response away everywhere."""
    incident = _incident(context, request.incident_id)
    emergency_response.carry_out(
        context, context.fleet.responder.undo(incident, context.batch.now.wall, request.author)
    )
    return incident.id


def approve_incident(context: Context, request: ApproveIncident) -> str:
    """Let an incident respond that waited for approval."""
    incident, now = _incident(context, request.incident_id), context.batch.now.wall
    reaction = context.fleet.responder.approve(incident, context.fleet.facts(now), now, request.author)
    emergency_response.carry_out(context, reaction, now)
    return incident.id


def remove_block(context: Context, request: RemoveBlock) -> str:
    """Take one emergency entry out of force."""
    if context.fleet.responder.entries.get(request.entry_id) is None:
        raise NotFound(f"Block {request.entry_id} not found: it is not in force")
    emergency_response.carry_out(
        context, context.fleet.responder.remove(request.entry_id, context.batch.now.wall, request.author)
    )
    return request.entry_id


def freeze_responses(context: Context, request: FreezeResponses) -> bool:
    """Stop all automatic response, or let it go on; kept over a restart."""
    responder = context.fleet.responder
    if request.frozen:
        responder.freeze()
    else:
        responder.thaw()
    context.batch.changes.meta[FROZEN] = "true" if request.frozen else "false"
    event = "responses_frozen" if request.frozen else "responses_thawed"
    context.batch.changes.history.append(HistoryLine("", context.batch.now.wall, event, request.author))
    context.batch.event(event, data={"author": request.author})
    return request.frozen


def roll_back(context: Context, request: RollBack) -> PolicySet:
    """Set every document back to what it was, as new revisions."""
    policies = context.fleet.policies
    if not 1 <= request.revision <= policies.revision:
        raise NotFound(f"Revision {request.revision} not found: the newest is {policies.revision}")
    documents = documents_at(context.archive.revisions(), request.revision)
    revisions = policies.rollback(documents, context.batch.now.wall, request.author)
    if not revisions:
        return PolicySet(policies.revision, changed=False, agents=0)
    agents = documents_changed(context, revisions)
    context.batch.event("policy_created", data={"scope": "rollback", "revision": policies.revision, "agents": agents})
    return PolicySet(policies.revision, changed=True, agents=agents)


def broadcast(context: Context, _request: Broadcast) -> int:
    """Publish everything again."""
    effective = context.fleet.policies.effective
    context.queue.add(effective)
    context.messages.publish_all()
    return len(effective)


def read_drift(context: Context, _request: ReadDrift) -> list[Drift]:
    """Return the agents that have something else in force than what is meant for them."""
    fleet = context.fleet
    return list(drifts(fleet.registry.agents.values(), fleet.policies.effective, fleet.blocklists.sequences))


def preview(context: Context, request: Preview) -> list[Difference]:
    """Return what a document would change, for all agents that it touches together."""
    policies = context.fleet.policies
    now = policies.preview(request.scope, policies.document(request.scope))
    then = policies.preview(request.scope, request.document)
    found: dict[str, Difference] = {}
    for before, after in zip(now, then, strict=False):
        for difference in diff(before.sections, after.sections):
            found.setdefault(difference.path, difference)
    return [found[path] for path in sorted(found)]


def read_state(context: Context, _request: ReadState) -> ResponseStanding:
    """Return how automatic response stands."""
    responder = context.fleet.responder
    return ResponseStanding(
        frozen=responder.frozen,
        simulation=context.fleet.settings.responder.simulation,
        entries=len(responder.entries),
        pending=responder.responses.pending_count(),
    )


def _incident(context: Context, incident_id: str) -> Incident:
    incident = context.archive.find(incident_id)
    if incident is None:
        raise NotFound(f"Incident {incident_id} not found")
    return incident


INCIDENT_ACTIONS: dict[type, Callable[[Context, Any], Any]] = {
    UndoIncident: undo_incident,
    ApproveIncident: approve_incident,
    RemoveBlock: remove_block,
    FreezeResponses: freeze_responses,
    RollBack: roll_back,
    Broadcast: broadcast,
    ReadDrift: read_drift,
    Preview: preview,
    ReadState: read_state,
}
"""Every command of `manager.engine.commands.requests`, and what it does."""
