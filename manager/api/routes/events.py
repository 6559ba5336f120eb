"""Fleet events as Server-Sent Events, and tickets for browsers."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request, Response

from manager.api.authentication import Caller
from manager.api.authorization import Declares, ScopedViewer, allows
from manager.api.envelope import REFUSAL, answer, fail, ok, record
from manager.api.errors import Unauthorized
from manager.api.events.event_stream import StreamResponse
from manager.api.events.stored_events import StoredEvents
from manager.api.events.tickets import TICKET_LIFETIME
from manager.api.services import WithServices
from manager.domain.access import Role

router = APIRouter(tags=["events"])

_ISSUED = answer("A ticket for one connection.", record(ticket="string", expiresIn="number"), 201)
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {"description": "Events, until the client disconnects.", "content": {"text/event-stream": {}}},
    503: REFUSAL,
}


@router.post("/api/events/ticket", responses=_ISSUED, status_code=201)
async def issue_ticket(services: WithServices, caller: ScopedViewer) -> Response:
    """A ticket that opens the stream once, within 30 seconds: `GET /api/events/stream?ticket=…`."""
    return ok({"ticket": services.tickets.issue(caller, services.clock()), "expiresIn": TICKET_LIFETIME}, 201)


@router.get(
    "/api/events/stream",
    responses=_STREAM,
    response_class=Response,
    dependencies=[Depends(Declares("viewer", "organization"))],
)
async def stream(
    *,
    request: Request,
    services: WithServices,
    ticket: Annotated[str | None, Query(max_length=64, description="instead of a token, for browsers")] = None,
    last_event_id: Annotated[str | None, Header(alias="Last-Event-ID", max_length=64)] = None,
    resume_after: Annotated[
        str | None, Query(alias="lastEventId", max_length=64, description="instead of the header, for browsers")
    ] = None,
    alive: Annotated[
        float | None,
        Query(ge=1, le=30, description="seconds of silence after which an `alive` event is sent instead of a comment"),
    ] = None,
) -> Response:
    """Events by name: `connected` first, then `agent_online`, `threats_reported` and all others.

    With `Last-Event-ID` the stream resumes after that event, after a restart of the manager too, as far as newer events
    are kept; `connected` says how many were `missed`, and how many `dropped`. Events without an id are not kept. A web
    page needs a new ticket to reconnect, so a new EventSource, which sends no such header: it names the event in the
    query.
    """
    caller: Caller | None = request.scope.get("caller")
    if ticket is not None and caller is None:
        caller = services.tickets.redeem(ticket, services.clock())
    if caller is None or not services.credentials.is_current(caller):
        raise Unauthorized
    allows(Role.VIEWER, scoped=True).check(caller)
    if services.stream.full:
        return fail(
            503, "the event stream has its maximum of clients; try again in a few seconds", {"Retry-After": "5"}
        )
    if services.stream.is_full_for(caller.digest):
        most = services.stream.max_of_token
        return fail(
            503, f"this token has {most} event streams open, the most of one token: close one", {"Retry-After": "5"}
        )
    return StreamResponse(
        services.stream,
        StoredEvents(services.queries, services.read, caller.organizations),
        last_event_id or resume_after or None,
        organizations=caller.organizations,
        token=caller.digest,
        is_allowed=lambda: services.credentials.is_current(caller),
        alive=alive,
    )
