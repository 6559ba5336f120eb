"""Audit log entries: actor, action, target, state before and after; written in the transaction of the change."""

from typing import Any

from manager.domain.agents.agent import Agent
from manager.domain.response import EmergencyEntry
from manager.domain.response.manual_blocks import ManualBlock
from manager.engine.batch import AuditEntry
from manager.engine.context import Context
from manager.engine.origin import MANAGER, RESPONDER, Origin
from schemas.model import iso

AuditState = dict[str, Any] | None
"""The state of a target as JSON; None if it does not exist."""

_ENTRIES_LISTED = 20


def add_entry(
    context: Context, origin: Origin, action: str, target: str, *, before: AuditState, after: AuditState
) -> None:
    """Add an audit entry to the batch."""
    context.batch.changes.audit.append(
        AuditEntry(
            context.batch.now.wall,
            origin.actor,
            action,
            target,
            origin.address,
            origin.request_id,
            origin.role,
            before,
            after,
        )
    )


def changed_members(before: AuditState, after: AuditState) -> tuple[AuditState, AuditState]:
    """Return both states without the members that did not change."""
    if before is None or after is None:
        return before, after
    same = {name for name in before.keys() & after.keys() if before[name] == after[name]}
    return (
        {name: value for name, value in before.items() if name not in same},
        {name: value for name, value in after.items() if name not in same},
    )


def record_enrollment(context: Context, agent: Agent, *, is_new: bool) -> None:
    """Record that an agent entered the fleet, or that its credential was replaced."""
    origin = context.origin
    if agent.token_id is not None:
        token = context.fleet.tokens.get(agent.token_id)
        name = None if token is None else token.name
        origin = origin._replace(actor=f"token:{name or agent.token_id}", role=None)
    action = "agent.register" if is_new else "agent.replace"
    add_entry(context, origin, action, agent.agent_id, before=None, after=agent_state(context, agent.agent_id))


def record_response(context: Context, added: list[EmergencyEntry]) -> None:
    """Record the emergency entries of the automatic response, one audit entry for each incident."""
    if context.origin is not MANAGER:
        return  # an approval or undo by a person has an audit entry of its own
    incidents: dict[str, list[EmergencyEntry]] = {}
    for entry in added:
        incidents.setdefault(entry.incident_id, []).append(entry)
    for incident_id, entries in incidents.items():
        add_entry(context, RESPONDER, "incident.respond", incident_id, before=None, after=entries_state(entries))


def agent_state(context: Context, agent_id: str) -> AuditState:
    """Return the audited state of an agent."""
    agent = context.fleet.registry.find(agent_id)
    if agent is None:
        return None
    return {
        "hostname": agent.hostname,
        "organizationId": agent.organization_id,
        "site": agent.host.site,
        "tags": list(agent.host.tags),
        "door": str(agent.door),
        "status": str(agent.state),
        "tokenId": agent.token_id,
    }


def entries_state(entries: list[EmergencyEntry]) -> dict[str, Any]:
    """Return the audited state of emergency entries: their number, and the first of them."""
    return {"entries": [entry_state(entry) for entry in entries[:_ENTRIES_LISTED]], "count": len(entries)}


def manual_state(block: ManualBlock) -> dict[str, Any]:
    """Return the audited state of a manual block."""
    return {
        "scope": block.holder.scope,
        "target": block.holder.target or None,
        "value": block.value,
        "reason": block.reason,
        "addedBy": block.added_by,
        "overrides": block.overrides,
        "expiresAt": iso(block.expires_at),
    }


def entry_state(entry: EmergencyEntry) -> dict[str, Any]:
    """Return the audited state of an emergency entry."""
    return {
        "scope": entry.scope,
        "target": entry.target,
        "kind": entry.subject.kind,
        "value": entry.subject.value,
        "incidentId": entry.incident_id,
        "expiresAt": iso(entry.expires_at),
    }
