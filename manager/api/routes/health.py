"""Whether the manager runs, for people and orchestrators, some of which ask by HEAD. Nobody needs a token for it."""

from fastapi import APIRouter, Response

from manager.api.envelope import REFUSAL, answer, fail, ok, record
from manager.api.services import WithServices

router = APIRouter(tags=["health"])

_HEALTH = record(
    status="string", running="boolean", uptime="number", version="string", agents="integer", agentCounts="object"
)
_HEALTHY = answer("The manager runs; the same stands at the top level, too.", _HEALTH, 200, **_HEALTH["properties"])


@router.head("/health", include_in_schema=False)
@router.get("/health", responses=_HEALTHY)
async def health(services: WithServices) -> Response:
    """How long the manager has run, in seconds, and how many agents it has."""
    counts = await services.read(services.queries.agent_counts)
    told = {
        "status": "healthy" if services.not_ready() is None else "degraded",
        "running": True,
        "uptime": round(services.uptime, 3),
        "version": services.version,
        "agents": counts["total"],
        "agentCounts": counts,
    }
    return ok(told, **told)


@router.head("/health/live", include_in_schema=False)
@router.get("/health/live", responses=answer("The process answers."))
async def live() -> Response:
    """Whether the process answers at all; if not, start it anew."""
    return ok({"live": True})


@router.head("/health/ready", include_in_schema=False)
@router.get("/health/ready", responses={**answer("The manager can do its work."), 503: REFUSAL})
async def ready(services: WithServices) -> Response:
    """Whether the manager can do its work; if not, one sentence says why."""
    reason = services.not_ready()
    return ok({"ready": True}) if reason is None else fail(503, reason)
