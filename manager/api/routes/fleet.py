"""The fleet at a glance, and what it sent in vain."""

from fastapi import APIRouter, Response

from manager.api.auth import Admin
from manager.api.envelope import answer, ok, page, page_of
from manager.api.parameters import Cursor, Limit
from manager.api.services import WithServices
from manager.engine.agent_record import clone_record

router = APIRouter(tags=["fleet"])

_CLONES_SHOWN = 200


@router.get("/api/overview", responses=answer("Counts, the agents that are unwell first, threats, policy revision."))
async def overview(services: WithServices, _caller: Admin) -> Response:
    """The fleet at a glance."""
    now = services.clock()
    found = await services.read(services.queries.overview, now)
    clones = services.clones()
    names = await services.read(services.queries.hostnames, sorted(clones)[:_CLONES_SHOWN]) if clones else {}
    return ok(
        {
            **found,
            "agents": [services.with_clone(agent) for agent in found["agents"]],
            "clonedAgents": len(clones),
            "clones": [{"agentId": each, "hostname": names[each], **clone_record(clones[each])} for each in names],
            "heldBack": services.held_back(),
            "certificates": services.certificates(now),
            "uptimeMs": round(services.uptime * 1000),
        }
    )


@router.get("/api/dead-letters", responses=page_of("Messages that changed nothing, newest first."))
async def list_dead_letters(
    services: WithServices, _caller: Admin, limit: Limit = 50, cursor: Cursor = None
) -> Response:
    """Messages that changed nothing, and why."""
    return page(*await services.read(services.queries.dead_letters, limit=limit, cursor=cursor))
