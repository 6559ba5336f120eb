"""Incidents (indicators shared by several agents): list, record, undo and approve."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from manager.api.authentication import Caller
from manager.api.authorization import ScopedResponder, ScopedViewer
from manager.api.bodies import read_body
from manager.api.envelope import Schema, answer, body_of, ok, page, page_of
from manager.api.parameters import Cursor, Limit, Organization, QueryTime, epoch
from manager.api.services import Services, WithServices
from manager.api.user_names import incident_for
from manager.domain.correlation import Kind
from manager.domain.correlation.indicators import normal_address, normal_hash, normal_techniques
from manager.domain.response import ResponseState
from manager.engine.commands.requests import ApproveIncident, UndoIncident, WorkOnIncident
from manager.errors import NotFound
from schemas.limits import MESSAGE_LIMIT
from schemas.model import WireModel

router = APIRouter(tags=["incidents"])

_Open = Annotated[bool | None, Query(alias="open", description="only open ones, or only closed ones")]
_Response = Annotated[ResponseState | None, Query(description="only incidents with this response state")]
_Chronic = Annotated[bool | None, Query(description="only chronic ones, or only others")]
_Merged = Annotated[bool | None, Query(description="only incidents merged into another, or only others")]
_Since = Annotated[QueryTime | None, Query(description="only incidents opened at this time or later")]

_Value = Annotated[str | None, Query(max_length=128, description="only incidents of this address, hash or technique")]

_TEXT: Schema = {"type": "string"}
_MAYBE: Schema = {"type": ["string", "null"]}
_SECONDS: Schema = {"type": ["number", "null"]}


def _delays(reached: str) -> Schema:
    return {
        "type": "object",
        "description": f"seconds until this percentage of the targets {reached}; null where it is not reached",
        "properties": {"50": _SECONDS, "95": _SECONDS, "100": _SECONDS},
    }


_MEMBERS: dict[str, Schema] = {
    "id": _TEXT,
    "kind": {"enum": ["source_ip", "file_hash", "technique"]},
    "value": _TEXT,
    "organizationId": _TEXT,
    "site": _MAYBE,
    "agentIds": {"type": "array", "items": _TEXT},
    "agentCount": {"type": "integer"},
    "vouchedAgentCount": {"type": "integer", "description": "agents that prove who wrote what they report"},
    "targetCount": {"type": "integer", "description": "agents that its blocks in force are for"},
    "acceptedCount": {"type": "integer", "description": "targets that have verified and stored all of it"},
    "enforcedCount": {"type": "integer", "description": "targets whose kernels have it, by their fences' word"},
    "notEnforced": {
        "type": "array",
        "description": "targets that do not enforce it, with the reason by their word or state, at most five",
        "items": {"type": "object", "properties": {"agentId": _TEXT, "hostname": _TEXT, "reason": _TEXT}},
    },
    "openedAt": _TEXT,
    "firstSeenAt": _TEXT,
    "lastSeenAt": _TEXT,
    "closedAt": _MAYBE,
    "late": {"type": "boolean"},
    "chronic": {"type": "boolean"},
    "mergedInto": _MAYBE,
    "reportCount": {"type": "integer"},
    "returnCount": {"type": "integer"},
    "response": {"enum": [*(state.value for state in ResponseState), None]},
    "responseReason": _MAYBE,
    "respondedAt": _MAYBE,
    "organizationWide": {"type": "boolean"},
    "approvalExpiresAt": _MAYBE,
    "approvedBy": _MAYBE,
    "timeToAcceptance": _delays("had accepted the response"),
    "timeToImmunity": _delays("enforced the response in their kernels"),
    "workState": {"enum": ["new", "acknowledged", "closed", "reopened"]},
    "workBy": _MAYBE,
    "workAt": _MAYBE,
}
_Note = Annotated[str, Field(min_length=1, max_length=1000)]
_INCIDENT: Schema = {"type": "object", "required": list(_MEMBERS), "properties": _MEMBERS}
_LISTED = "Incidents, the last opened first; each names at most 200 of its agents."


@router.get("/api/incidents", responses=page_of(_LISTED))
async def list_incidents(
    *,
    services: WithServices,
    caller: ScopedViewer,
    is_open: _Open = None,
    kind: Kind | None = None,
    organization_id: Organization = None,
    response: _Response = None,
    chronic: _Chronic = None,
    merged: _Merged = None,
    since: _Since = None,
    value: _Value = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """Incidents, the last opened first."""
    found = await services.read(
        services.queries.incidents,
        is_open=is_open,
        kind=kind,
        organizations=caller.limit(organization_id),
        response=response,
        chronic=chronic,
        merged=merged,
        since=epoch(since),
        value=None if value is None else _normal(value),
        limit=limit,
        cursor=cursor,
    )
    return page(*found)


@router.get("/api/incidents/{incident_id}", responses=answer("The incident, its members and live entries.", _INCIDENT))
async def show_incident(incident_id: str, services: WithServices, caller: ScopedViewer) -> Response:
    """One incident, with at most 1,000 members and 1,000 entries."""
    return ok(await _incident(services, caller, incident_id))


@router.post("/api/incidents/{incident_id}/undo", responses=answer("The incident as it is now.", _INCIDENT))
async def undo_incident(incident_id: str, services: WithServices, caller: ScopedResponder) -> Response:
    """Withdraw an incident's response everywhere, and keep the incident from firing again."""
    return await _decide(services, caller, UndoIncident(incident_id, caller.name))


