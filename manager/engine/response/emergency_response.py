"""Emergency response: turns the responder's reactions into entries, policies and blocklist changes of the batch."""

from collections.abc import Iterable
from dataclasses import replace
from functools import partial

from manager.domain.correlation import IncidentChange, Indicator
from manager.domain.instant import Instant
from manager.domain.policies.fleet_policies import EffectivePolicy
from manager.domain.response import EmergencyEntry, Response, ResponseChanges, ResponseState
from manager.domain.response.emergency_entry import is_enforceable
from manager.domain.response.progress import Medium, Progress
from manager.domain.response.taken_back import Remembered, put_back
from manager.engine.batch import Changes, Undo
from manager.engine.commands import audit
from manager.engine.context import Context, ReceivedReport
from manager.engine.policies.blocklist_messages import sequence_value
from schemas.blocklist import BlocklistChange
from schemas.model import iso


def record_evidence(context: Context, received: ReceivedReport) -> None:
    """Pass a new report's evidence to the never-block rules, before the report is correlated."""
    evidence = received.report.threat.evidence
    if "lastLogin" in evidence or "filePath" in evidence:  # else it has nothing that the rules use
        agent, now = received.agent, context.batch.now.wall
        response_changes = context.fleet.responder.record_evidence(
            agent.organization_id, agent.host.correlation_site, agent.agent_id, evidence, now
        )
        apply(context, response_changes)
        _announce_withdrawn(context, response_changes)


def react(context: Context, change: IncidentChange) -> None:
    """Have the responder react to a change of an incident, and record the changes of responses that follow."""
    now, responder = context.batch.now.wall, context.fleet.responder
    if change.is_further_report and not responder.responses.is_closed(change.incident.id):
        return
    concerned = [change.incident] if change.absorbed is None else [change.incident, change.absorbed]
    known = [responder.responses.get(incident.id) for incident in concerned]
    extends = any(response is not None and response.is_under_way for response in known)
    response_changes = responder.react(change, context.fleet.facts(now), now)
    apply(context, response_changes, change.incident.opened_at, extends=extends)


def tick(context: Context, now: Instant) -> None:
    """Expire emergency entries, approvals, entries of policy documents, and evidence."""
    expiry = context.fleet.responder.next_expiry()
    if expiry is not None and expiry <= now.wall:
        apply(context, context.fleet.responder.expire(now.wall))
    expiry = context.fleet.policies.next_expiry()
    if expiry is not None and expiry <= now.wall:
        publish_policies(context, context.fleet.policies.expire(now.wall))
    expiry = context.fleet.responder.never_block.evidence.next_expiry()
    if expiry is not None and expiry <= now.wall and context.fleet.clock_trust.is_trusted(now):
        apply(context, context.fleet.responder.expire_evidence(now.wall))


def apply(
    context: Context, response_changes: ResponseChanges, reported_at: float | None = None, *, extends: bool = False
) -> None:
    """Record changes of responses in the batch: responses, entries, policies and blocklist changes.

    Args:
        context: the batch that is decided.
        response_changes: the responder's decision.
        reported_at: the first report of the incident, from which time to immunity counts; None does not measure it.
        extends: whether the response was under way before; what is not tracked of it is not measured anew.
    """
    if not response_changes:
        return
    changes = context.batch.changes
    indicators = _indicators(context, response_changes)
    for response in response_changes.responses:
        about = indicators.get(response.incident_id)
        organization_id = None if about is None else about.organization_id
        changes.responses[response.incident_id] = response
        context.fleet.counters[f"responses_{response.state}"] += 1
        context.batch.event(
            "incident_response",
            data={
                "incidentId": response.incident_id,
                "state": response.state,
                "reason": response.reason,
                "organizationWide": response.organization_wide,
                **({} if about is None else {"kind": about.kind, "value": about.value}),
            },
            organization_id=organization_id,
        )
        _announce_approval(context, response, organization_id)
        if response.state in {ResponseState.UNDONE, ResponseState.REFUSED}:
            context.fleet.acceptance.stop(response.incident_id)
            context.fleet.immunity.stop(response.incident_id)
    audit.record_response(context, response_changes.added)
    changes.entries_removed += response_changes.removed
    _move_entries(changes, response_changes.moved)
    for indicator, observed in response_changes.evidence.items():
        changes.evidence.pop(indicator, None)  # written in the order of renewal
        changes.evidence[indicator] = observed
    _publish(context, response_changes)
    changes.entries_added += [replace(each, number=_number(context, each)) for each in response_changes.added]
    if reported_at is not None:
        _measure_progress(context, response_changes.added, reported_at, extends=extends)


