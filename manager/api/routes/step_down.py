"""Hand-over of the lease to another manager of the database."""

from fastapi import APIRouter, Request, Response

from manager.api.authorization import Admin
from manager.api.bodies import read_body
from manager.api.envelope import answer, body_of, ok, record
from manager.api.services import WithServices
from manager.errors import Conflict
from schemas.model import WireModel

router = APIRouter(tags=["fleet"])


class StepDown(WireModel):
    """Body of a hand-over."""

    force: bool = False


@router.post(
    "/api/step-down",
    responses=answer("The lease is handed over.", record(steppingDown="boolean")),
    openapi_extra=body_of("StepDown", required=False),
)
async def step_down(request: Request, services: WithServices, _caller: Admin) -> Response:
    """Commit, and hand the lease over to a manager that stands by; 409 where there is none, unless forced."""
    wanted = await read_body(request, StepDown) if await request.body() else StepDown()
    refusal = services.step_down(wanted.force)
    if refusal is not None:
        raise Conflict(refusal)
    return ok({"steppingDown": True})
