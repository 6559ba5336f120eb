"""Automatic response as a whole: how it stands, frozen and let go on."""

from fastapi import APIRouter, Response

from manager.api.auth import Admin
from manager.api.envelope import answer, ok, record
from manager.api.services import Services, WithServices
from manager.engine.commands.requests import FreezeResponses, ReadResponseStatus, ResponseStatus

router = APIRouter(tags=["incidents"])

_STANDING = answer(
    "Whether it is frozen or only simulated, how many entries are in force, how many incidents wait for approval.",
    record(frozen="boolean", simulation="boolean", entries="integer", pending="integer"),
)


@router.get("/api/responses", responses=_STANDING)
async def show_responses(services: WithServices, _caller: Admin) -> Response:
    """How automatic response stands."""
    return await _standing(services)


@router.post("/api/responses/freeze", responses=_STANDING)
async def freeze(services: WithServices, caller: Admin) -> Response:
    """Stop all automatic response; what is in force stays until it is undone or ends."""
    await services.door.submit(FreezeResponses(frozen=True, author=caller.name))
    return await _standing(services)


@router.post("/api/responses/thaw", responses=_STANDING)
async def thaw(services: WithServices, caller: Admin) -> Response:
    """Let incidents respond again, from their next report by a further agent on."""
    await services.door.submit(FreezeResponses(frozen=False, author=caller.name))
    return await _standing(services)


async def _standing(services: Services) -> Response:
    standing: ResponseStatus = await services.door.submit(ReadResponseStatus())
    return ok(
        {
            "frozen": standing.frozen,
            "simulation": standing.simulation,
            "entries": standing.entries,
            "pending": standing.pending,
        }
    )
