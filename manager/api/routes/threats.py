"""Reported threats: list and summary."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response

from manager.api.authorization import ScopedViewer
from manager.api.envelope import answer, ok, page, page_of, record
from manager.api.parameters import Cursor, Limit, Organization, QueryTime, epoch
from manager.api.services import WithServices
from schemas.identifiers import AgentId
from schemas.threats import Severity

router = APIRouter(tags=["threats"])

_Since = Annotated[QueryTime | None, Query(description="only threats received at this time or later")]
_Type = Annotated[str | None, Query(alias="type", max_length=128)]
_AgentId = Annotated[AgentId | None, Query(alias="agentId")]


@router.get("/api/threats", responses=page_of("Threats, newest first."))
async def list_threats(
    *,
    services: WithServices,
    caller: ScopedViewer,
    since: _Since = None,
    severity: Severity | None = None,
    type_: _Type = None,
    organization_id: Organization = None,
    agent_id: _AgentId = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """Threats, the last stored first; including those of removed agents."""
    found = await services.read(
        services.queries.threats,
        since=epoch(since),
        severity=severity,
        type_=type_,
        organizations=caller.limit(organization_id),
        agent_id=agent_id,
        limit=limit,
        cursor=cursor,
    )
    return page(*found)


Period = Literal["1h", "6h", "24h", "7d", "30d"]

_SUMMARY = answer(
    "Counts, and the most frequent agents and sources.",
    record(
        total="integer", bySeverity="object", byType="object", topAgents="array", topSourceIps="array",
        totalThreats="integer", criticalCount="integer", highCount="integer", suspiciousCount="integer",
        uniqueAttackers="integer", affectedAgents="integer", correlatedGroups="integer",
    ),
)  # fmt: skip


@router.get("/api/threats/summary", responses=_SUMMARY)
async def threat_summary(
    services: WithServices, caller: ScopedViewer, period: Period = "24h", organization_id: Organization = None
) -> Response:
    """Counts of threats of the fleet, or of one organization, within a period that ends now."""
    query = services.queries.threat_summary
    return ok(
        await services.read(query, now=services.clock(), period=period, organizations=caller.limit(organization_id))
    )