@router.post("/api/incidents/{incident_id}/approve", responses=answer("The incident as it is now.", _INCIDENT))
async def approve_incident(incident_id: str, services: WithServices, caller: ScopedResponder) -> Response:
    """Approve the response of an incident; 409 if it does not wait for approval."""
    return await _decide(services, caller, ApproveIncident(incident_id, caller.name))


class WorkBody(WireModel):
    """Body of an acknowledgement or a closing; without a note it may be missing."""

    note: _Note | None = None


class NoteBody(WireModel):
    """Body of a note."""

    note: _Note


_WORKED = answer("The incident as it is now.", _INCIDENT)


@router.post(
    "/api/incidents/{incident_id}/acknowledge", responses=_WORKED, openapi_extra=body_of("WorkBody", required=False)
)
async def acknowledge(incident_id: str, request: Request, services: WithServices, caller: ScopedResponder) -> Response:
    """Say that somebody looks into an incident; it changes no block."""
    note = await _optional_note(request)
    return await _decide(services, caller, WorkOnIncident(incident_id, "acknowledge", caller.name, note))


@router.post("/api/incidents/{incident_id}/note", responses=_WORKED, openapi_extra=body_of("NoteBody"))
async def add_note(incident_id: str, request: Request, services: WithServices, caller: ScopedResponder) -> Response:
    """Add a note to an incident's timeline."""
    note = (await read_body(request, NoteBody, MESSAGE_LIMIT)).note
    return await _decide(services, caller, WorkOnIncident(incident_id, "note", caller.name, note))


@router.post("/api/incidents/{incident_id}/close", responses=_WORKED, openapi_extra=body_of("WorkBody", required=False))
async def close(incident_id: str, request: Request, services: WithServices, caller: ScopedResponder) -> Response:
    """Say that the work on an incident is done; its blocks stay, and further reports reopen it."""
    note = await _optional_note(request)
    return await _decide(services, caller, WorkOnIncident(incident_id, "close", caller.name, note))


async def _optional_note(request: Request) -> str | None:
    if not await request.body():
        return None
    return (await read_body(request, WorkBody, MESSAGE_LIMIT)).note


def _normal(value: str) -> str:
    """Return an address, hash or technique in normal form; any other text as it is."""
    address = normal_address(value)
    if address is not None:
        return address.value
    return normal_hash(value) or next(iter(normal_techniques(value)), value)


async def _decide(
    services: Services, caller: Caller, request: UndoIncident | ApproveIncident | WorkOnIncident
) -> Response:
    if caller.organizations is not None:
        await _incident(services, caller, request.incident_id)
    return ok(await _incident(services, caller, await services.engine.submit(request)))


async def _incident(services: Services, caller: Caller, incident_id: str) -> dict[str, Any]:
    found = await services.read(services.queries.incident, incident_id)
    if found is None or not caller.sees(found["organizationId"]):
        raise NotFound(f"Incident {incident_id} not found")
    return incident_for(caller, services.user_names, found)
