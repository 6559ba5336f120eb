"""Threats that the fleet reported."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import AwareDatetime

from manager.api.auth import Admin
from manager.api.described import page_of
from manager.api.envelope import page
from manager.api.parameters import Cursor, Limit, Organization
from manager.api.services import WithServices
from schemas.identifiers import AgentId
from schemas.threats import Severity

router = APIRouter(tags=["threats"])

_Since = Annotated[AwareDatetime | None, Query(description="only what the manager received at this time or later")]
_Type = Annotated[str | None, Query(alias="type", max_length=128)]
_AgentId = Annotated[AgentId | None, Query(alias="agentId")]


@router.get("/api/threats", responses=page_of("Threats, newest first."))
async def list_threats(
    *,
    services: WithServices,
    _caller: Admin,
    since: _Since = None,
    severity: Severity | None = None,
    type_: _Type = None,
    organization_id: Organization = None,
    agent_id: _AgentId = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """Threats, the last stored first; those of removed agents too."""
    found = await services.read(
        services.queries.threats,
        since=None if since is None else _epoch(since),
        severity=severity,
        type_=type_,
        organization_id=organization_id,
        agent_id=agent_id,
        limit=limit,
        cursor=cursor,
    )
    return page(*found)


def _epoch(moment: datetime) -> float:
    """Return seconds since 1970; subtraction, because the platform's own conversion ends at the year 9999."""
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()
