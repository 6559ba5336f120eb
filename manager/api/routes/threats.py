"""Reported threats: list and summary."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from manager.api.authentication import Caller
from manager.api.authorization import ScopedResponder, ScopedViewer
from manager.api.bodies import read_body
from manager.api.envelope import answer, body_of, ok, page, page_of, record
from manager.api.parameters import Cursor, Limit, Organization, QueryTime, epoch
from manager.api.ports import Record
from manager.api.services import Services, WithServices
from manager.api.user_names import threat_for
from manager.domain.correlation.indicators import normal_address
from manager.engine.commands.requests import RecognizeThreat
from manager.errors import Conflict, Invalid, NotFound
from schemas.identifiers import AgentId
from schemas.limits import MESSAGE_LIMIT
from schemas.model import WireModel
from schemas.threats import Severity

router = APIRouter(tags=["threats"])

_Since = Annotated[QueryTime | None, Query(description="only threats received at this time or later")]
_Type = Annotated[str | None, Query(alias="type", max_length=128)]
_AgentId = Annotated[AgentId | None, Query(alias="agentId")]
_Source = Annotated[str | None, Query(max_length=64, description="only threats from this address")]
_Recognized = Annotated[bool | None, Query(description="only those that a person recognized as their own, or others")]
_Technique = Annotated[
    str | None,
    Query(pattern=r"^[Tt][0-9]{4}(\.[0-9]{3})?$", description="only this ATT&CK technique, with its sub-techniques"),
]


@router.get("/api/threats", responses=page_of("Threats, newest first."))
async def list_threats(
    *,
    services: WithServices,
    caller: ScopedViewer,
    since: _Since = None,
    severity: Severity | None = None,
    type_: _Type = None,
    source: _Source = None,
    technique: _Technique = None,
    organization_id: Organization = None,
    agent_id: _AgentId = None,
    recognized: _Recognized = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """Threats, the last stored first; including those of removed agents.

    With `source` or `technique` the newest event is first, and `since` is the time of the event.
    """
    found, following = await services.read(
        services.queries.threats,
        since=epoch(since),
        severity=severity,
        type_=type_,
        source_ip=None if source is None else _address(source),
        technique=None if technique is None else technique.upper(),
        organizations=caller.limit(organization_id),
        agent_id=agent_id,
        recognized=recognized,
        limit=limit,
        cursor=cursor,
    )
    return page([threat_for(caller, services.user_names, each) for each in found], following)


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


@router.get("/api/threats/{threat_id}", responses=answer("The threat."))
async def show_threat(
    threat_id: str, services: WithServices, caller: ScopedViewer, agent_id: _AgentId = None
) -> Response:
    """One threat by its id; 409 if several agents gave it to a report, and `agentId` names none of them."""
    return ok(threat_for(caller, services.user_names, await _one(services, caller, threat_id, agent_id)))


class RecognitionBody(WireModel):
    """Body of a recognition; without a note it may be missing."""

    note: Annotated[str, Field(min_length=1, max_length=1000)] | None = None


_RECOGNIZED = answer("The threat, with `recognized`: who recognized it, when, and the note; null if nobody did.")


@router.post(
    "/api/threats/{threat_id}/recognize",
    responses=_RECOGNIZED,
    openapi_extra=body_of("RecognitionBody", required=False),
)
async def recognize_threat(
    request: Request, threat_id: str, services: WithServices, caller: ScopedResponder, agent_id: _AgentId = None
) -> Response:
    """Say that a threat, such as a login after failures, is a person's own doing; blocks and incidents stay."""
    note = (await read_body(request, RecognitionBody, MESSAGE_LIMIT)).note if await request.body() else None
    return await _recognize(services, caller, threat_id, agent_id, recognized=True, note=note)


@router.delete("/api/threats/{threat_id}/recognize", responses=_RECOGNIZED)
async def unrecognize_threat(
    threat_id: str, services: WithServices, caller: ScopedResponder, agent_id: _AgentId = None
) -> Response:
    """Take back that a threat is a person's own doing."""
    return await _recognize(services, caller, threat_id, agent_id, recognized=False)


async def _recognize(
    services: Services,
    caller: Caller,
    threat_id: str,
    agent_id: str | None,
    *,
    recognized: bool,
    note: str | None = None,
) -> Response:
    found = await _one(services, caller, threat_id, agent_id)
    agent_id, organization_id = found["agentId"], found["organizationId"]
    change = RecognizeThreat(threat_id, agent_id, organization_id, caller.name, recognized, note)
    await services.engine.submit(change)
    return ok(threat_for(caller, services.user_names, await _one(services, caller, threat_id, agent_id)))


async def _one(services: Services, caller: Caller, threat_id: str, agent_id: str | None) -> Record:
    """Return the threat with an id.

    Raises:
        NotFound: there is none in the caller's organizations.
        Conflict: several agents gave the id to a report.
    """
    found = await services.read(services.queries.threats_of_id, threat_id, agent_id, caller.limit(None))
    if not found:
        raise NotFound(f"Threat {threat_id} not found")
    if len(found) > 1:
        named = ", ".join(f"{each['hostname']} ({each['agentId']})" for each in found)
        raise Conflict(f"{threat_id} is the id of a threat of several agents; name one by agentId: {named}")
    return dict(found[0])


def _address(text: str) -> str:
    """Return an address in normal form.

    Raises:
        Invalid: it is none.
    """
    address = normal_address(text)
    if address is None:
        raise Invalid(f"source: {text!r} is no address: write 203.0.113.9")
    return address.value