def _publish(context: Context, response_changes: ResponseChanges) -> None:
    """Queue the policies and publish the blocklist changes that added and removed entries make."""
    entries = context.fleet.responder.entries
    emergency = {agent_id: entries.agent_layer(agent_id) for agent_id in response_changes.agent_ids}
    publish_policies(context, context.fleet.policies.set_emergency(emergency, context.batch.now.wall))
    for change in context.fleet.blocklists.changes(response_changes, context.fleet.policies.advance):
        publish_change(context, change)


def end(context: Context, remembered: Iterable[Remembered], ended: ResponseChanges, incident_id: str = "") -> None:
    """Apply a person's end of responses; each holds again if the store rejects what is about its incident.

    Args:
        context: the batch that is decided.
        remembered: the responses as they were before.
        ended: the responder's changes.
        incident_id: the incident that the command is about; with its change nothing of the command is stored.
    """
    changes = context.batch.changes
    fresh = {entry.id for entry in changes.entries_added}
    apply(context, ended)
    for each in remembered:
        stored = replace(each, entries=tuple(entry for entry in each.entries if entry.id not in fresh))
        member = "responses" if each.incident_id in changes.responses else "entries_removed"
        is_whole = each.incident_id == incident_id
        context.batch.undo.append(
            Undo(member, each.incident_id, partial(_hold_again, before=stored), is_whole=is_whole)
        )


def begin(
    context: Context, before: Remembered, response_changes: ResponseChanges, reported_at: float, *, extends: bool
) -> None:
    """Apply the response that a person approved; it waits again if the store rejects it.

    Args:
        context: the batch that is decided.
        before: the response as it was before.
        response_changes: the responder's changes.
        reported_at: as for `apply`.
        extends: as for `apply`.
    """
    apply(context, response_changes, reported_at, extends=extends)
    replaced = replace(before, entries=tuple(response_changes.removed))
    revert = partial(_hold_again, before=replaced, added=tuple(response_changes.added))
    context.batch.undo.append(Undo("responses", before.incident_id, revert, is_whole=True))


def _hold_again(context: Context, before: Remembered, added: Iterable[EmergencyEntry] = ()) -> None:
    """Restore the response to an incident with its entries, which the store has still, in place of added ones."""
    fleet, entries = context.fleet, context.fleet.responder.entries
    gone = [entry for each in added if (entry := entries.get(each.id)) is not None]
    for entry in gone:
        entries.remove(entry)
    if gone:
        fleet.acceptance.stop(before.incident_id)
        fleet.immunity.stop(before.incident_id)
    restored = put_back(fleet.responder, before)
    _publish(context, ResponseChanges(added=restored.added, removed=gone))
    if before.response is not None and before.response.state is ResponseState.PENDING_APPROVAL:
        context.fleet.waiting_approvals.setdefault(before.incident_id, before.indicator.organization_id)


def _announce_withdrawn(context: Context, response_changes: ResponseChanges) -> None:
    """Add an event for each address whose block was withdrawn because somebody logged in from it."""
    for entry in {each.subject.value: each for each in response_changes.removed}.values():
        data = {
            "value": entry.subject.value,
            "incidentId": entry.incident_id,
            "reason": "somebody logged in from it",
        }
        context.batch.event("block_withdrawn", data=data, organization_id=entry.subject.organization_id)


def _announce_approval(context: Context, response: Response, organization_id: str | None) -> None:
    """Add an event to the batch if a response begins to wait for approval, or waits no longer."""
    waiting, incident_id = context.fleet.waiting_approvals, response.incident_id
    if response.state is not ResponseState.PENDING_APPROVAL:
        if incident_id in waiting:
            organization_id = waiting.pop(incident_id)
            data = {"incidentId": incident_id, "state": response.state, "reason": response.reason}
            context.batch.event("approval_over", data=data, organization_id=organization_id)
        return
    if incident_id in waiting:
        return
    waiting[incident_id] = organization_id
    incident, expires_at = context.batch.changes.incidents.get(incident_id), response.approval_expires_at
    context.batch.event(
        "approval_waiting",
        data={
            "incidentId": incident_id,
            "reason": response.reason,
            "agentsBlocked": response.awaits_organization,
            "agents": None if incident is None else len(incident.members),
            "kind": None if incident is None else incident.kind,
            "value": None if incident is None else incident.value,
            "expiresAt": None if expires_at is None else iso(expires_at),
        },
        organization_id=organization_id,
    )


