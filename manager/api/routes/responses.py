"""Automatic response: its state, freeze and thaw, and the emergency entries (blocks) in force."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from manager.api.authorization import Admin, Responder, Viewer
from manager.api.bodies import read_body
from manager.api.envelope import answer, body_of, ok, page, page_of, record
from manager.api.parameters import Cursor, Limit, Organization
from manager.api.services import Services, WithServices
from manager.domain.response import OrganizationResponse
from manager.domain.response.emergency_entry import EntryKind
from manager.engine.commands.requests import (
    FreezeResponses,
    ReadResponseStatus,
    RemoveBlock,
    ResponseStatus,
    SetOrganizationResponse,
)
from schemas.limits import MESSAGE_LIMIT
from schemas.model import WireModel

router = APIRouter(tags=["incidents"])


class ResponseChoiceBody(WireModel):
    """Body of the choice which agents the organization-wide block counts."""

    organization_response: Annotated[OrganizationResponse, Field(strict=False)]


_STATE = answer(
    "Whether response is frozen or only simulated, the number of entries in force and of incidents to approve.",
    record(
        frozen="boolean",
        simulation="boolean",
        organizationResponse="string",
        organizationResponseChosen="boolean",
        entries="integer",
        pending="integer",
    ),
)
_Target = Annotated[str | None, Query(max_length=64, description="only entries of this agent or organization itself")]
_Incident = Annotated[str | None, Query(alias="incidentId", max_length=64, description="only this incident's entries")]


@router.get("/api/responses", responses=_STATE)
async def show_responses(services: WithServices, _caller: Viewer) -> Response:
    """State of automatic response."""
    return await _state(services)


@router.post("/api/responses/freeze", responses=_STATE)
async def freeze(services: WithServices, caller: Admin) -> Response:
    """Stop all automatic response; entries in force stay until they are undone or expire."""
    await services.engine.submit(FreezeResponses(frozen=True, author=caller.name))
    return await _state(services)


@router.post("/api/responses/thaw", responses=_STATE)
async def thaw(services: WithServices, caller: Admin) -> Response:
    """Resume automatic response: an incident responds at its next report by a further agent."""
    await services.engine.submit(FreezeResponses(frozen=False, author=caller.name))
    return await _state(services)


@router.put("/api/responses", responses=_STATE, openapi_extra=body_of("ResponseChoiceBody"))
async def choose(request: Request, services: WithServices, caller: Admin) -> Response:
    """Choose which agents the organization-wide block counts: those that vouch for the indicator, or any."""
    wanted = await read_body(request, ResponseChoiceBody, MESSAGE_LIMIT)
    await services.engine.submit(SetOrganizationResponse(wanted.organization_response, caller.name))
    return await _state(services)


async def _state(services: Services) -> Response:
    state: ResponseStatus = await services.engine.submit(ReadResponseStatus())
    return ok(
        {
            "frozen": state.frozen,
            "simulation": state.simulation,
            "organizationResponse": state.organization_response,
            "organizationResponseChosen": state.organization_chosen,
            "entries": state.entries,
            "pending": state.pending,
        }
    )


@router.get("/api/blocks", responses=page_of("Entries in force, newest first."))
async def list_blocks(
    *,
    services: WithServices,
    _caller: Viewer,
    kind: EntryKind | None = None,
    organization_id: Organization = None,
    target: _Target = None,
    incident_id: _Incident = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """Emergency entries in force and their expiry. Entries that admins block by policy are in the policies."""
    found = await services.read(
        services.queries.blocks,
        after=services.clock(),
        kind=kind,
        organization_id=organization_id,
        target=target,
        incident_id=incident_id,
        limit=limit,
        cursor=cursor,
    )
    return page(*found)


_REMOVED = answer(
    "The entry is no longer in force, and its incident does not fire again.", record(id="string", removed="boolean")
)


@router.delete("/api/blocks/{entry_id}", responses=_REMOVED)
async def remove_block(entry_id: str, services: WithServices, caller: Responder) -> Response:
    """Remove one entry."""
    return ok({"id": await services.engine.submit(RemoveBlock(entry_id, caller.name)), "removed": True})
