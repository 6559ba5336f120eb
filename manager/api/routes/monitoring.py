"""Monitoring routes: health checks (no token, also by HEAD), the fleet's overview, and Prometheus metrics."""

from typing import Any

from fastapi import APIRouter, Response

from manager.api.authentication import Caller
from manager.api.authorization import OPEN, Admin, Metrics, ScopedViewer
from manager.api.envelope import ANY_OBJECT, REFUSAL, answer, fail, ok, record
from manager.api.http_metrics import CONTENT_TYPE, expose
from manager.api.ports import Record
from manager.api.services import WithServices
from manager.domain.agents.refused_registrations import RefusedHost
from manager.engine.agent_record import clone_record
from manager.engine.commands.requests import AcceptClock
from schemas.model import iso

router = APIRouter()

_CLONES_SHOWN = 200
_REFUSED_SHOWN = 50
_HEALTH = record(
    status="string", running="boolean", uptime="number", version="string", agents="integer", agentCounts="object"
)
_HEALTH["properties"] |= {
    "role": {"enum": ["leader", "standby", "ingest"], "description": "where several managers have one database"},
    "leader": {"type": ["object", "null"], "description": "hostname, port, version, since and epoch of the leader"},
    "managers": {
        "type": "array",
        "items": ANY_OBJECT,
        "description": "hostname, port, role, version and behindSeconds of each",
    },
}
_HEALTHY = answer("The manager runs; the members stand at the top level, too.", _HEALTH, 200, **_HEALTH["properties"])
_METRICS: dict[int | str, dict[str, Any]] = {
    200: {"description": "Text exposition format.", "content": {"text/plain": {"schema": {"type": "string"}}}}
}


@router.head("/health", include_in_schema=False, dependencies=[OPEN])
@router.get("/health", responses=_HEALTHY, tags=["health"], dependencies=[OPEN])
async def health(services: WithServices) -> Response:
    """State of the manager, its uptime in seconds, and the number of agents."""
    counts = await services.read(services.queries.agent_counts)
    data = {
        "status": "healthy" if services.not_ready() is None else "degraded",
        "running": True,
        "uptime": round(services.uptime, 3),
        "version": services.version,
        "agents": counts["total"],
        "agentCounts": counts,
        **(services.group() if services.group is not None else {}),
    }
    return ok(data, **data)


@router.head("/health/live", include_in_schema=False, dependencies=[OPEN])
@router.get("/health/live", responses=answer("The process answers."), tags=["health"], dependencies=[OPEN])
async def live() -> Response:
    """Liveness check: the process answers. If it does not, restart it."""
    return ok({"live": True})


@router.head("/health/ready", include_in_schema=False, dependencies=[OPEN])
@router.get(
    "/health/ready", responses={**answer("The manager is ready."), 503: REFUSAL}, tags=["health"], dependencies=[OPEN]
)
async def ready(services: WithServices) -> Response:
    """Readiness check: 503 with the reason while the store cannot commit or the broker is not connected."""
    reason = services.not_ready()
    return ok({"ready": True}) if reason is None else fail(503, reason)


@router.get(
    "/api/overview",
    responses=answer("Counts, the stale and offline agents first, threats, policy revision."),
    tags=["fleet"],
)
async def overview(services: WithServices, caller: ScopedViewer) -> Response:
    """Summary of the fleet."""
    now, organizations = services.clock(), caller.limit(None)
    found = await services.read(services.queries.overview, now, organizations)
    clones = services.clones()
    if organizations is None:
        known = {each: clones[each] for each in sorted(clones)[:_CLONES_SHOWN]}
    else:
        own = await services.read(services.queries.hostnames, list(clones), organizations) if clones else {}
        clones = {each: clones[each] for each in own}
        known = dict(list(clones.items())[:_CLONES_SHOWN])
    names = await services.read(services.queries.hostnames, list(known)) if known else {}
    refused = [host for host in services.refused_registrations(now) if _is_seen(caller, host.organization_id)]
    return ok(
        {
            **found,
            "agents": [services.with_clone(agent) for agent in found["agents"]],
            "clonedAgents": len(clones),
            "clones": [{"agentId": each, "hostname": names[each], **clone_record(clones[each])} for each in names],
            "heldBack": [held for held in services.held_back() if caller.sees(held["organizationId"])],
            "refusedRegistrations": [_refused(host) for host in refused[:_REFUSED_SHOWN]],
            "certificates": services.certificates(now) if organizations is None else [],
            "warnings": services.warnings() if organizations is None else [],
            "notReady": services.not_ready(),
            "uptimeMs": round(services.uptime * 1000),
            **({"group": services.group()} if services.group is not None and organizations is None else {}),
        }
    )


def _is_seen(caller: Caller, organization_id: str | None) -> bool:
    """Return whether a caller sees what concerns an organization; None is for tokens of all of them."""
    return caller.organizations is None if organization_id is None else caller.sees(organization_id)


def _refused(host: RefusedHost) -> Record:
    return {
        "hostname": host.hostname,
        "organizationId": host.organization_id,
        "door": host.door,
        "origin": host.origin,
        "reason": host.reason,
        "count": host.count,
        "firstAt": iso(host.first_at),
        "lastAt": iso(host.last_at),
    }


@router.post("/api/clock/accept", responses=answer("The accepted time.", record(at="string")), tags=["fleet"])
async def accept_clock(services: WithServices, caller: Admin) -> Response:
    """Accept the manager's clock as correct: expired rows are deleted without confirmation by agents or 24 hours."""
    return ok({"at": await services.engine.submit(AcceptClock(caller.name))})


@router.get("/metrics", responses=_METRICS, response_class=Response, tags=["fleet"])
async def metrics(services: WithServices, _caller: Metrics) -> Response:
    """Prometheus metrics: ingest, batches, commits, lag, dead letters, agents, incidents, policies, HTTP by route."""
    return Response(await services.read(expose, services.registry), media_type=CONTENT_TYPE)
