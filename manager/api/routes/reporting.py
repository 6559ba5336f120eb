"""Describes heartbeat and events for the API document; `manager.api.agents.hot_routes` serves them."""

from fastapi import APIRouter, Response

from manager.api.auth import AdminOrOwn
from manager.api.envelope import ANY_LIST, answer, body_of, record
from manager.api.errors import Unserved

router = APIRouter(tags=["agents"])

_HEARD = answer(
    "The agent's record, and `pendingPolicies`: its policy, if it lacks it and should take it at once.",
    {"type": "object", "required": ["agentId", "pendingPolicies"], "properties": {"pendingPolicies": ANY_LIST}},
)
_REPORT = record(received="integer", accepted="integer", eventIds="array", threats="array")
_STORED = {
    **answer("All of `threats` are stored.", _REPORT),
    **answer("All threats are stored.", _REPORT, 201),
}


@router.post("/api/agents/{agent_id}/heartbeat", responses=_HEARD, openapi_extra=body_of("HttpHeartbeat"))
async def heartbeat(agent_id: str, _caller: AdminOrOwn) -> Response:
    """A sign of life, every 30 s (lifecycle page, phase 2). Nothing in the body must be there: `{}` is a heartbeat."""
    raise Unserved(agent_id)


@router.post("/api/agents/{agent_id}/events", responses=_STORED, openapi_extra=body_of("HttpEvents"))
async def events(agent_id: str, _caller: AdminOrOwn) -> Response:
    """Threats, as they are detected (lifecycle page, phase 3): all of them are stored, or none.

    The body has one of four shapes: `{threat, response, timestamp}`; `{events: […]}`; one `{event, verdict}`; or
    `{threats: [{event, verdict}, …]}`. Sent again under the same ids they are stored once.
    """
    raise Unserved(agent_id)
