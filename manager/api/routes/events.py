"""The fleet's events as they happen, over Server-Sent Events."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response

from manager.api.auth import Admin
from manager.api.credentials import Caller
from manager.api.envelope import REFUSAL, answer, fail, ok, record
from manager.api.errors import Forbidden, Unauthorized
from manager.api.events.event_stream import VALID_FOR, StreamResponse
from manager.api.services import WithServices

router = APIRouter(tags=["events"])

_ISSUED = answer("A ticket for one connection.", record(ticket="string", expiresIn="number"), 201)
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {"description": "Events, until the reader leaves.", "content": {"text/event-stream": {}}},
    503: REFUSAL,
}


@router.post("/api/events/ticket", responses=_ISSUED, status_code=201)
async def issue_ticket(services: WithServices, _caller: Admin) -> Response:
    """A ticket that opens the stream once, within 30 seconds: `GET /api/events/stream?ticket=…`."""
    return ok({"ticket": services.tickets.issue(services.clock()), "expiresIn": VALID_FOR}, 201)


@router.get("/api/events/stream", responses=_STREAM, response_class=Response)
async def stream(
    request: Request,
    services: WithServices,
    ticket: Annotated[str | None, Query(max_length=64, description="in place of a token, for browsers")] = None,
    last_event_id: Annotated[str | None, Header(alias="Last-Event-ID", max_length=64)] = None,
    resume_after: Annotated[
        str | None, Query(alias="lastEventId", max_length=64, description="in place of the header, for browsers")
    ] = None,
) -> Response:
    """Events under their own names: `connected` first, then `agent_online`, `threats_reported` and all others.

    A reader that comes back with `Last-Event-ID` gets what it missed, as far as newer events are kept. A page needs
    a new ticket to come back, and so a new EventSource, which has no such header: it names the event in the query.
    """
    caller: Caller | None = request.scope.get("caller")
    if ticket is not None and caller is None:
        if not services.tickets.redeem(ticket, services.clock()):
            raise Unauthorized
    elif caller is None:
        raise Unauthorized
    elif not caller.is_admin:
        raise Forbidden
    if services.stream.full:
        return fail(503, "too many watch already; try again in a few seconds", {"Retry-After": "5"})
    return StreamResponse(services.stream, last_event_id or resume_after or None)
