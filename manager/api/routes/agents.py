"""Agents: the list, one agent, deregistration and forced removal (lifecycle page, phase 5)."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from manager.api.auth import Admin, AdminOrOwn
from manager.api.envelope import answer, ok, page, page_of, record
from manager.api.errors import Forbidden
from manager.api.parameters import Cursor, Organization
from manager.api.services import WithServices
from manager.domain.agents.agent import State
from manager.engine.commands.requests import DeregisterAgent, RemoveAgent
from manager.errors import NotFound
from schemas.identifiers import Hostname, Label

router = APIRouter(tags=["agents"])

_PAGE = 200
_LARGEST_PAGE = 1000


@router.get("/api/agents", responses=page_of("Agents, in the order in which they first registered."))
async def list_agents(
    *,
    services: WithServices,
    _caller: Admin,
    status: Annotated[State | None, Query(description="only agents in this state")] = None,
    organization_id: Organization = None,
    tag: Annotated[list[Label] | None, Query(description="only agents that carry all of these")] = None,
    hostname: Annotated[Hostname | None, Query(description="only agents of this host name")] = None,
    limit: Annotated[int, Query(ge=1, le=_LARGEST_PAGE)] = _PAGE,
    cursor: Cursor = None,
) -> Response:
    """The registry."""
    found, following = await services.read(
        services.queries.agents,
        status=status,
        organization_id=organization_id,
        tags=tag or (),
        hostname=hostname,
        limit=limit,
        cursor=cursor,
    )
    return page([services.with_clone(agent) for agent in found], following)


@router.get("/api/agents/{agent_id}", responses=answer("The agent's record, with its newest threats."))
async def show_agent(agent_id: str, services: WithServices, _caller: AdminOrOwn) -> Response:
    """One agent."""
    found = await services.read(services.queries.agent, agent_id)
    if found is None:
        raise NotFound(f"Agent {agent_id} not found")
    return ok(services.with_clone(found))


_REMOVED = record(agentId="string", removed="boolean", message="string")


@router.delete("/api/agents/{agent_id}", responses=answer("Offline, or gone for good.", _REMOVED))
async def remove_agent(
    agent_id: str,
    services: WithServices,
    caller: AdminOrOwn,
    purge: Annotated[bool, Query(description="remove the agent for good; the admin's alone")] = False,
) -> Response:
    """Deregister an agent: it is offline and its record is kept. With `purge` it is removed from the registry."""
    if not purge:
        await services.door.submit(DeregisterAgent(agent_id))
        return ok({"agentId": agent_id, "removed": True, "message": "the agent is offline; its record is kept"})
    if not caller.is_admin:
        raise Forbidden
    await services.door.submit(RemoveAgent(agent_id, caller.name))
    return ok({"agentId": agent_id, "removed": True, "message": "the agent is removed for good"})
