"""Policy groups: agents selected by tags and site, and their policy between organization and agent."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response

from manager.api.authorization import Admin, Viewer
from manager.api.bodies import read_group
from manager.api.envelope import ANY_OBJECT, answer, body_of, ok, page, page_of
from manager.api.parameters import Cursor, Limit
from manager.api.routes.policies import CHANGED, Message, WithOptions, preview_change, submit_change
from manager.api.services import Services, WithServices
from manager.domain.policies.fleet_policies import Scope
from manager.engine.commands.requests import CountGroups, GroupCounts, SetPolicy
from manager.errors import NotFound
from schemas.identifiers import GroupName

router = APIRouter(tags=["policies"])

_BODY = body_of("PolicyGroup")
_GROUP = answer(
    "The group as it was set, with its name and the number of its agents, of those that its policies set to mode"
    " protection, of those that state to be in it, and of those of them that state to enforce blocks.",
    {
        "type": "object",
        "required": [
            "name",
            "selector",
            "priority",
            "organization",
            "policy",
            "agents",
            "setToProtection",
            "inProtection",
            "blocking",
        ],
        "properties": {
            "name": {"type": "string"},
            "selector": ANY_OBJECT,
            "priority": {"type": "integer"},
            "organization": {"type": ["string", "null"]},
            "policy": ANY_OBJECT,
            "agents": {"type": "integer"},
            "setToProtection": {"type": "integer"},
            "inProtection": {"type": "integer"},
            "blocking": {"type": "integer"},
        },
    },
    revision={"type": "integer"},
    updatedAt={"type": "string"},
    author={"type": "string"},
)
Name = Annotated[GroupName, Path(description="the name of the group")]


@router.get("/api/policies/groups", responses=page_of("Groups, the last set first."))
async def list_groups(services: WithServices, _caller: Viewer, limit: Limit = 50, cursor: Cursor = None) -> Response:
    """The policy groups, each with the number of its agents."""
    found, following = await services.read(services.queries.policy_groups, limit=limit, cursor=cursor)
    counts: dict[str, GroupCounts] = await services.engine.submit(CountGroups())
    return page([_group(each["target"], each["document"], counts) for each in found], following)


@router.get("/api/policies/groups/{name}", responses=_GROUP)
async def show_group(name: Name, services: WithServices, _caller: Viewer) -> Response:
    """One policy group, with the number of its agents."""
    found = await services.read(services.queries.policy_document, Scope("group", name))
    if found is None or found["document"] is None:
        raise NotFound(f"Group {name} not found")
    counts: dict[str, GroupCounts] = await services.engine.submit(CountGroups())
    stamp = {member: found[member] for member in ("revision", "updatedAt", "author")}
    return ok(_group(name, found["document"], counts), **stamp)


@router.put("/api/policies/groups/{name}", responses=CHANGED, openapi_extra=_BODY)
async def set_group(
    request: Request, name: Name, services: WithServices, caller: Admin, options: WithOptions
) -> Response:
    """Set a group: its selector, priority, organization (without one it selects agents of all) and policy."""
    group, warnings = await read_group(request, allow_unknown=options.allow_unknown)
    scope = Scope("group", name)
    if options.dry_run:
        return await preview_change(services, scope, group.document(), warnings)
    return await submit_change(services, SetPolicy(scope, group.document(), caller.name, options.message), warnings)


@router.delete("/api/policies/groups/{name}", responses=CHANGED)
async def remove_group(name: Name, services: WithServices, caller: Admin, message: Message = None) -> Response:
    """Remove a group with its policy."""
    await _require(services, name)
    return await submit_change(services, SetPolicy(Scope("group", name), None, caller.name, message))


async def _require(services: Services, name: str) -> None:
    found = await services.read(services.queries.policy_document, Scope("group", name))
    if found is None or found["document"] is None:
        raise NotFound(f"Group {name} not found")


def _group(name: str, document: dict[str, Any], counts: dict[str, GroupCounts]) -> dict[str, Any]:
    """Return the record of a group."""
    of_group = counts.get(name, GroupCounts())
    return {
        "name": name,
        "organization": None,
        **document,
        "agents": of_group.agents,
        "setToProtection": of_group.set_to_protection,
        "inProtection": of_group.in_protection,
        "blocking": of_group.blocking,
    }
