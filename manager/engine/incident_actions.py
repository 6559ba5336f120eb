"""What the commands on incidents, blocks and the fleet's policies do: plain functions in one table."""

from collections.abc import Callable
from typing import Any

from manager.domain.correlation import Incident
from manager.domain.policies import Revision
from manager.domain.policy_diff import Difference, diff
from manager.domain.policy_drift import Drift, drifts
from manager.domain.policy_history import documents_at
from manager.engine import responding
from manager.engine.batch import HistoryLine
from manager.engine.commands import PolicySet
from manager.engine.desk import Desk
from manager.engine.fleet import FROZEN
from manager.engine.incident_commands import (
    ApproveIncident,
    Broadcast,
    FreezeResponses,
    Preview,
    ReadDrift,
    ReadState,
    RemoveBlock,
    ResponseStanding,
    RollBack,
    UndoIncident,
)
from manager.errors import NotFound


def documents_changed(desk: Desk, revisions: list[Revision]) -> int:
    """Carry through what follows from changed documents; return how many agents got a new effective policy."""
    fleet, now = desk.fleet, desk.batch.now.wall
    touched = dict.fromkeys(
        agent_id for revision in revisions for agent_id in fleet.policies.touched_by(revision.scope)
    )
    changed = fleet.policies.touch(touched, now)
    desk.batch.changes.revisions += revisions
    desk.batch.changes.fleet_revision = fleet.policies.revision
    responding.publish(desk, changed)
    fleet.allowlist.changed()
    responding.carry_out(desk, fleet.responder.reconsider(now))
    return len(changed)


def undo_incident(desk: Desk, request: UndoIncident) -> str:
    """Take an incident's response away everywhere."""
    incident = _incident(desk, request.incident_id)
    responding.carry_out(desk, desk.fleet.responder.undo(incident, desk.batch.now.wall, request.author))
    return incident.id


def approve_incident(desk: Desk, request: ApproveIncident) -> str:
    """Let an incident respond that waited for approval."""
    incident, now = _incident(desk, request.incident_id), desk.batch.now.wall
    reaction = desk.fleet.responder.approve(incident, desk.fleet.facts(now), now, request.author)
    responding.carry_out(desk, reaction, now)
    return incident.id


def remove_block(desk: Desk, request: RemoveBlock) -> str:
    """Take one emergency entry out of force."""
    if desk.fleet.responder.entries.get(request.entry_id) is None:
        raise NotFound(f"Block {request.entry_id} not found: it is not in force")
    responding.carry_out(desk, desk.fleet.responder.remove(request.entry_id, desk.batch.now.wall, request.author))
    return request.entry_id


def freeze_responses(desk: Desk, request: FreezeResponses) -> bool:
    """Stop all automatic response, or let it go on; kept over a restart."""
    responder = desk.fleet.responder
    if request.frozen:
        responder.freeze()
    else:
        responder.thaw()
    desk.batch.changes.meta[FROZEN] = "true" if request.frozen else "false"
    event = "responses_frozen" if request.frozen else "responses_thawed"
    desk.batch.changes.history.append(HistoryLine("", desk.batch.now.wall, event, request.author))
    desk.batch.event(event, data={"author": request.author})
    return request.frozen


def roll_back(desk: Desk, request: RollBack) -> PolicySet:
    """Set every document back to what it was, as new revisions."""
    policies = desk.fleet.policies
    if not 1 <= request.revision <= policies.revision:
        raise NotFound(f"Revision {request.revision} not found: the newest is {policies.revision}")
    documents = documents_at(desk.archive.revisions(), request.revision)
    revisions = policies.rollback(documents, desk.batch.now.wall, request.author)
    if not revisions:
        return PolicySet(policies.revision, changed=False, agents=0)
    agents = documents_changed(desk, revisions)
    desk.batch.event("policy_created", data={"scope": "rollback", "revision": policies.revision, "agents": agents})
    return PolicySet(policies.revision, changed=True, agents=agents)


def broadcast(desk: Desk, _request: Broadcast) -> int:
    """Publish everything again."""
    effective = desk.fleet.policies.effective
    desk.queue.add(effective)
    desk.messages.publish_all()
    return len(effective)


def read_drift(desk: Desk, _request: ReadDrift) -> list[Drift]:
    """Return the agents that have something else in force than what is meant for them."""
    fleet = desk.fleet
    return list(drifts(fleet.registry.agents.values(), fleet.policies.effective, fleet.blocklists.sequences))


def preview(desk: Desk, request: Preview) -> list[Difference]:
    """Return what a document would change, for all agents that it touches together."""
    policies = desk.fleet.policies
    now = policies.preview(request.scope, policies.document(request.scope))
    then = policies.preview(request.scope, request.document)
    found: dict[str, Difference] = {}
    for before, after in zip(now, then, strict=False):
        for difference in diff(before.sections, after.sections):
            found.setdefault(difference.path, difference)
    return [found[path] for path in sorted(found)]


def read_state(desk: Desk, _request: ReadState) -> ResponseStanding:
    """Return how automatic response stands."""
    responder = desk.fleet.responder
    return ResponseStanding(
        frozen=responder.frozen,
        simulation=desk.fleet.settings.responder.simulation,
        entries=len(responder.entries),
        pending=responder.record.pending_count(),
    )


def _incident(desk: Desk, incident_id: str) -> Incident:
    incident = desk.archive.find(incident_id)
    if incident is None:
        raise NotFound(f"Incident {incident_id} not found")
    return incident


INCIDENT_ACTIONS: dict[type, Callable[[Desk, Any], Any]] = {
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
"""Every command of `manager.engine.incident_commands`, and what it does."""
