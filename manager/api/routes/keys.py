"""The signing key: state, rotation, rollback."""

from fastapi import APIRouter, Request, Response

from manager.api.authorization import Admin, Viewer
from manager.api.bodies import read_body
from manager.api.envelope import answer, body_of, ok, record
from manager.api.services import WithServices
from manager.engine.commands.key_requests import ReadKeys, RollBackKeys, RotateKeys
from schemas.model import WireModel

router = APIRouter(tags=["keys"])

_KEYS = answer(
    "The keys, and how many agents have changed to the active one.",
    record(signKey="string", number="integer", former="array", canRollBack="boolean", agents="object", behind="array"),
)


class KeyRotation(WireModel):
    """Body of a rotation of the signing key."""

    compromised: bool = False
    dry_run: bool = False


class KeyRollback(WireModel):
    """Body of a rollback of the signing key."""

    dry_run: bool = False


@router.get("/api/keys", responses=_KEYS)
async def show_keys(services: WithServices, _caller: Viewer) -> Response:
    """The active signing key, the former ones with the end of their 30 days, and the agents on each."""
    return ok(await services.engine.submit(ReadKeys()))


@router.post("/api/keys/rotate", responses=_KEYS, openapi_extra=body_of("KeyRotation"))
async def rotate_keys(request: Request, services: WithServices, caller: Admin) -> Response:
    """Replace the signing key; with `compromised` agents refuse the former one as soon as they have the new one."""
    wanted = await read_body(request, KeyRotation)
    state = await services.engine.submit(RotateKeys(caller.name, wanted.compromised, wanted.dry_run))
    await services.read(services.on_keys_changed)
    return ok(state)


@router.post("/api/keys/rollback", responses=_KEYS, openapi_extra=body_of("KeyRollback"))
async def roll_back_keys(request: Request, services: WithServices, caller: Admin) -> Response:
    """Make the signing key from before the newest rotation the active one again, within its 30 days."""
    wanted = await read_body(request, KeyRollback)
    state = await services.engine.submit(RollBackKeys(caller.name, wanted.dry_run))
    await services.read(services.on_keys_changed)
    return ok(state)
