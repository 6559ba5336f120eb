"""The console's session: sign in with an access token, read who is signed in, sign out."""

import time
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Request, Response
from pydantic import Field, StringConstraints

from manager.api import sessions
from manager.api.authentication import Caller
from manager.api.authorization import OPEN
from manager.api.bodies import read_body
from manager.api.envelope import answer, body_of, ok, record
from manager.api.errors import OtherOrigin, RoleRefused, TooManyRequests, Unauthorized
from manager.api.ports import DISCARD
from manager.api.services import Services, WithServices
from manager.api.sessions import CookieSessions
from manager.domain.access import Role
from manager.domain.console_sessions import SESSION_IDLE
from manager.engine.commands.access_requests import CloseSession, OpenSession, RecordRefusedSignIns
from schemas.limits import MESSAGE_LIMIT
from schemas.model import WireModel, iso

log = structlog.get_logger(__name__)

router = APIRouter(tags=["session"])

_MEMBERS = record(
    name="string", role="string", organizations="array?", csrfToken="string", endsAt="string", idleSeconds="number"
)  # fmt: skip


class SignIn(WireModel, extra="forbid"):
    """Body of a sign-in."""

    token: Annotated[str, StringConstraints(min_length=1, max_length=512)] = Field(
        description="an access token of role viewer, responder or admin, or the admin token"
    )


@router.post(
    "/api/session",
    responses=answer("Who is signed in; the cookie is set.", _MEMBERS, 201),
    status_code=201,
    dependencies=[OPEN],
    openapi_extra=body_of("SignIn"),
)
async def sign_in(request: Request, services: WithServices) -> Response:
    """Open a session with a token: the answer sets its cookie, and every change needs its `csrfToken` as a header.

    Five wrong tokens a minute are taken from one address, and no more.
    """
    cookies, headers = _cookies(services), dict(request.scope["headers"])
    if not cookies.is_same_origin(request.scope, headers) and {b"sec-fetch-site", b"origin"} & headers.keys():
        raise OtherOrigin
    address = services.client_addresses.address(request.scope["client"], headers)
    _refuse_guesses(services, address)
    wanted = await read_body(request, SignIn, MESSAGE_LIMIT)
    _refuse_guesses(services, address)  # others of this address may have been refused while the body came
    caller = services.credentials.identify(wanted.token)
    if caller is None or caller.role is None:
        _count_guess(services, address)
        raise Unauthorized
    if not caller.has(Role.VIEWER):
        raise RoleRefused(f"the access token {caller.name} has the role {caller.role}, and the console needs viewer")
    secret = sessions.new_secret()
    opened = OpenSession(caller.name, sessions.session_id(secret), services.credentials.token_digest(caller))
    session = await services.engine.submit(opened)
    response = ok(_members(caller, secret, session.ends_at), 201)
    response.headers["Set-Cookie"] = sessions.set_cookie(secret, secure=cookies.is_secure(request.scope, headers))
    return response


@router.get(
    "/api/session",
    responses=answer("Who is signed in.", _MEMBERS),
    dependencies=[OPEN],
)
async def read_session(request: Request, services: WithServices) -> Response:
    """The holder of the cookie's session, and the CSRF token; 401 without a session. It does not count as use."""
    secret, caller = _signed_in(request, services)
    return ok(_members(caller, secret, services.credentials.session_end(caller) or services.clock()))


@router.delete(
    "/api/session",
    responses=answer("The session has ended; the cookie is removed.", record(signedOut="boolean")),
    dependencies=[OPEN],
)
async def sign_out(request: Request, services: WithServices) -> Response:
    """End the session."""
    _, caller = _signed_in(request, services)
    if caller.session is not None:
        await services.engine.submit(CloseSession(caller.name, caller.session))
    response = ok({"signedOut": True})
    secure = _cookies(services).is_secure(request.scope, dict(request.scope["headers"]))
    response.headers["Set-Cookie"] = sessions.set_cookie("", secure=secure)
    return response


def _cookies(services: Services) -> CookieSessions:
    return CookieSessions(services.credentials, services.client_addresses)


def _signed_in(request: Request, services: Services) -> tuple[str, Caller]:
    caller: Caller | None = request.scope.get("caller")
    secret = _cookies(services).secret(request.scope, dict(request.scope["headers"]))
    if caller is None or caller.session is None or secret is None:
        raise Unauthorized
    return secret, caller


def _refuse_guesses(services: Services, address: str) -> None:
    wait = services.sign_ins.remaining(services.client_addresses.rate_limit_key(address), time.monotonic())
    if wait:
        limit, seconds = services.sign_ins.limit, int(wait) + 1
        raise TooManyRequests(f"{limit} wrong tokens a minute are taken; try again in {seconds} s", limit, seconds)


def _count_guess(services: Services, address: str) -> None:
    """Count a wrong token; with the last one of a minute the fleet's events tell of the address."""
    key, now = services.client_addresses.rate_limit_key(address), time.monotonic()
    services.sign_ins.wait(key, now)
    log.warning("sign_in_refused", address=address)
    if services.sign_ins.remaining(key, now):
        services.engine.submit_nowait(RecordRefusedSignIns(address, services.sign_ins.limit), DISCARD)


def _members(caller: Caller, secret: str, ends_at: float) -> dict[str, Any]:
    return {
        "name": caller.name,
        "role": str(caller.role),
        "organizations": None if caller.organizations is None else sorted(caller.organizations),
        "csrfToken": sessions.csrf_token(secret),
        "endsAt": iso(ends_at),
        "idleSeconds": int(SESSION_IDLE),
    }
