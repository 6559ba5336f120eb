"""`/api/policy`: policies as named lists of typed rules, for earlier admin tools."""

from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import AliasChoices, Field, StringConstraints

from manager.api.authorization import ScopedAdmin, ScopedViewer
from manager.api.bodies import read_document
from manager.api.envelope import ANY_LIST, answer, body_of, ok
from manager.api.scope import require_scope
from manager.api.services import WithServices
from manager.domain.policies.document_check import check_document
from manager.engine.commands.http_agent_requests import CreatePolicy, PolicyCreated
from manager.engine.commands.policies import scope_of
from manager.errors import Invalid
from schemas.identifiers import AgentId, OrganizationId
from schemas.limits import POLICY_LIMIT
from schemas.model import WireModel, iso
from schemas.policy import Rule

router = APIRouter(tags=["policies"])

_Name = Annotated[str, StringConstraints(max_length=256)]
_POLICY = {
    "type": "object",
    "required": ["id", "policyId", "name", "version", "rules", "createdAt", "updatedAt"],
    "properties": {"version": {"type": "integer"}, "rules": ANY_LIST},
}


class NewPolicy(WireModel):
    """Body of a new policy: rules for the whole fleet, an organization or an agent."""

    rules: list[Rule] = Field(max_length=1000)
    name: _Name | None = None
    description: Annotated[str, StringConstraints(max_length=4096)] | None = None
    organization_id: OrganizationId | None = Field(
        default=None, validation_alias=AliasChoices("org_id", "organizationId", "organization_id")
    )
    agent_id: AgentId | None = None
    broadcast: bool = True


@router.post(
    "/api/policy",
    responses=answer(
        "The policy; its agents get it at once, or at their next poll.",
        _POLICY,
        201,
        warnings={"type": "array", "items": {"type": "string"}},
    ),
    status_code=201,
    openapi_extra=body_of("NewPolicy"),
)
async def create_policy(request: Request, services: WithServices, caller: ScopedAdmin) -> Response:
    """Replace the rules of the fleet's policy, or of an organization's or agent's; its other sections stay."""
    wanted, written = await read_document(request, NewPolicy, POLICY_LIMIT)
    if wanted.agent_id is not None and wanted.organization_id is not None:
        raise Invalid("agentId: name an agent or an organization, not both")
    await require_scope(services, caller, scope_of(wanted.organization_id, wanted.agent_id))
    rules = [
        rule.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude_none=True) for rule in wanted.rules
    ]
    check = check_document({"rules": written["rules"]})
    check.raise_errors()
    created: PolicyCreated = await services.engine.submit(
        CreatePolicy(
            tuple(rules), wanted.name, wanted.description, wanted.organization_id, wanted.agent_id, caller.name
        )
    )
    at = iso(created.created_at)
    policy_id = f"pol-{created.revision}"
    data = {
        "id": policy_id,
        "policyId": policy_id,
        "name": wanted.name or policy_id,
        "description": wanted.description,
        "version": created.revision,
        "rules": rules,
        "broadcastedTo": created.changed if wanted.broadcast else 0,
        "createdAt": at,
        "updatedAt": at,
        "appliedTo": created.agent_ids,
    }
    return ok(data, 201, warnings=check.warnings)


@router.get("/api/policy/active", responses=answer("The policy, or null.", {"oneOf": [_POLICY, {"type": "null"}]}))
async def active_policy(services: WithServices, _caller: ScopedViewer) -> Response:
    """The policy of the whole fleet."""
    return ok(await services.read(services.queries.active_policy))
