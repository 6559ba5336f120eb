"""Registration of agents over HTTP (lifecycle page, phase 1)."""

import math
from contextlib import suppress
from typing import Any

from fastapi import APIRouter, Depends, Request, Response

from manager.api.authentication import Caller
from manager.api.authorization import Declares, allows
from manager.api.bodies import read_document_or
from manager.api.envelope import answer, body_of, ok
from manager.api.errors import TokenRefusedError, TooManyRequests, Unauthorized
from manager.api.middleware.admission import bearer
from manager.api.ports import DISCARD
from manager.api.services import Services, WithServices
from manager.domain.access import Role
from manager.domain.agents.host import Host
from manager.domain.networks import network_of
from manager.engine.commands.http_agent_requests import (
    EnrollmentLimited,
    RecordRefusedRegistration,
    RegisterAgent,
    Registered,
    TokenRefused,
)
from manager.errors import Invalid, StoreUnavailable
from schemas.http_agents import HttpRegistration
from schemas.keys import EnrollmentToken
from schemas.limits import MESSAGE_LIMIT

router = APIRouter(tags=["agents"])

_REQUIRED = ("hostname", "os", "arch", "version")
_UNAUTHORIZED = "no token of this manager, and no address of a trusted network"
_TEXT = {"type": "string"}
_REGISTERED = answer(
    "The agent's record and its token, which is shown only here.", None, 201, agentId=_TEXT, token=_TEXT
)


@router.post(
    "/api/agents/register",
    responses=_REGISTERED,
    status_code=201,
    openapi_extra=body_of("HttpRegistration"),
    dependencies=[Depends(Declares("admin", "fleet", "any"))],
)
async def register(request: Request, services: WithServices) -> Response:
    """Register an agent; the same hostname and organization again is a reconnection, with the same `agentId`.

    The bearer is an enrollment token or the admin's token; hosts of a trusted network need none. An agent that still
    has its own token sends that, and so may reconnect while it counts as online.
    """
    address = services.client_addresses.address(request.scope["client"], dict(request.scope["headers"]))
    trusted = services.client_addresses.is_trusted(address)
    try:
        token, caller = _authority(request, services, trusted=trusted)
    except Unauthorized:
        with suppress(StoreUnavailable):
            services.engine.submit_nowait(RecordRefusedRegistration(address, _UNAUTHORIZED), DISCARD)
        raise
    wanted = await _read(request)
    registered = await services.engine.submit(
        RegisterAgent(
            host=_host(wanted, address),
            organization_id=wanted.organization_id,
            token=token,
            own_agent_id=caller.agent_id if caller else None,
            by_admin=caller is not None and caller.is_admin,
            address=address,
            trusted=trusted,
        )
    )
    if isinstance(registered, EnrollmentLimited):
        raise TooManyRequests(registered.reason, registered.limit, math.ceil(registered.retry_after))
    if isinstance(registered, TokenRefused):
        if registered.reason is None:
            raise Unauthorized
        raise TokenRefusedError(registered.reason)
    return _answer(registered)


def _authority(request: Request, services: Services, *, trusted: bool) -> tuple[EnrollmentToken | None, Caller | None]:
    """Return the authority for a registration: an enrollment token, a caller, or neither on a trusted network.

    Raises:
        Unauthorized: the registration is not authorized.
        RoleRefused: the access token is no admin's of the whole fleet.
    """
    given = bearer(dict(request.scope["headers"]))
    caller: Caller | None = request.scope.get("caller")
    if caller is not None:
        if caller.agent_id is None:
            allows(Role.ADMIN).check(caller)
        return None, caller
    if given is not None:
        token = services.credentials.enrollment(given)
        if token is None:
            raise Unauthorized
        return token, None
    if "authorization" in request.headers or not trusted:
        raise Unauthorized
    return None, None


async def _read(request: Request) -> HttpRegistration:
    def complete(document: Any) -> None:
        missing = [name for name in _REQUIRED if isinstance(document, dict) and document.get(name) in (None, "")]
        if missing:
            raise Invalid(f"Missing required fields: {', '.join(missing)}")

    return await read_document_or(request, HttpRegistration, complete, MESSAGE_LIMIT)


def _host(wanted: HttpRegistration, address: str) -> Host:
    """Return the host's data with all its known addresses, which no response may block."""
    known = [text for text in (wanted.ip, address) if text and network_of(text) is not None]
    return Host.of(
        hostname=wanted.hostname,
        os=wanted.os,
        arch=wanted.arch,
        version=wanted.version,
        reported_site=wanted.site,
        reported_tags=tuple(dict.fromkeys(wanted.tags)),
        addresses=tuple(dict.fromkeys(known)),
        ip=wanted.ip or address or None,
    )


def _answer(registered: Registered) -> Response:
    record = {**registered.record, "token": registered.token}
    return ok(record, 201, agentId=record["agentId"], token=registered.token)
