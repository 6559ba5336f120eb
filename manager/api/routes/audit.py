"""Who changed what."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from manager.api.auth import Admin
from manager.api.envelope import page, page_of
from manager.api.parameters import Cursor, Limit, Moment, epoch
from manager.api.services import WithServices

router = APIRouter(tags=["audit"])

_Since = Annotated[Moment | None, Query(description="only what was done at this time or later")]
_Word = Annotated[str | None, Query(max_length=256)]
_Action = Annotated[str | None, Query(max_length=64, description="such as policy.set, or policy for all of its kind")]


@router.get("/api/audit", responses=page_of("Who changed what, newest first."))
async def list_audit(
    *,
    services: WithServices,
    _caller: Admin,
    since: _Since = None,
    actor: _Word = None,
    action: _Action = None,
    target: _Word = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """Every change: who, what, when, from where, and what stood there before and after."""
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
