"""The response at work: what the responder decides becomes entries, policies and blocklists of the same batch."""

from collections.abc import Iterable

from manager.domain.correlation import IncidentChange
from manager.domain.instant import Instant
from manager.domain.policies.fleet_policies import EffectivePolicy
from manager.domain.response import EmergencyEntry, Reaction, ResponseState
from manager.domain.response.immunity import Immunity, Medium
from manager.engine.commands import audit
from manager.engine.context import Context, ReceivedReport
from manager.engine.policies.blocklist_messages import to_keep

_TELLING = ("lastLogin", "filePath")
"""The keys of a report's evidence that the never-block core wants to know of."""


def note(context: Context, arrival: ReceivedReport) -> None:
    """Take what a new report's evidence says, before its incidents are reacted to."""
    evidence = arrival.report.threat.evidence
    if any(key in evidence for key in _TELLING):
        agent, now = arrival.agent, context.batch.now.wall
        carry_out(
            context,
            context.fleet.responder.record_evidence(
                agent.organization_id, agent.host.site, agent.agent_id, evidence, now
            ),
        )


def react(context: Context, change: IncidentChange) -> None:
    """React to a change of an incident."""
    now = context.batch.now.wall
    reported_at = change.incident.opened_at
    carry_out(context, context.fleet.responder.react(change, context.fleet.facts(now), now), reported_at)


def follow_time(context: Context, now: Instant) -> None:
    """Take away what has ended: emergency entries, approvals, entries of policy documents."""
    expiry = context.fleet.responder.next_expiry()
    if expiry is not None and expiry <= now.wall:
        carry_out(context, context.fleet.responder.expire(now.wall))
    expiry = context.fleet.policies.next_expiry()
    if expiry is not None and expiry <= now.wall:
        publish(context, context.fleet.policies.expire(now.wall))


def carry_out(context: Context, reaction: Reaction, reported_at: float | None = None) -> None:
    """Write down and publish what is to be done.

    Args:
        context: the batch.
        reaction: what the responder decided.
        reported_at: when the incident was first reported, from where time to immunity counts.
    """
    if not reaction:
        return
    changes = context.batch.changes
    for response in reaction.responses:
        changes.responses[response.incident_id] = response
        context.fleet.counters[f"responses_{response.state}"] += 1
        context.batch.event(
            "incident_response",
            data={
                "incidentId": response.incident_id,
                "state": response.state,
                "reason": response.reason,
                "organizationWide": response.organization_wide,
            },
        )
        if response.state in {ResponseState.UNDONE, ResponseState.REFUSED}:
            context.fleet.immunity.stop(response.incident_id)
    changes.entries_added += reaction.added
    audit.responded(context, reaction.added)
    changes.entries_removed += reaction.removed
    entries = context.fleet.responder.entries
    emergency = {agent_id: entries.agent_layer(agent_id) for agent_id in reaction.agent_ids}
    publish(context, context.fleet.policies.set_emergency(emergency, context.batch.now.wall))
    _change_blocklists(context, reaction)
    if reported_at is not None:
        _expect(context, reaction.added, reported_at)


def publish(context: Context, changed: Iterable[EffectivePolicy]) -> None:
    """Publish effective policies that changed, the urgent ones before all others."""
    for policy in changed:
        context.batch.save_policy(policy)
        context.batch.changes.fleet_revision = context.fleet.policies.revision
        if policy.urgent:
            context.queue.add_urgent([policy.agent_id])
        else:
            context.queue.add([policy.agent_id])


def applied(context: Context, agent_id: str, medium: Medium, number: int) -> None:
    """Take an agent's word on what it has in force."""
    for immunity in context.fleet.immunity.applied(agent_id, medium, number, context.batch.now.wall):
        _keep(context, immunity)


def _change_blocklists(context: Context, reaction: Reaction) -> None:
    fleet, changes = context.fleet, context.batch.changes
    for change in fleet.blocklists.changes(reaction, fleet.policies.advance):
        context.batch.publications.append(context.messages.change(change))
        key, value = to_keep(change.organization_id, change.sequence)
        changes.meta[key] = value
        changes.fleet_revision = fleet.policies.revision


def _expect(context: Context, added: list[EmergencyEntry], reported_at: float) -> None:
    """Follow new entries until their targets have them in force."""
    fleet, now = context.fleet, context.batch.now.wall
    for entry in added:
        medium: Medium = "policy" if entry.scope == "agent" else "blocklist"
        if medium == "policy":
            targets, number = [entry.target], fleet.policies.effective[entry.target].version
        else:
            targets = [agent.agent_id for agent in fleet.registry.of_organization(entry.target)]
            number = fleet.blocklists.sequences[entry.target]
        for given_up in fleet.immunity.track(
            entry.incident_id, targets, medium=medium, number=number, reported_at=reported_at, published_at=now
        ):
            _keep(context, given_up)
        followed = fleet.immunity.get(entry.incident_id)
        if followed is not None:
            _keep(context, followed)  # more targets: what was reached of them is not what it was


def _keep(context: Context, immunity: Immunity) -> None:
    figures = {str(percent): seconds for percent, seconds in immunity.summary().items() if seconds is not None}
    context.batch.changes.immunity[immunity.incident_id] = figures
