"""Agents: list, record, deregistration and forced removal (lifecycle page, phase 5).

Heartbeat and events are described here for the OpenAPI document; `manager.api.agents.hot_routes` serves them.
"""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from manager.api.authorization import (
    AdminOrSelf,
    ScopedAdminOrSelf,
    ScopedViewer,
    ScopedViewerOrSelf,
)
from manager.api.envelope import ANY_LIST, answer, body_of, ok, page, page_of, record
from manager.api.errors import Forbidden, RouteNotWiredError
from manager.api.parameters import Cursor, Organization
from manager.api.scope import require_agent, require_no_group
from manager.api.services import WithServices
from manager.api.user_names import threat_for
from manager.domain.agents.agent import State
from manager.engine.commands.requests import (
    DeregisterAgent,
    RemoveAgent,
)
from manager.errors import NotFound
from schemas.identifiers import GroupName, Hostname, Label
from schemas.presence import HealthState, Mode, StateWord
from schemas.registration import Text

router = APIRouter(tags=["agents"])

_PAGE = 200
_LARGEST_PAGE = 1000
_SHORTENED = 10_000
"""The most hostnames with the same first labels that are looked for."""


@router.get("/api/agents", responses=page_of("Agents, in the order in which they first registered."))
async def list_agents(
    *,
    services: WithServices,
    caller: ScopedViewer,
    status: Annotated[State | None, Query(description="only agents in this state")] = None,
    organization_id: Organization = None,
    tag: Annotated[list[Label] | None, Query(description="only agents with all of these tags")] = None,
    hostname: Annotated[Hostname | None, Query(description="only agents with this hostname")] = None,
    short_hostname: Annotated[
        Hostname | None, Query(description="only agents whose hostname begins with this and a dot")
    ] = None,
    health: Annotated[HealthState | None, Query(description="only agents in this health")] = None,
    unenforced: Annotated[bool | None, Query(description="only agents that say that blocks do not hold")] = None,
    unconfirmed: Annotated[bool | None, Query(description="only agents whose mode is on trial or not wanted")] = None,
    site: Annotated[Label | None, Query(description="only agents at this site")] = None,
    group: Annotated[
        GroupName | None, Query(description="only agents of this policy group; 404 if there is none")
    ] = None,
    version: Annotated[Text | None, Query(description="only agents of this release")] = None,
    mode: Annotated[Mode | None, Query(description="only agents in this mode")] = None,
    enforcement: Annotated[
        list[StateWord] | None, Query(description="only agents with one of these; `unknown` where none is stated")
    ] = None,
    brief: Annotated[
        bool, Query(description="only the members by which a list is searched and shown, a tenth of each record")
    ] = False,
    limit: Annotated[int, Query(ge=1, le=_LARGEST_PAGE)] = _PAGE,
    cursor: Cursor = None,
) -> Response:
    """List the registered agents."""
    require_no_group(caller, group)
    hostnames = None if hostname is None else services.spellings(hostname)
    if short_hostname is not None:
        short = services.beginning_with(short_hostname)[:_SHORTENED]
        hostnames = short if hostnames is None else sorted({*hostnames} & {*short})
    found, following = await services.read(
        services.queries.agents,
        status=status,
        organizations=caller.limit(organization_id),
        tags=tag or (),
        hostnames=hostnames,
        health=health,
        unenforced=unenforced,
        unconfirmed=unconfirmed,
        site=site,
        version=version,
        mode=mode,
        enforcement=enforcement or (),
        group=group,
        brief=brief,
        limit=limit,
        cursor=cursor,
    )
    return page(found if brief else [services.with_clone(agent) for agent in found], following)


@router.get("/api/agents/{agent_id}", responses=answer("The agent's record, with its newest threats."))
async def show_agent(agent_id: str, services: WithServices, caller: ScopedViewerOrSelf) -> Response:
    """Return the record of one agent."""
    await require_agent(services, caller, agent_id)
    found = await services.read(services.queries.agent, agent_id)
    if found is None:
        raise NotFound(f"Agent {agent_id} not found")
    found["recentThreats"] = [threat_for(caller, services.user_names, each) for each in found["recentThreats"]]
    return ok(services.with_clone(found))


_VITALS = record(agentId="string", periodSeconds="integer", periods="array")


@router.get("/api/agents/{agent_id}/vitals", responses=answer("CPU, memory and events of each 900 s.", _VITALS))
async def show_vitals(agent_id: str, services: WithServices, caller: ScopedViewerOrSelf) -> Response:
    """Return an agent's vitals over the last 24 hours, the oldest period first; one without a heartbeat is left out."""
    await require_agent(services, caller, agent_id)
    found = await services.read(services.queries.agent_vitals, agent_id, services.clock())
    if found is None:
        raise NotFound(f"Agent {agent_id} not found")
    return ok(found)


_REMOVED = record(agentId="string", removed="boolean", message="string")


@router.delete("/api/agents/{agent_id}", responses=answer("Offline, or removed for good.", _REMOVED))
async def remove_agent(
    agent_id: str,
    services: WithServices,
    caller: ScopedAdminOrSelf,
    purge: Annotated[bool, Query(description="remove the agent for good; for the admin only")] = False,
) -> Response:
    """Deregister an agent: it is offline and its record is kept. With `purge` it is removed from the registry."""
    await require_agent(services, caller, agent_id)
    if not purge:
        await services.engine.submit(DeregisterAgent(agent_id))
        return ok({"agentId": agent_id, "removed": True, "message": "the agent is offline; its record is kept"})
    if caller.agent_id is not None:
        raise Forbidden
    await services.engine.submit(RemoveAgent(agent_id, caller.name))
    return ok({"agentId": agent_id, "removed": True, "message": "the agent is removed for good"})


_HEARTBEAT = answer(
    "The agent's record, and `pendingPolicies`: its policy, if it lacks it and should take it at once.",
    {"type": "object", "required": ["agentId", "pendingPolicies"], "properties": {"pendingPolicies": ANY_LIST}},
)
_REPORTS = record(received="integer", accepted="integer", eventIds="array", threats="array")
_STORED = {
    **answer("All of `threats` are stored.", _REPORTS),
    **answer("All threats are stored.", _REPORTS, 201),
}


@router.post("/api/agents/{agent_id}/heartbeat", responses=_HEARTBEAT, openapi_extra=body_of("HttpHeartbeat"))
async def heartbeat(agent_id: str, _caller: AdminOrSelf) -> Response:
    """Record a heartbeat, sent every 30 s (lifecycle page, phase 2). All members are optional: `{}` is valid."""
    raise RouteNotWiredError(agent_id)


@router.post("/api/agents/{agent_id}/events", responses=_STORED, openapi_extra=body_of("HttpEvents"))
async def events(agent_id: str, _caller: AdminOrSelf) -> Response:
    """Store detected threats (lifecycle page, phase 3): all threats of a request, or none.

    The body has one of four shapes: `{threat, response, timestamp}`; `{events: […]}`; one `{event, verdict}`; or
    `{threats: [{event, verdict}, …]}`. A repeated report with the same ids is stored once.
    """
    raise RouteNotWiredError(agent_id)
