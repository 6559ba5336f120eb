"""Incident commands: undo, approve, remove a block, freeze, and read the state of automatic response."""

from functools import partial

from manager.domain.correlation import Incident, Indicator
from manager.domain.correlation.indicators import SITELESS
from manager.domain.networks import network_of
from manager.domain.protection.forecast import Lift, LiftKind
from manager.domain.protection.measures import ScopedAddress
from manager.domain.response import OrganizationResponse, Subject
from manager.domain.response.organization_step import ORGANIZATION_RESPONSE
from manager.domain.response.taken_back import remember
from manager.engine.batch import HistoryLine, IncidentWork, Undo
from manager.engine.commands.audit import add_entry
from manager.engine.commands.requests import (
    ApproveIncident,
    FreezeResponses,
    ReadResponseStatus,
    ResponseStatus,
    SetOrganizationResponse,
    UndoIncident,
    WorkOnIncident,
)
from manager.engine.context import Context
from manager.engine.fleet import FROZEN, UNCHOSEN_WARNING
from manager.engine.policies.never_lists import lift_on_hosts, restore_lifts
from manager.engine.response import emergency_response, manual_response
from manager.errors import Conflict, NotFound

NOTES_LIMIT = 200
"""The most notes of one incident; the timeline in its record has as many."""

WORK_LIMIT = 1000
"""The most acknowledgements, notes and closings of one incident."""


def undo_incident(context: Context, request: UndoIncident) -> str:
    """Undo an incident's response everywhere; that of an absorbed incident is the one of the incident that stays."""
    incident = surviving_incident(context, request.incident_id)
    responder = context.fleet.responder
    before = remember(responder, responder.entries.list_about(Subject.of(incident.indicator)), incident)
    ended = responder.undo(incident, context.batch.now.wall, request.author)
    emergency_response.end(context, before, ended, incident.id)
    if incident.indicator.kind == "source_ip":
        record_lift(context, incident.indicator, "undo", request.author)
        _lift_own_blocks(context, incident)
    return incident.id


def _lift_own_blocks(context: Context, incident: Incident) -> None:
    """Have fences end their guards' own blocks of an incident's address, unless that would end what a person set.

    Only what a person set for hosts of the incident's organization counts.
    A private address is another host at another site, and the never list is the whole organization's.
    """
    network = network_of(incident.value)
    if network is None or incident.site is not None:
        return
    own, manual = incident.organization_id, context.fleet.responder.entries.manual.list_covering(network)
    if any(manual_response.holds_in(context, block.holder, own) for block in manual):
        return
    if not any(manual_response.blocked_by_documents(context, network, own)):
        known = context.fleet.responder.never_block.lifted.of_organization(own)
        lift_on_hosts(context, own, network)
        member = "responses" if incident.id in context.batch.changes.responses else "entries_removed"
        revert = partial(restore_lifts, network=network, before={own: known})
        context.batch.undo.append(Undo(member, incident.id, revert))


def approve_incident(context: Context, request: ApproveIncident) -> str:
    """Approve the response of an incident that waits for approval, or of the one that absorbed it."""
    incident, now = surviving_incident(context, request.incident_id), context.batch.now.wall
    responder = context.fleet.responder
    known = responder.responses.get(incident.id)
    extends = known is not None and known.is_under_way
    (before,) = remember(responder, (), incident)
    response_changes = responder.approve(incident, context.fleet.facts(now), now, request.author)
    emergency_response.begin(context, before, response_changes, now, extends=extends)
    return incident.id


def work_on_incident(context: Context, request: WorkOnIncident) -> str:
    """Record what a person did about an incident; an absorbed incident is worked on as the one that stays.

    Raises:
        Conflict: the incident has as many notes or entries as one may have.
        NotFound: there is no such incident.
    """
    incident, now = surviving_incident(context, request.incident_id), context.batch.now.wall
    _check_work_room(context, incident.id, request.note)
    context.batch.changes.work.append(IncidentWork(incident.id, now, request.author, request.action, request.note))
    after = None if request.note is None else {"note": request.note}
    add_entry(context, context.origin, f"incident.{request.action}", incident.id, before=None, after=after)
    data = {"incidentId": incident.id, "action": request.action, "author": request.author}
    context.batch.event("incident_work", data=data, organization_id=incident.organization_id)
    return incident.id


