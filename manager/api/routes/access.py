"""Access tokens of people and programs: create, list (without their texts), rotate, revoke."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import Field, StringConstraints

from manager.api.authorization import Admin, Viewer
from manager.api.bodies import read_body
from manager.api.envelope import answer, body_of, ok, page, page_of, record
from manager.api.parameters import Cursor, Limit
from manager.api.services import Services, WithServices
from manager.domain.access import Role
from manager.engine.commands.access_requests import CreateAccess, NewAccess, RevokeAccess, RotateAccess
from manager.errors import Invalid
from schemas.identifiers import OrganizationId
from schemas.limits import MESSAGE_LIMIT
from schemas.model import Timestamp, WireModel, iso

router = APIRouter(tags=["access"])

_FLEET_ROLES = frozenset({Role.METRICS})
"""Roles whose routes do not tell organizations apart."""


class NewAccessToken(WireModel, extra="forbid"):
    """Body of a new access token; without organizations it is good for all of them."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$")] = Field(
        description="the holder, as the audit log names it"
    )
    role: Annotated[Role, Field(strict=False)]
    organizations: list[OrganizationId] = Field(default_factory=list, max_length=32)
    expires_at: Timestamp | None = None


class Rotation(WireModel, extra="forbid"):
    """Body of a rotation; without `expiresAt` the token keeps its lifetime, counted from now."""

    expires_at: Timestamp | None = None


_MEMBERS = record(
    name="string", token="string", role="string", organizations="array?", createdAt="string", rotatedAt="string",  # noqa: S106 -- types
    expiresAt="string?",
)  # fmt: skip


@router.get("/api/access", responses=page_of("Access tokens, newest first."))
async def list_access(services: WithServices, _caller: Viewer, limit: Limit = 50, cursor: Cursor = None) -> Response:
    """All access tokens, revoked ones too, without their texts; `organizations` is null for all of them."""
    return page(*await services.read(services.queries.access, limit=limit, cursor=cursor))


@router.post(
    "/api/access",
    responses=answer("The token, whose text is shown only here.", _MEMBERS, 201),
    status_code=201,
    openapi_extra=body_of("NewAccessToken"),
)
async def create_access(request: Request, services: WithServices, caller: Admin) -> Response:
    """Create an access token. Only this answer contains its text; 409 if a token with the name is not revoked."""
    wanted = await read_body(request, NewAccessToken, MESSAGE_LIMIT)
    if wanted.organizations and wanted.role in _FLEET_ROLES:
        raise Invalid(f"organizations: a {wanted.role} token reads figures of the whole fleet; leave them out")
    made: NewAccess = await services.engine.submit(
        CreateAccess(
            caller.name,
            wanted.name,
            wanted.role,
            tuple(dict.fromkeys(wanted.organizations)),
            _expiry(services, wanted.expires_at),
        )
    )
    return ok(_members(made), 201)


@router.post(
    "/api/access/{name}/rotate",
    responses=answer("The token with its new text, which is shown only here.", _MEMBERS),
    openapi_extra=body_of("Rotation"),
)
async def rotate_access(name: str, request: Request, services: WithServices, caller: Admin) -> Response:
    """Replace a token's text: the old one is refused from now on. An expired token is good again."""
    wanted = await read_body(request, Rotation, MESSAGE_LIMIT)
    made = await services.engine.submit(RotateAccess(caller.name, name, _expiry(services, wanted.expires_at)))
    return ok(_members(made))


@router.delete(
    "/api/access/{name}",
    responses=answer("The token is refused from now on.", record(name="string", revoked="boolean")),
)
async def revoke_access(name: str, services: WithServices, caller: Admin) -> Response:
    """Revoke a token; its name may be used again."""
    return ok({"name": await services.engine.submit(RevokeAccess(caller.name, name)), "revoked": True})


def _expiry(services: Services, moment: datetime | None) -> float | None:
    if moment is None:
        return None
    if moment.timestamp() <= services.clock():
        raise Invalid("expiresAt: it lies in the past")
    return moment.timestamp()


def _members(made: NewAccess) -> dict[str, Any]:
    token = made.token
    return {
        "name": token.name,
        "token": made.text,
        "role": str(token.role),
        "organizations": list(token.organizations) or None,
        "createdAt": iso(token.created_at),
        "rotatedAt": iso(token.rotated_at),
        "expiresAt": None if token.expires_at is None else iso(token.expires_at),
    }
