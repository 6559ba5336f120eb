"""Puts the application together: routes, error map, boundary, and its own document."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from pydantic.json_schema import models_json_schema
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.types import ASGIApp

from manager.api.agents.fast_lane import FastLane
from manager.api.agents.hot_routes import EventsRoute, HeartbeatRoute, HotRoute
from manager.api.envelope import REFUSAL
from manager.api.errors import add_error_map
from manager.api.middleware.boundary import Boundary
from manager.api.middleware.gate import Gate
from manager.api.middleware.responses import RequestIds
from manager.api.routes import (
    agent_policy,
    agents,
    allowlist,
    audit,
    blocks,
    documentation,
    events,
    fleet,
    health,
    incidents,
    metrics,
    policies,
    policy_revisions,
    registration,
    reporting,
    responses,
    rule_policies,
    threats,
    tokens,
)
from manager.api.services import Services
from schemas.http_agents import HttpEvents, HttpHeartbeat, HttpRegistration
from schemas.limits import BODY_LIMIT
from schemas.policy import PolicyDocument

_ABOUT = (
    'Every answer is {"ok": true, "data": …} or {"ok": false, "error": "one clear sentence"}. '
    "Lists come in pages: nextCursor is the cursor of the next one, and null at the end."
)
_ROUTERS = (
    health, registration, reporting, agents, agent_policy, rule_policies, fleet, threats, events, policies,
    policy_revisions, incidents, blocks, allowlist, responses, tokens, audit,
    metrics, documentation,
)  # fmt: skip
_BODIES = (
    PolicyDocument, allowlist.NewAllowance, policy_revisions.Comparison, policy_revisions.GoBack, tokens.NewToken,
    rule_policies.NewPolicy, HttpRegistration, HttpHeartbeat, HttpEvents,
)  # fmt: skip


class _Application(FastAPI):
    """Adds to the document the models of the bodies that routes read by themselves."""

    def build_middleware_stack(self) -> ASGIApp:
        """Leave out the framework's last catch, which answers failures in words of its own: the boundary catches."""
        stack = super().build_middleware_stack()
        if not isinstance(stack, ServerErrorMiddleware):
            raise TypeError("the framework's outermost layer is another one than the boundary replaces")
        return stack.app

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            document = super().openapi()
            models = models_json_schema(
                [(model, "validation") for model in _BODIES],
                ref_template="#/components/schemas/{model}",
            )[1]
            document.setdefault("components", {}).setdefault("schemas", {}).update(models["$defs"])
        return self.openapi_schema or document


def create_app(services: Services) -> ASGIApp:
    """Return the application that serves these parts, boundary and all; its reading threads end with it."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        services.stream.open()
        yield
        services.readers.shutdown(wait=False, cancel_futures=True)

    app = _Application(
        title="Panguard manager",
        version=services.version,
        description=_ABOUT,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses={"default": REFUSAL},
        lifespan=lifespan,
    )
    app.state.services = services
    for module in _ROUTERS:
        app.include_router(module.router)
    add_error_map(app)
    hot: dict[str, HotRoute] = {"heartbeat": HeartbeatRoute(), "events": EventsRoute(services.clock)}
    gate, ids = Gate(services.credentials, services.peers, services.rate_limit), RequestIds()
    return Boundary(
        app,
        hot=hot,
        door=services.door,
        gate=gate,
        cors=services.cors,
        traffic=services.traffic,
        ids=ids,
        body_limit=BODY_LIMIT,
        fast_lane=FastLane(hot, gate, services.door, services.traffic, ids),
    )