def _check_work_room(context: Context, incident_id: str, note: str | None) -> None:
    entries, notes = context.archive.work_counts(incident_id)
    waiting = [work for work in context.batch.changes.work if work.incident_id == incident_id]
    entries, notes = entries + len(waiting), notes + sum(work.note is not None for work in waiting)
    if note is not None and notes >= NOTES_LIMIT:
        raise Conflict(
            f"incident {incident_id} has {notes} notes, the most that one may have: keep further ones elsewhere"
        )
    if entries >= WORK_LIMIT:
        raise Conflict(
            f"incident {incident_id} was acknowledged, noted and closed {entries} times, the most that is kept"
        )


def record_lift(context: Context, indicator: Indicator, kind: LiftKind, author: str) -> None:
    """Store that a person lifted blocks of an address: the forecast of automatic blocking counts it."""
    subject = ScopedAddress(indicator.organization_id, indicator.site or SITELESS, indicator.value)
    context.batch.changes.lifts.append(Lift(subject, context.batch.now.wall, kind, author))


def freeze_responses(context: Context, request: FreezeResponses) -> bool:
    """Freeze or thaw all automatic response; the state survives a restart."""
    responder = context.fleet.responder
    context.batch.undo.append(Undo("meta", FROZEN, partial(_restore_frozen, frozen=responder.frozen), is_whole=True))
    if request.frozen:
        responder.freeze()
    else:
        responder.thaw()
    context.batch.changes.meta[FROZEN] = "true" if request.frozen else "false"
    event = "responses_frozen" if request.frozen else "responses_thawed"
    context.batch.changes.history.append(HistoryLine("", context.batch.now.wall, event, request.author))
    context.batch.event(event, data={"author": request.author})
    return request.frozen


def _restore_frozen(context: Context, *, frozen: bool) -> None:
    context.fleet.responder.frozen = frozen


def _restore_organization_response(context: Context, before: tuple[OrganizationResponse, str | None]) -> None:
    context.fleet.responder.organization_response, warning = before
    if warning is not None:
        context.fleet.warnings[UNCHOSEN_WARNING] = warning


def set_organization_response(context: Context, request: SetOrganizationResponse) -> OrganizationResponse:
    """Choose which agents the organization-wide step counts, from the next change of an incident on."""
    fleet = context.fleet
    before = (fleet.responder.organization_response, fleet.warnings.get(UNCHOSEN_WARNING))
    revert = partial(_restore_organization_response, before=before)
    context.batch.undo.append(Undo("meta", ORGANIZATION_RESPONSE, revert, is_whole=True))
    fleet.responder.organization_response = request.counted
    fleet.warnings.pop(UNCHOSEN_WARNING, None)
    context.batch.changes.meta[ORGANIZATION_RESPONSE] = request.counted.value
    detail = f"{request.counted} by {request.author}"
    context.batch.changes.history.append(HistoryLine("", context.batch.now.wall, "organization_response", detail))
    return request.counted


def read_response_status(context: Context, _request: ReadResponseStatus) -> ResponseStatus:
    """Return the state of automatic response."""
    responder = context.fleet.responder
    return ResponseStatus(
        frozen=responder.frozen,
        simulation=context.fleet.settings.responder.simulation,
        organization_response=responder.organization_response,
        organization_chosen=UNCHOSEN_WARNING not in context.fleet.warnings,
        entries=len(responder.entries),
        pending=responder.responses.pending_count(),
    )


def surviving_incident(context: Context, incident_id: str) -> Incident:
    """Return an incident, or the one that absorbed it and still stays.

    Raises:
        NotFound: no such incident is stored.
    """
    incident = _incident(context, incident_id)
    while incident.merged_into is not None and (absorbing := context.archive.find(incident.merged_into)) is not None:
        incident = absorbing
    return incident


def _incident(context: Context, incident_id: str) -> Incident:
    incident = context.archive.find(incident_id)
    if incident is None:
        raise NotFound(f"Incident {incident_id} not found")
    return incident
