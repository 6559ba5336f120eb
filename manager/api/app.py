"""Puts the application together: routes, error map, boundary, and its own document."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from pydantic.json_schema import models_json_schema

from manager.api.boundary import Boundary
from manager.api.described import REFUSAL
from manager.api.errors import add_error_map
from manager.api.routes import agent_policy, agents, documentation, fleet, health, policies, threats, tokens
from manager.api.services import Services
from schemas.limits import BODY_LIMIT
from schemas.policy import PolicyDocument

_ABOUT = (
    'Every answer is {"ok": true, "data": …} or {"ok": false, "error": "one clear sentence"}. '
    "Lists come in pages: nextCursor is the cursor of the next one, and null at the end."
)
_ROUTERS = (health, fleet, agents, agent_policy, policies, threats, tokens, documentation)


class _Application(FastAPI):
    """Adds to the document the models of the bodies that routes read by themselves."""

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            document = super().openapi()
            models = models_json_schema(
                [(PolicyDocument, "validation"), (tokens.NewToken, "validation")],
                ref_template="#/components/schemas/{model}",
            )[1]
            document.setdefault("components", {}).setdefault("schemas", {}).update(models["$defs"])
        return self.openapi_schema or document


def create_app(services: Services) -> FastAPI:
    """Return the application that serves these parts; its reading threads end with it."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
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
    app.add_middleware(Boundary, body_limit=BODY_LIMIT)
    return app