def _indicators(context: Context, response_changes: ResponseChanges) -> dict[str, Indicator]:
    """Return the indicators of the incidents whose responses change, as far as batch or entries name them."""
    entries = (*response_changes.removed, *response_changes.added)
    incidents = context.batch.changes.incidents
    ids = {response.incident_id for response in response_changes.responses}
    named = {each.incident_id: each.subject.indicator() for each in entries if each.incident_id in ids}
    return named | {each: incidents[each].indicator for each in ids if each in incidents}


def _move_entries(changes: Changes, moved: list[EmergencyEntry]) -> None:
    """Record moved entries in a batch; an entry that the batch itself adds is stored with its new incident."""
    incidents = {entry.id: entry.incident_id for entry in moved}
    if incidents:
        changes.entries_added = [
            replace(entry, incident_id=incidents.pop(entry.id, entry.incident_id)) for entry in changes.entries_added
        ]
        changes.entries_moved += [entry for entry in moved if entry.id in incidents]


def _number(context: Context, entry: EmergencyEntry) -> int | None:
    """Return the version of the policy, or the sequence of the blocklist, that an entry came with."""
    if entry.scope == "organization":
        return context.fleet.blocklists.sequences.get(entry.target)
    policy = context.fleet.policies.effective.get(entry.target)
    return policy.version if policy is not None else None


def publish_policies(context: Context, changed: Iterable[EffectivePolicy]) -> None:
    """Save changed effective policies and queue them for publication, urgent ones first."""
    for policy in changed:
        context.batch.save_policy(policy)
        context.batch.changes.fleet_revision = context.fleet.policies.revision
        if policy.urgent:
            context.policy_queue.add_urgent([policy.agent_id])
        else:
            context.policy_queue.add([policy.agent_id])


def record_applied(context: Context, agent_id: str, medium: Medium, number: int) -> None:
    """Record that an agent has accepted a policy version or blocklist sequence."""
    for progress in context.fleet.acceptance.applied(agent_id, medium, number, context.batch.now.wall):
        context.batch.changes.acceptance[progress.incident_id] = _figures(progress)


def record_enforced(context: Context, agent_id: str, medium: Medium, number: int, unenforced: frozenset[str]) -> None:
    """Record that an agent's host enforces a policy version or blocklist sequence, except for some values."""
    now = context.batch.now.wall
    for progress in context.fleet.immunity.applied(agent_id, medium, number, now, unenforced):
        context.batch.changes.immunity[progress.incident_id] = _figures(progress)


def publish_change(context: Context, change: BlocklistChange, subject: str | None = None) -> None:
    """Publish a change of a blocklist, unless the change of `subject` is dropped, and store its sequence."""
    changes = context.batch.changes
    publication = context.blocklist_messages.change(change, context.batch.now.wall)
    context.batch.publications.append(replace(publication, subject=subject))
    key, value = sequence_value(change.organization_id, change.sequence)
    changes.meta[key] = value
    changes.fleet_revision = context.fleet.policies.revision


def _measure_progress(context: Context, added: list[EmergencyEntry], reported_at: float, *, extends: bool) -> None:
    """Start to measure the time until the targets of new entries accept them, and until they enforce them.

    A response that was under way and is not tracked any more keeps its stored figures: its earlier targets are unknown.
    """
    fleet, now, changes = context.fleet, context.batch.now.wall, context.batch.changes
    for entry in added:
        medium: Medium = "policy" if entry.scope == "agent" else "blocklist"
        if medium == "policy":
            targets, number = [entry.target], fleet.policies.effective[entry.target].version
        else:
            targets = [agent.agent_id for agent in fleet.registry.of_organization(entry.target)]
            number = fleet.blocklists.sequences[entry.target]
        trackers = [(fleet.acceptance, changes.acceptance)]
        if is_enforceable(entry.kind, entry.value):
            trackers.append((fleet.immunity, changes.immunity))
        for tracker, written in trackers:
            if tracker.get(entry.incident_id) is None and extends:
                continue
            changed = tracker.track(
                entry.incident_id,
                targets,
                medium=medium,
                number=number,
                reported_at=reported_at,
                published_at=now,
                value=entry.value,
            )
            measured = tracker.get(entry.incident_id)
            if measured is not None:
                changed.append(measured)  # more targets: the share that was reached changed
            written.update({progress.incident_id: _figures(progress) for progress in changed})


def _figures(progress: Progress) -> dict[str, float]:
    return {str(percent): seconds for percent, seconds in progress.summary().items() if seconds is not None}
