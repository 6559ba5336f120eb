"""The response at work: what the responder decides becomes entries, policies and blocklists of the same batch."""

from collections.abc import Iterable

from manager.domain.correlation import IncidentChange
from manager.domain.immunity import Immunity, Medium
from manager.domain.instant import Instant
from manager.domain.policies import EffectivePolicy
from manager.domain.response import EmergencyEntry, Reaction, ResponseState
from manager.engine import audit
from manager.engine.blocklist_messages import to_keep
from manager.engine.desk import Arrival, Desk

_TELLING = ("lastLogin", "filePath")
"""The keys of a report's evidence that the never-block core wants to know of."""


def note(desk: Desk, arrival: Arrival) -> None:
    """Take what a new report's evidence says, before its incidents are reacted to."""
    evidence = arrival.report.threat.evidence
    if any(key in evidence for key in _TELLING):
        agent, now = arrival.agent, desk.batch.now.wall
        carry_out(
            desk,
            desk.fleet.responder.note(agent.organization_id, agent.host.site, agent.agent_id, evidence, now),
        )


def react(desk: Desk, change: IncidentChange) -> None:
    """React to a change of an incident."""
    now = desk.batch.now.wall
    reported_at = change.incident.opened_at
    carry_out(desk, desk.fleet.responder.react(change, desk.fleet.facts(now), now), reported_at)


def follow_time(desk: Desk, now: Instant) -> None:
    """Take away what has ended: emergency entries, approvals, entries of policy documents."""
    expiry = desk.fleet.responder.next_expiry()
    if expiry is not None and expiry <= now.wall:
        carry_out(desk, desk.fleet.responder.expire(now.wall))
    expiry = desk.fleet.policies.next_expiry()
    if expiry is not None and expiry <= now.wall:
        publish(desk, desk.fleet.policies.expire(now.wall))


def carry_out(desk: Desk, reaction: Reaction, reported_at: float | None = None) -> None:
    """Write down and publish what is to be done.

    Args:
        desk: the batch.
        reaction: what the responder decided.
        reported_at: when the incident was first reported, from where time to immunity counts.
    """
    if not reaction:
        return
    changes = desk.batch.changes
    for response in reaction.responses:
        changes.responses[response.incident_id] = response
        desk.fleet.counters[f"responses_{response.state}"] += 1
        desk.batch.event(
            "incident_response",
            data={
                "incidentId": response.incident_id,
                "state": response.state,
                "reason": response.reason,
                "organizationWide": response.organization_wide,
            },
        )
        if response.state in {ResponseState.UNDONE, ResponseState.REFUSED}:
            desk.fleet.immunity.end(response.incident_id)
    changes.entries_added += reaction.added
    audit.responded(desk, reaction.added)
    changes.entries_removed += reaction.removed
    entries = desk.fleet.responder.entries
    emergency = {agent_id: entries.of_agent(agent_id) for agent_id in reaction.agent_ids}
    publish(desk, desk.fleet.policies.set_emergency(emergency, desk.batch.now.wall))
    _change_blocklists(desk, reaction)
    if reported_at is not None:
        _expect(desk, reaction.added, reported_at)


def publish(desk: Desk, changed: Iterable[EffectivePolicy]) -> None:
    """Publish effective policies that changed, the urgent ones before all others."""
    for policy in changed:
        desk.batch.save_policy(policy)
        desk.batch.changes.fleet_revision = desk.fleet.policies.revision
        if policy.urgent:
            desk.queue.add_urgent([policy.agent_id])
        else:
            desk.queue.add([policy.agent_id])


def applied(desk: Desk, agent_id: str, medium: Medium, number: int) -> None:
    """Take an agent's word on what it has in force."""
    for immunity in desk.fleet.immunity.applied(agent_id, medium, number, desk.batch.now.wall):
        _keep(desk, immunity)


def _change_blocklists(desk: Desk, reaction: Reaction) -> None:
    fleet, changes = desk.fleet, desk.batch.changes
    for change in fleet.blocklists.changes(reaction, fleet.policies.advance):
        desk.batch.publications.append(desk.messages.change(change))
        key, value = to_keep(change.organization_id, change.sequence)
        changes.meta[key] = value
        changes.fleet_revision = fleet.policies.revision


def _expect(desk: Desk, added: list[EmergencyEntry], reported_at: float) -> None:
    """Follow new entries until their targets have them in force."""
    fleet, now = desk.fleet, desk.batch.now.wall
    for entry in added:
        medium: Medium = "policy" if entry.scope == "agent" else "blocklist"
        if medium == "policy":
            targets, number = [entry.target], fleet.policies.effective[entry.target].version
        else:
            targets = [agent.agent_id for agent in fleet.registry.of_organization(entry.target)]
            number = fleet.blocklists.sequences[entry.target]
        for given_up in fleet.immunity.expect(
            entry.incident_id, targets, medium=medium, number=number, reported_at=reported_at, published_at=now
        ):
            _keep(desk, given_up)
        followed = fleet.immunity.get(entry.incident_id)
        if followed is not None:
            _keep(desk, followed)  # more targets: what was reached of them is not what it was


def _keep(desk: Desk, immunity: Immunity) -> None:
    figures = {str(percent): seconds for percent, seconds in immunity.summary().items() if seconds is not None}
    desk.batch.changes.immunity[immunity.incident_id] = figures
