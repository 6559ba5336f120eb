"""Incidents (indicators shared by several agents): list, record, undo and approve."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from manager.api.authentication import Caller
from manager.api.authorization import ScopedResponder, ScopedViewer
from manager.api.envelope import Schema, answer, ok, page, page_of
from manager.api.parameters import Cursor, Limit, Organization, QueryTime, epoch
from manager.api.services import Services, WithServices
from manager.domain.correlation import Kind
from manager.domain.response import ResponseState
from manager.engine.commands.requests import ApproveIncident, UndoIncident
from manager.errors import NotFound

router = APIRouter(tags=["incidents"])

_Open = Annotated[bool | None, Query(alias="open", description="only open ones, or only closed ones")]
_Response = Annotated[ResponseState | None, Query(description="only incidents with this response state")]
_Chronic = Annotated[bool | None, Query(description="only chronic ones, or only others")]
_Merged = Annotated[bool | None, Query(description="only incidents merged into another, or only others")]
_Since = Annotated[QueryTime | None, Query(description="only incidents opened at this time or later")]

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
}
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


async def _decide(services: Services, caller: Caller, request: UndoIncident | ApproveIncident) -> Response:
    if caller.organizations is not None:
        await _incident(services, caller, request.incident_id)
    return ok(await _incident(services, caller, await services.engine.submit(request)))


async def _incident(services: Services, caller: Caller, incident_id: str) -> dict[str, Any]:
    found = await services.read(services.queries.incident, incident_id)
    if found is None or not caller.sees(found["organizationId"]):
        raise NotFound(f"Incident {incident_id} not found")
    return found
