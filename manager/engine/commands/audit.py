"""The audit log: who changed what, when, from where, before and after; written with the change, in its transaction."""

from typing import Any

from manager.domain.agents.agent import Agent
from manager.domain.response import EmergencyEntry
from manager.engine.batch import AuditEntry
from manager.engine.context import Context
from manager.engine.origin import MANAGER, RESPONDER, Origin
from schemas.model import iso

State = dict[str, Any] | None
"""How something stands, as JSON; None if it is not there."""

_ENTRIES_SHOWN = 20


def note(context: Context, origin: Origin, action: str, target: str, *, before: State, after: State) -> None:
    """Add an entry to the batch."""
    context.batch.changes.audit.append(
        AuditEntry(
            context.batch.now.wall, origin.actor, action, target, origin.address, origin.request_id, before, after
        )
    )


def enrolled(context: Context, agent: Agent, *, is_new: bool) -> None:
    """Note that an agent entered the fleet, or that its credential was replaced."""
    actor = f"token:{agent.token_id}" if agent.token_id is not None else context.origin.actor
    origin = context.origin._replace(actor=actor)
    action = "agent.register" if is_new else "agent.replace"
    note(context, origin, action, agent.agent_id, before=None, after=agent_state(context, agent.agent_id))


def responded(context: Context, added: list[EmergencyEntry]) -> None:
    """Note what the automatic response put in force, an entry for each incident."""
    if context.origin is not MANAGER:
        return  # what somebody approved or undid has its own entry
    incidents: dict[str, list[EmergencyEntry]] = {}
    for entry in added:
        incidents.setdefault(entry.incident_id, []).append(entry)
    for incident_id, entries in incidents.items():
        shown = [entry_state(entry) for entry in entries[:_ENTRIES_SHOWN]]
        after = {"entries": shown, "count": len(entries)}
        note(context, RESPONDER, "incident.respond", incident_id, before=None, after=after)


def agent_state(context: Context, agent_id: str) -> State:
    """Return how an agent stands in the registry."""
    agent = context.fleet.registry.find(agent_id)
    if agent is None:
        return None
    return {
        "hostname": agent.hostname,
        "organizationId": agent.organization_id,
        "site": agent.host.site,
        "door": str(agent.door),
        "status": str(agent.state),
        "tokenId": agent.token_id,
    }


def entry_state(entry: EmergencyEntry) -> dict[str, Any]:
    """Return an emergency entry: what is in force, for whom, and until when."""
    return {
        "scope": entry.scope,
        "target": entry.target,
        "kind": entry.subject.kind,
        "value": entry.subject.value,
        "incidentId": entry.incident_id,
        "expiresAt": iso(entry.expires_at),
    }
