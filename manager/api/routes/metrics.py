"""The manager's figures for Prometheus."""

from typing import Any

from fastapi import APIRouter, Response

from manager.api.auth import Admin
from manager.api.metrics import CONTENT_TYPE, expose
from manager.api.services import WithServices

router = APIRouter(tags=["fleet"])

_TEXT: dict[int | str, dict[str, Any]] = {
    200: {"description": "Figures in the exposition format.", "content": {"text/plain": {"schema": {"type": "string"}}}}
}


@router.get("/metrics", responses=_TEXT, response_class=Response)
async def metrics(services: WithServices, _caller: Admin) -> Response:
    """Ingest, batches, commits, lag, dead letters, agents, incidents, policies, and HTTP by route."""
    measured = services.measurements.read if services.measurements is not None else tuple
    return Response(await services.read(expose, measured, services.traffic, services.stream), media_type=CONTENT_TYPE)
