"""Automatic response: its state, freeze and thaw, and the agents that it counts."""

from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import Field

from manager.api.authentication import Caller
from manager.api.authorization import Admin, ScopedViewer
from manager.api.bodies import read_body
from manager.api.envelope import answer, body_of, ok, record
from manager.api.services import Services, WithServices
from manager.domain.response import OrganizationResponse
from manager.engine.commands.requests import (
    FreezeResponses,
    ReadResponseStatus,
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


@router.get("/api/responses", responses=_STATE)
async def show_responses(services: WithServices, caller: ScopedViewer) -> Response:
    """State of automatic response."""
    return await _state(services, caller)


@router.post("/api/responses/freeze", responses=_STATE)
async def freeze(services: WithServices, caller: Admin) -> Response:
    """Stop all automatic response; entries in force stay until they are undone or expire."""
    await services.engine.submit(FreezeResponses(frozen=True, author=caller.name))
    return await _state(services, caller)


@router.post("/api/responses/thaw", responses=_STATE)
async def thaw(services: WithServices, caller: Admin) -> Response:
    """Resume automatic response: an incident responds at its next report by a further agent."""
    await services.engine.submit(FreezeResponses(frozen=False, author=caller.name))
    return await _state(services, caller)


@router.put("/api/responses", responses=_STATE, openapi_extra=body_of("ResponseChoiceBody"))
async def choose(request: Request, services: WithServices, caller: Admin) -> Response:
    """Choose which agents the organization-wide block counts: those that vouch for the indicator, or any."""
    wanted = await read_body(request, ResponseChoiceBody, MESSAGE_LIMIT)
    await services.engine.submit(SetOrganizationResponse(wanted.organization_response, caller.name))
    return await _state(services, caller)


async def _state(services: Services, caller: Caller) -> Response:
    state: ResponseStatus = await services.engine.submit(ReadResponseStatus())
    entries, pending = state.entries, state.pending
    if caller.organizations is not None:
        query = services.queries.response_counts
        entries, pending = await services.read(query, after=services.clock(), organizations=caller.organizations)
    return ok(
        {
            "frozen": state.frozen,
            "simulation": state.simulation,
            "organizationResponse": state.organization_response,
            "organizationResponseChosen": state.organization_chosen,
            "entries": entries,
            "pending": pending,
        }
    )
