"""Allowlist entries, which are never blocked and open no incident: of the whole fleet, or of one organization."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import AliasChoices, Field

from manager.api.authorization import ScopedResponder, ScopedViewer
from manager.api.bodies import read_body
from manager.api.envelope import answer, body_of, ok, page, page_of, record
from manager.api.parameters import Organization
from manager.api.scope import require_scope
from manager.api.services import WithServices
from manager.domain.policies.allowlist_entries import MEMBERS, AllowlistEntryKind
from manager.domain.policies.fleet_policies import GLOBAL, Scope
from manager.engine.commands.requests import AllowlistChanged, ChangeAllowlist
from schemas.identifiers import OrganizationId
from schemas.model import WireModel
from schemas.policy import ShortText

router = APIRouter(tags=["policies"])


class NewAllowance(WireModel):
    """A new allowlist entry; without `kind` it is derived from the value."""

    value: ShortText = Field(description="an address, a CIDR, a file hash, or with its kind a process")
    kind: AllowlistEntryKind | None = None
    organization_id: OrganizationId | None = Field(
        default=None,
        validation_alias=AliasChoices("organizationId", "org_id"),
        description="only for this organization",
    )


_CHANGED = record(
    kind="string", value="string", scope="string", target="string?", revision="integer", changed="boolean",
    agents="integer",
)  # fmt: skip
_Value = Annotated[str, Query(min_length=1, max_length=512, description="exactly as it was added")]
_Kind = Annotated[AllowlistEntryKind | None, Query(description="where it cannot be derived from the value")]


@router.get("/api/allowlist", responses=page_of("Entries; with org_id those of the organization and the global ones."))
async def list_allowances(
    services: WithServices, caller: ScopedViewer, organization_id: Organization = None
) -> Response:
    """The global allowlist, or all entries that apply to an organization."""
    entries = []
    shown = () if organization_id is None or not caller.sees(organization_id) else (_scope(organization_id),)
    for scope in (GLOBAL, *shown):
        newest = await services.read(services.queries.policy_document, scope)
        section = ((newest or {}).get("document") or {}).get("allowlist") or {}
        entries += [
            {"kind": kind, "value": value, "scope": scope.kind, "target": scope.target or None}
            for kind, member in MEMBERS.items()
            for value in section.get(member, ())
        ]
    return page(entries, None)


_ADDED = {**answer("The entry was added.", _CHANGED, 201), **answer("The entry existed already.", _CHANGED)}


@router.post("/api/allowlist", responses=_ADDED, status_code=201, openapi_extra=body_of("NewAllowance"))
async def add_allowance(
    request: Request, services: WithServices, caller: ScopedResponder, organization_id: Organization = None
) -> Response:
    """Add an entry. Blocks that it covers are withdrawn at once."""
    wanted = await read_body(request, NewAllowance)
    scope = _scope(wanted.organization_id or organization_id)
    await require_scope(services, caller, scope)
    change = ChangeAllowlist(scope, wanted.kind, wanted.value, listed=True, author=caller.name)
    done: AllowlistChanged = await services.engine.submit(change)
    return ok(_record(scope, done), 201 if done.policy.changed else 200)


@router.delete("/api/allowlist", responses=answer("The entry was removed.", _CHANGED))
async def remove_allowance(
    services: WithServices,
    caller: ScopedResponder,
    value: _Value,
    kind: _Kind = None,
    organization_id: Organization = None,
) -> Response:
    """Remove an entry; 404 if it does not exist."""
    scope = _scope(organization_id)
    await require_scope(services, caller, scope)
    change = ChangeAllowlist(scope, kind, value, listed=False, author=caller.name)
    return ok(_record(scope, await services.engine.submit(change)))


def _scope(organization_id: str | None) -> Scope:
    return GLOBAL if organization_id is None else Scope("organization", organization_id)


def _record(scope: Scope, done: AllowlistChanged) -> dict[str, object]:
    policy = done.policy
    return {
        "kind": done.kind,
        "value": done.value,
        "scope": scope.kind,
        "target": scope.target or None,
        "revision": policy.revision,
        "changed": policy.changed,
        "agents": policy.agents,
    }
