"""Enrollment tokens: create, list (without secrets), rotate, revoke."""

from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import Field, StringConstraints

from manager.api.authorization import Admin, Viewer
from manager.api.bodies import read_body
from manager.api.envelope import answer, body_of, ok, page, page_of, record
from manager.api.parameters import Cursor, Limit
from manager.api.services import WithServices
from manager.engine.commands.requests import CreateToken, RevokeToken, RotateToken
from manager.errors import Invalid
from schemas.identifiers import Label, OrganizationId
from schemas.keys import EnrollmentToken
from schemas.model import Timestamp, WireModel

router = APIRouter(tags=["tokens"])

_NAME = r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$"


class NewToken(WireModel):
    """Body of a new token; a missing member means no such limit."""

    organization_id: OrganizationId | None = None
    site: Label | None = None
    tags: list[Label] = Field(default_factory=list, max_length=32)
    expires_at: Timestamp | None = None
    name: Annotated[str, StringConstraints(pattern=_NAME)] | None = Field(
        default=None, description="by which it is rotated and revoked"
    )
    rate: int | None = Field(default=None, ge=1, le=1_000_000, description="new agents an hour")
    ephemeral: bool = Field(
        default=False, description="its agents go offline without an alarm, and are removed after an hour"
    )
    max_uses: int | None = Field(default=None, ge=1, le=2**31 - 1, description="new agents that may register with it")


@router.get("/api/tokens", responses=page_of("Tokens, newest first."))
async def list_tokens(services: WithServices, _caller: Viewer, limit: Limit = 50, cursor: Cursor = None) -> Response:
    """All created tokens, without their secrets."""
    return page(*await services.read(services.queries.tokens, limit=limit, cursor=cursor))


_CREATED = answer(
    "The token, which is shown only here, and the broker's URL as the manager reaches it.",
    record(tokenId="string", token="string", broker="string?"),  # noqa: S106 -- a type
    201,
)


@router.post("/api/tokens", responses=_CREATED, status_code=201, openapi_extra=body_of("NewToken"))
async def create_token(request: Request, services: WithServices, caller: Admin) -> Response:
    """Create a token. Only this answer contains its text."""
    wanted = await read_body(request, NewToken)
    expires_at = None if wanted.expires_at is None else wanted.expires_at.timestamp()
    if expires_at is not None and expires_at <= services.clock():
        raise Invalid("expiresAt: it lies in the past")
    if wanted.name is not None and wanted.name.startswith("tok-"):
        raise Invalid("name: tok-… stands for an id; choose another")
    token: EnrollmentToken = await services.engine.submit(
        CreateToken(
            author=caller.name,
            organization_id=wanted.organization_id,
            site=wanted.site,
            tags=tuple(wanted.tags),
            expires_at=expires_at,
            max_uses=wanted.max_uses,
            name=wanted.name,
            rate=wanted.rate,
            ephemeral=wanted.ephemeral,
        )
    )
    members = wanted.model_dump(mode="json", by_alias=True)
    return ok({"tokenId": token.token_id, "token": str(token), "broker": services.broker(), **members}, 201)


_ROTATED = answer("The token with its new text, which is shown only here.", record(tokenId="string", token="string"))  # noqa: S106 -- a type


@router.post("/api/tokens/{token_id}/rotate", responses=_ROTATED)
async def rotate_token(token_id: str, services: WithServices, caller: Admin) -> Response:
    """Replace a token's secret, by its id or name; agents that registered with it stay registered."""
    token: EnrollmentToken = await services.engine.submit(RotateToken(token_id, caller.name))
    await services.read(services.on_token_rotated, token)
    return ok({"tokenId": token.token_id, "token": str(token)})


_REVOKED = answer("The token is refused from now on.", record(tokenId="string", revoked="boolean"))


@router.delete("/api/tokens/{token_id}", responses=_REVOKED)
async def revoke_token(token_id: str, services: WithServices, caller: Admin) -> Response:
    """Revoke a token, by its id or name; agents that registered with it stay registered."""
    return ok({"tokenId": await services.engine.submit(RevokeToken(token_id, caller.name)), "revoked": True})
