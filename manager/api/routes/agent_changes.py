"""Changes of agents by operators: tags, site and organization, removal of silent ones; list of organizations."""

from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import Field

from manager.api.authentication import Caller
from manager.api.authorization import Admin, ScopedAdmin, ScopedViewer
from manager.api.bodies import read_body, read_document
from manager.api.envelope import answer, body_of, ok, page, page_of, record
from manager.api.scope import require_agent, require_scope
from manager.api.services import Services, WithServices
from manager.domain.policies.fleet_policies import Scope
from manager.engine.commands.requests import (
    UNCHANGED,
    AgentsChanged,
    ChangeAgent,
    ChangeAgents,
    PruneAgents,
    PrunedAgents,
    ReadOrganizations,
)
from manager.errors import Invalid, NotFound
from schemas.identifiers import DEFAULT_ORGANIZATION, AgentId, Label, OrganizationId
from schemas.limits import BODY_LIMIT
from schemas.model import WireModel

router = APIRouter(tags=["agents"])


class AgentChange(WireModel):
    """Body of a change of an agent: the members to set. `tags` replaces all tags; a `site` of null takes it away."""

    tags: Annotated[list[Label], Field(max_length=32)] | None = None
    site: Label | None = None
    organization: OrganizationId | None = None


class PruneBody(WireModel):
    """Body of the removal of agents that are not heard of any more: since when, in seconds; a dry run only lists."""

    older_than: int = Field(ge=3600, le=10 * 366 * 86_400)
    dry_run: bool = False


@router.patch(
    "/api/agents/{agent_id}",
    responses=answer("The agent's record after the change."),
    openapi_extra=body_of("AgentChange"),
)
async def change_agent(request: Request, agent_id: str, services: WithServices, caller: ScopedAdmin) -> Response:
    """Set tags, site or organization of an agent. What is set here, a later registration does not change."""
    await require_agent(services, caller, agent_id)
    wanted, written = await read_document(request, AgentChange, BODY_LIMIT)
    names = set(written)
    unknown = sorted(names - {"tags", "site", "organization"})
    if unknown or not names:
        named = f"{unknown[0]}: no such field; " if unknown else ""
        raise Invalid(f"{named}name tags, site or organization")
    for name in ("tags", "organization"):
        if name in names and written[name] is None:
            raise Invalid(f"{name}: null takes nothing away here; {_INSTEAD[name]}")
    if wanted.organization is not None:
        await require_scope(services, caller, Scope("organization", wanted.organization))
    tags = None if wanted.tags is None else tuple(wanted.tags)
    site = wanted.site if "site" in names else UNCHANGED
    await services.engine.submit(ChangeAgent(agent_id, caller.name, tags, site, wanted.organization))
    found = await services.read(services.queries.agent, agent_id)
    if found is None:
        raise NotFound(f"Agent {agent_id} not found")
    return ok(services.with_clone(found))


_INSTEAD = {"tags": "write an empty list", "organization": f"write {DEFAULT_ORGANIZATION}"}

_PRUNED = record(agents="array", removed="boolean", more="boolean")


@router.post(
    "/api/agents/prune",
    responses=answer(
        "The agents that were removed for good, or would be; `more` if a repetition removes more.", _PRUNED
    ),
    openapi_extra=body_of("PruneBody"),
)
async def prune_agents(request: Request, services: WithServices, caller: Admin) -> Response:
    """Remove for good the agents that are stale or offline and were last heard of longer ago than `olderThan`."""
    wanted = await read_body(request, PruneBody)
    before = services.clock() - wanted.older_than
    done: PrunedAgents = await services.engine.submit(PruneAgents(before, caller.name, wanted.dry_run))
    agents = [{"agentId": agent_id, "hostname": hostname} for agent_id, hostname in done.agents]
    return ok({"agents": agents, "removed": not wanted.dry_run, "more": done.more})


class AgentsChange(WireModel):
    """Body of a change of several agents: tags to add and remove, the site (null takes it away), the organization."""

    agent_ids: list[AgentId] = Field(min_length=1, max_length=200)
    add_tags: list[Label] = Field(default_factory=list, max_length=32)
    remove_tags: list[Label] = Field(default_factory=list, max_length=32)
    site: Label | None = None
    organization: OrganizationId | None = None
    dry_run: bool = Field(default=False, description="change nothing, and list what would change and what is refused")


_CHANGED = answer(
    "The agents that change, or would, the number of them with a new effective policy, and in a dry run each refusal.",
    record(agents="array", policies="integer", refused="array", dryRun="boolean"),
)
_CHANGES = frozenset({"addTags", "removeTags", "site", "organization"})


@router.post("/api/agents/change", responses=_CHANGED, openapi_extra=body_of("AgentsChange"))
async def change_agents(request: Request, services: WithServices, caller: ScopedAdmin) -> Response:
    """Change up to 200 agents alike, all or none; 409 names those that cannot be changed so."""
    wanted, written = await read_document(request, AgentsChange, BODY_LIMIT)
    unknown = sorted(set(written) - _CHANGES - {"agentIds", "dryRun"})
    if unknown:
        raise Invalid(f"{unknown[0]}: no such field; name addTags, removeTags, site or organization")
    if not (wanted.add_tags or wanted.remove_tags or "site" in written or wanted.organization):
        raise Invalid("name addTags, removeTags, site or organization")
    if both := sorted({*wanted.add_tags} & {*wanted.remove_tags}):
        raise Invalid(f"removeTags: {both[0]} is in addTags, too")
    await _require_all(services, caller, wanted)
    change = ChangeAgents(
        tuple(wanted.agent_ids),
        caller.name,
        tuple(wanted.add_tags),
        tuple(wanted.remove_tags),
        wanted.site if "site" in written else UNCHANGED,
        wanted.organization,
        wanted.dry_run,
    )
    done: AgentsChanged = await services.engine.submit(change)
    agents = [{"agentId": agent_id, "hostname": hostname} for agent_id, hostname in done.agents]
    refused = [
        {"agentId": agent_id, "hostname": hostname, "reason": reason} for agent_id, hostname, reason in done.refused
    ]
    return ok({"agents": agents, "policies": done.policies, "refused": refused, "dryRun": wanted.dry_run})


async def _require_all(services: Services, caller: Caller, wanted: AgentsChange) -> None:
    """Check that the agents, and the organization that they move to, are of the caller's organizations."""
    if caller.organizations is None:
        return
    for agent_id in wanted.agent_ids:
        await require_agent(services, caller, agent_id)
    if wanted.organization is not None:
        await require_scope(services, caller, Scope("organization", wanted.organization))


@router.get("/api/organizations", responses=page_of("Organizations, by name, each with the number of its agents."))
async def list_organizations(services: WithServices, caller: ScopedViewer) -> Response:
    """The organizations that an agent, a token, a policy or a live block names; all in one page."""
    found: dict[str, int] = await services.engine.submit(ReadOrganizations())
    return page([{"organization": name, "agents": number} for name, number in found.items() if caller.sees(name)], None)
