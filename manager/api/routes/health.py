"""Whether the manager runs, for people and orchestrators. Nobody needs a token for it."""

from fastapi import APIRouter, Response

from manager.api.described import REFUSAL, answer, record
from manager.api.envelope import fail, ok
from manager.api.services import WithServices

router = APIRouter(tags=["health"])

_HEALTH = record(
    status="string", running="boolean", uptime="number", version="string", agents="integer", agentCounts="object"
)


@router.get("/health", responses=answer("The manager runs.", _HEALTH))
async def health(services: WithServices) -> Response:
    """How long the manager has run, in seconds, and how many agents it has."""
    counts = await services.read(services.queries.agent_counts)
    return ok(
        {
            "status": "healthy" if services.not_ready() is None else "degraded",
            "running": True,
            "uptime": round(services.uptime, 3),
            "version": services.version,
            "agents": counts["total"],
            "agentCounts": counts,
        }
    )


@router.get("/health/live", responses=answer("The process answers."))
async def live() -> Response:
    """Whether the process answers at all; if not, start it anew."""
    return ok({"live": True})


@router.get("/health/ready", responses={**answer("The manager can do its work."), 503: REFUSAL})
async def ready(services: WithServices) -> Response:
    """Whether the manager can do its work; if not, one sentence says why."""
    reason = services.not_ready()
    return ok({"ready": True}) if reason is None else fail(503, reason)
