"""Builds the ASGI application: routes, error handlers, OpenAPI document, and the outermost middleware."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from operator import attrgetter
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic.json_schema import models_json_schema
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.types import ASGIApp

from manager.api.agents.fast_lane import FastLane
from manager.api.agents.hot_routes import hot_routes
from manager.api.authorization import access_of
from manager.api.envelope import REFUSAL
from manager.api.errors import RouteWithoutRoleError, add_error_map
from manager.api.http_metrics import EventStreamCollector, RequestMetrics
from manager.api.middleware.admission import Admission
from manager.api.middleware.operator_addresses import OperatorAddressRecorder
from manager.api.middleware.outermost_middleware import OutermostMiddleware
from manager.api.middleware.response_headers import RequestIds
from manager.api.routes import (
    access,
    agent_changes,
    agent_policy,
    agents,
    allowlist,
    audit,
    blocks,
    console,
    documentation,
    events,
    feeds,
    incidents,
    keys,
    monitoring,
    notifications,
    now,
    policies,
    policy_groups,
    policy_revisions,
    protection,
    registration,
    responses,
    rule_policies,
    session,
    step_down,
    threats,
    tokens,
)
from manager.api.services import Services
from manager.api.sessions import CookieSessions
from schemas.http_agents import HttpEvents, HttpHeartbeat, HttpRegistration
from schemas.limits import BODY_LIMIT
from schemas.policy import PolicyDocument, PolicyGroup

_ABOUT = (
    'Every answer is {"ok": true, "data": …} or {"ok": false, "error": "one clear sentence"}. '
    "Lists come in pages: nextCursor is the cursor of the next one, and null at the end."
)
_ROUTERS = (
    monitoring, now, registration, agents, agent_changes, agent_policy, rule_policies, threats, events, policies,
    policy_groups, policy_revisions, incidents, blocks, feeds, allowlist, responses, protection, tokens, keys, access,
    session, step_down, audit, notifications, documentation, console,
)  # fmt: skip
_BODIES = (
    PolicyDocument, PolicyGroup, agent_changes.AgentChange, agent_changes.AgentsChange, agent_changes.PruneBody,
    blocks.NewBlockBody, blocks.BlockImportBody,
    incidents.WorkBody, incidents.NoteBody, threats.RecognitionBody,
    allowlist.NewAllowance, policy_revisions.ComparisonBody, policy_revisions.RollbackBody, tokens.NewToken,
    keys.KeyRotation, keys.KeyRollback,
    access.NewAccessToken, access.Rotation, notifications.PauseBody, notifications.AcknowledgementBody,
    notifications.MuteBody, session.SignIn, step_down.StepDown, responses.ResponseChoiceBody, rule_policies.NewPolicy,
    HttpRegistration, HttpHeartbeat, HttpEvents,
)  # fmt: skip


class _Application(FastAPI):
    """FastAPI with an OpenAPI document that includes the models of bodies that routes parse themselves."""

    def build_middleware_stack(self) -> ASGIApp:
        """Build the stack without ServerErrorMiddleware, because the outermost middleware handles all errors."""
        stack = super().build_middleware_stack()
        if not isinstance(stack, ServerErrorMiddleware):
            raise TypeError("the framework's outermost middleware is not ServerErrorMiddleware any more")
        return stack.app

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            document = super().openapi()
            models = models_json_schema(
                [(model, "validation") for model in _BODIES],
                ref_template="#/components/schemas/{model}",
            )[1]
            _declare_access(document)
            document.setdefault("components", {}).setdefault("schemas", {}).update(models["$defs"])
        return self.openapi_schema or document


def _declare_access(document: dict[str, Any]) -> None:
    """Add the declared access of each route to its operations."""
    for route in filter(attrgetter("include_in_schema"), _routes()):
        for method in route.methods or ():
            document["paths"][route.path][method.lower()].update(access_of(route).extensions())


def _routes() -> Iterator[APIRoute]:
    for module in _ROUTERS:
        for route in module.router.routes:
            if not isinstance(route, APIRoute):
                raise RouteWithoutRoleError(f"{route} cannot declare a role")
            yield route


def create_app(services: Services) -> ASGIApp:
    """Return the application with its middleware; its reader threads end with it."""

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
        lifespan=lifespan,
    )
    app.state.services = services
    for route in _routes():
        access_of(route)  # raises for a route that declares no role
        route.responses = {"default": REFUSAL, **route.responses}
        app.router.routes.append(route)  # an included router is made anew for each application, at its first request
    add_error_map(app)
    metrics = RequestMetrics(services.registry)
    services.registry.register(EventStreamCollector(services.stream))
    admission = Admission(
        services.credentials,
        services.client_addresses,
        services.rate_limit,
        services.report_budget,
        sharers=services.sharers,
        operators=OperatorAddressRecorder(services.engine),
    )
    routes = hot_routes(services.clock, admission.charge_reports)
    request_ids = RequestIds()
    return OutermostMiddleware(
        app,
        hot_routes=routes,
        engine=services.engine,
        admission=admission,
        sessions=CookieSessions(services.credentials, services.client_addresses),
        cors_origins=services.cors_origins,
        metrics=metrics,
        request_ids=request_ids,
        body_limit=BODY_LIMIT,
        fast_lane=FastLane(routes, admission, services.engine, metrics, request_ids),
    )
