"""Audit log of changes, and dead letters (rejected messages)."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from manager.api.authorization import Viewer
from manager.api.envelope import page, page_of
from manager.api.parameters import Cursor, Limit, QueryTime, epoch
from manager.api.services import WithServices
from manager.api.user_names import is_masked_for

router = APIRouter()

_Since = Annotated[QueryTime | None, Query(description="only changes at this time or later")]
_Word = Annotated[str | None, Query(max_length=256)]
_Action = Annotated[str | None, Query(max_length=64, description="such as policy.set, or policy for all of its kind")]


@router.get("/api/audit", responses=page_of("Changes, newest first."), tags=["audit"])
async def list_audit(
    *,
    services: WithServices,
    _caller: Viewer,
    since: _Since = None,
    actor: _Word = None,
    action: _Action = None,
    target: _Word = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """Every change: actor, time, client address, action, target, and the state before and after."""
    found = await services.read(
        services.queries.audit,
        since=epoch(since),
        actor=actor,
        action=action,
        target=target,
        limit=limit,
        cursor=cursor,
    )
    return page(*found)


@router.get("/api/dead-letters", responses=page_of("Rejected messages, newest first."), tags=["fleet"])
async def list_dead_letters(
    services: WithServices, caller: Viewer, limit: Limit = 50, cursor: Cursor = None
) -> Response:
    """Rejected messages, each with the reason; for viewers `payload` is empty, as it may name a mistyped password."""
    letters, following = await services.read(services.queries.dead_letters, limit=limit, cursor=cursor)
    if is_masked_for(caller):
        letters = [{**letter, "payload": ""} for letter in letters]
    return page(letters, following)
