"""Policy documents of the whole fleet, of organizations and of agents: get, set, remove, and their history."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response

from manager.api.authentication import Caller
from manager.api.authorization import Admin, ScopedAdmin, ScopedViewer
from manager.api.bodies import read_policy
from manager.api.envelope import answer, body_of, ok, page, page_of, record
from manager.api.parameters import Cursor, Limit
from manager.api.scope import require_scope
from manager.api.services import Services, WithServices
from manager.domain.policies.fleet_policies import GLOBAL, Scope
from manager.engine.commands.requests import PolicySet, Preview, Previewed, SetPolicy
from manager.errors import NotFound
from schemas.identifiers import OrganizationId

router = APIRouter(tags=["policies"])


Message = Annotated[str | None, Query(max_length=256, description="the reason of the change, for the history")]


@dataclass(frozen=True)
class SetOptions:
    """Query options of setting a document."""

    allow_unknown: bool
    dry_run: bool
    message: str | None


async def set_options(
    *,
    allow_unknown: Annotated[bool, Query(description="warn of unknown fields instead of refusing them")] = False,
    dry_run: Annotated[bool, Query(description="only check the document and show its effect")] = False,
    message: Message = None,
) -> SetOptions:
    """Return the query options."""
    return SetOptions(allow_unknown, dry_run, message)


WithOptions = Annotated[SetOptions, Depends(set_options)]

_BODY = body_of("PolicyDocument")
_DOCUMENT = answer(
    "The document as it was set; empty if there is none.",
    {"$ref": "#/components/schemas/PolicyDocument"},
    revision={"type": ["integer", "null"]},
    updatedAt={"type": ["string", "null"]},
    author={"type": ["string", "null"]},
)
_CHANGE = record(scope="string", target="string?", changed="boolean")
CHANGED = answer(
    "The fleet's revision after the change, and the number of agents with a new effective policy; after a dry run the"
    " number of agents that would get one, and the differences that the document would make.",
    {
        **_CHANGE,
        "properties": {
            **_CHANGE["properties"],
            "revision": {"type": "integer"},
            "agents": {"type": "integer"},
            "dryRun": {"type": "boolean"},
            "differences": {"type": "array", "items": {"type": "object"}},
        },
    },
    warnings={"type": "array", "items": {"type": "string"}},
)


@router.get("/api/policies/global", responses=_DOCUMENT)
async def show_global(services: WithServices, _caller: ScopedViewer) -> Response:
    """The document of the whole fleet."""
    return await _show(services, GLOBAL)


@router.get("/api/policies/organizations/{organization_id}", responses=_DOCUMENT)
async def show_organization(organization_id: OrganizationId, services: WithServices, caller: ScopedViewer) -> Response:
    """The document of an organization."""
    scope = Scope("organization", organization_id)
    await require_scope(services, caller, scope)
    return await _show(services, scope)


@router.get("/api/policies/agents/{agent_id}", responses=_DOCUMENT)
async def show_agent(agent_id: str, services: WithServices, caller: ScopedViewer) -> Response:
    """The document of one agent."""
    await require_scope(services, caller, Scope("agent", agent_id))
    if await services.read(services.queries.agent, agent_id) is None:
        raise NotFound(f"Agent {agent_id} not found")
    return await _show(services, Scope("agent", agent_id))


@router.put("/api/policies/global", responses=CHANGED, openapi_extra=_BODY)
async def set_global(request: Request, services: WithServices, caller: Admin, options: WithOptions) -> Response:
    """Set the document of the whole fleet."""
    return await _set(request, services, caller, GLOBAL, options)


@router.put("/api/policies/organizations/{organization_id}", responses=CHANGED, openapi_extra=_BODY)
async def set_organization(
    request: Request, organization_id: OrganizationId, services: WithServices, caller: ScopedAdmin, options: WithOptions
) -> Response:
    """Set an organization's document."""
    return await _set(request, services, caller, Scope("organization", organization_id), options)


@router.put("/api/policies/agents/{agent_id}", responses=CHANGED, openapi_extra=_BODY)
async def set_agent(
    request: Request, agent_id: str, services: WithServices, caller: ScopedAdmin, options: WithOptions
) -> Response:
    """Set the document of one agent."""
    return await _set(request, services, caller, Scope("agent", agent_id), options)


@router.delete("/api/policies/global", responses=CHANGED)
async def clear_global(services: WithServices, caller: Admin, message: Message = None) -> Response:
    """Remove the fleet's document: the defaults apply again."""
    return await submit_change(services, SetPolicy(GLOBAL, None, caller.name, message))


@router.delete("/api/policies/organizations/{organization_id}", responses=CHANGED)
async def clear_organization(
    organization_id: OrganizationId, services: WithServices, caller: ScopedAdmin, message: Message = None
) -> Response:
    """Remove an organization's document."""
    await require_scope(services, caller, Scope("organization", organization_id))
    return await submit_change(services, SetPolicy(Scope("organization", organization_id), None, caller.name, message))


@router.delete("/api/policies/agents/{agent_id}", responses=CHANGED)
async def clear_agent(agent_id: str, services: WithServices, caller: ScopedAdmin, message: Message = None) -> Response:
    """Remove an agent's own document."""
    await require_scope(services, caller, Scope("agent", agent_id))
    return await submit_change(services, SetPolicy(Scope("agent", agent_id), None, caller.name, message))


@router.get("/api/policies/history", responses=page_of("Changes, newest first."))
async def history(services: WithServices, caller: ScopedViewer, limit: Limit = 50, cursor: Cursor = None) -> Response:
    """Every change of the fleet's policies: scope, document, time and author."""
    return page(
        *await services.read(
            services.queries.policy_history, organizations=caller.limit(None), limit=limit, cursor=cursor
        )
    )


async def _show(services: Services, scope: Scope) -> Response:
    newest = await services.read(services.queries.policy_document, scope)
    if newest is None:
        return ok({})
    document = newest["document"] or {}
    return ok(document, revision=newest["revision"], updatedAt=newest["updatedAt"], author=newest["author"])


async def _set(request: Request, services: Services, caller: Caller, scope: Scope, options: "SetOptions") -> Response:
    await require_scope(services, caller, scope)
    document, warnings = await read_policy(request, allow_unknown=options.allow_unknown)
    if options.dry_run:
        return await preview_change(services, scope, document.sections(), warnings)
    return await submit_change(services, SetPolicy(scope, document.sections(), caller.name, options.message), warnings)


async def preview_change(
    services: Services, scope: Scope, document: Mapping[str, Any], warnings: list[str]
) -> Response:
    """Return the answer to a dry run: nothing is set.

    `differences` shows the change of effective policies, `agents` the number of agents whose policy would change.
    """
    if scope.kind == "agent" and await services.read(services.queries.agent, scope.target) is None:
        raise NotFound(f"Agent {scope.target} not found")
    found: Previewed = await services.engine.submit(Preview(scope, document))
    data = {"scope": scope.kind, "target": scope.target or None, "changed": bool(found.differences), "dryRun": True}
    differences = [each._asdict() for each in found.differences]
    return ok({**data, "agents": found.agents, "differences": differences}, warnings=warnings)


async def submit_change(services: Services, request: SetPolicy, warnings: list[str] | None = None) -> Response:
    """Submit a change, and return its answer."""
    done: PolicySet = await services.engine.submit(request)
    scope = request.scope
    data = {"scope": scope.kind, "target": scope.target or None, "revision": done.revision, "changed": done.changed}
    return ok({**data, "agents": done.agents}, warnings=warnings or [])
