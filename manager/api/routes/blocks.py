"""Blocks in force: list, add and import by hand, remove one, lift all of an address."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from manager.api.authentication import Caller
from manager.api.authorization import ScopedResponder, ScopedViewer
from manager.api.bodies import read_body
from manager.api.envelope import answer, body_of, ok, page, page_of, record
from manager.api.parameters import Cursor, Limit, Organization
from manager.api.scope import require_block, require_scope
from manager.api.services import Services, WithServices
from manager.domain.policies.fleet_policies import GLOBAL, Scope
from manager.domain.response.emergency_entry import EntryKind
from manager.domain.response.manual_blocks import FLEET, ManualHolder, ManualScope, manual_value
from manager.engine.commands.block_requests import AddBlocks, BlocksAdded, LiftAddress, Lifted, NewBlock
from manager.engine.commands.requests import RemoveBlock
from manager.errors import Invalid, NotFound
from schemas.identifiers import AgentId, GroupName, OrganizationId
from schemas.limits import MESSAGE_LIMIT
from schemas.model import WireModel, iso

router = APIRouter(tags=["blocks"])

IMPORT_LIMIT = 200
"""The most blocks in one import request."""

DEFAULT_DURATION = 4 * 3600.0
_LONGEST = 366 * 86_400.0
_BY_HAND = "blocked by hand"

_Seconds = Annotated[float, Field(ge=1, le=_LONGEST, description="duration in seconds")]
_Reason = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]*$")]


class BlockScope(WireModel):
    """The hosts that a manual block is for: an organization, a group or an agent; without them the whole fleet."""

    organization: OrganizationId | None = None
    group: GroupName | None = None
    agent_id: AgentId | None = None
    force: bool = Field(default=False, description="override the rule about logins within 7 days; it is audited")

    def holder(self) -> ManualHolder:
        """Return the holder of the blocks.

        Raises:
            Invalid: more than one of them is given.
        """
        given: tuple[tuple[ManualScope, str | None], ...] = (
            ("organization", self.organization), ("group", self.group), ("agent", self.agent_id),
        )  # fmt: skip
        named = [ManualHolder(scope, target) for scope, target in given if target is not None]
        if len(named) > 1:
            raise Invalid("name an organization, a group or an agent, not several")
        return named[0] if named else FLEET

    def scope(self) -> Scope:
        """Return the scope of the hosts, by which access tokens are limited."""
        holder = self.holder()
        return GLOBAL if holder.scope == "fleet" else Scope(holder.scope, holder.target)


class NewBlockBody(BlockScope):
    """A new manual block; 4 hours without `seconds`."""

    value: str = Field(min_length=1, max_length=64, description="an address or CIDR, at most a /24 or /48")
    seconds: _Seconds = DEFAULT_DURATION
    reason: _Reason = _BY_HAND


class ImportedBlock(WireModel):
    """One line of an import."""

    value: str = Field(max_length=64)
    seconds: _Seconds | None = None
    reason: _Reason | None = None


class BlockImportBody(BlockScope):
    """Manual blocks to add together, all or none; `seconds` and `reason` hold where a block has none of its own."""

    blocks: list[ImportedBlock] = Field(min_length=1, max_length=IMPORT_LIMIT)
    seconds: _Seconds = DEFAULT_DURATION
    reason: _Reason = _BY_HAND
    dry_run: bool = Field(default=False, description="check only, and list what is refused")


_Target = Annotated[str | None, Query(max_length=64, description="only blocks of this agent or organization itself")]
_Incident = Annotated[str | None, Query(alias="incidentId", max_length=64, description="only this incident's blocks")]
_Value = Annotated[
    str | None, Query(max_length=64, description="only blocks of this address or CIDR, and of networks that contain it")
]
_BLOCK = record(
    id="string", kind="string", value="string", scope="string", target="string?", organizationId="string?",
    reason="string", addedBy="string?", overrides="string?", incidentId="string?", createdAt="string",
    expiresAt="string", targetCount="integer", acceptedCount="integer", enforcedCount="integer",
)  # fmt: skip


@router.get("/api/blocks", responses=page_of("Blocks in force, newest first."))
async def list_blocks(
    *,
    services: WithServices,
    caller: ScopedViewer,
    kind: EntryKind | None = None,
    organization_id: Organization = None,
    target: _Target = None,
    incident_id: _Incident = None,
    value: _Value = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """Blocks in force, by incidents and by hand, and their expiry. Blocks of policy documents are in the policies.

    With `value` each also has `acceptedBy` and `enforcedBy`, at most 50 agents each.
    """
    found = await services.read(
        services.queries.blocks,
        after=services.clock(),
        kind=kind,
        organizations=caller.limit(organization_id),
        target=target,
        incident_id=incident_id,
        value=value if value is None else _normal(value),
        limit=limit,
        cursor=cursor,
    )
    return page(*found)


_ADDED = answer(
    "The block is in force: guards are told at once. The hosts of the organizations in `exempt` do not carry it out:"
    " their own allowlist or never list has the address.",
    _BLOCK,
    201,
    exempt={"type": "array", "items": {"type": "string"}},
)


@router.post("/api/blocks", responses=_ADDED, status_code=201, openapi_extra=body_of("NewBlockBody"))
async def add_block(request: Request, services: WithServices, caller: ScopedResponder) -> Response:
    """Block an address or network by hand; 409 if a never-block rule refuses it."""
    wanted = await read_body(request, NewBlockBody, MESSAGE_LIMIT)
    await require_scope(services, caller, wanted.scope())
    new = NewBlock(wanted.value, wanted.seconds, wanted.reason)
    done = await _add(services, wanted.holder(), (new,), caller, force=wanted.force)
    found = await services.read(services.queries.block, done.blocks[0].id)
    if found is None:
        raise NotFound(f"Block {done.blocks[0].id} not found: it is not in force any more")
    return ok(found, 201, exempt=list(done.exempt.get(found["value"], ())))


_IMPORTED = answer(
    "The number of blocks added, or for a dry run those that would be, and each that is refused. `new` of them replace"
    " no other; there was `room` for so many new ones.",
    record(added="integer", refused="array", new="integer", room="integer"),
)


@router.post("/api/blocks/import", responses=_IMPORTED, openapi_extra=body_of("BlockImportBody"))
async def import_blocks(request: Request, services: WithServices, caller: ScopedResponder) -> Response:
    """Block up to 200 addresses and networks by hand, all or none; 409 names all that are refused."""
    wanted = await read_body(request, BlockImportBody)
    await require_scope(services, caller, wanted.scope())
    new = tuple(
        NewBlock(each.value, each.seconds or wanted.seconds, each.reason or wanted.reason) for each in wanted.blocks
    )
    done = await _add(services, wanted.holder(), new, caller, force=wanted.force, dry_run=wanted.dry_run)
    refused = [
        {"index": each.index, "value": each.value, "reason": each.reason, "canBeForced": each.can_be_forced}
        for each in done.refused
    ]
    counts = {"added": len(done.blocks), "new": done.new, "room": done.room}
    return ok({**counts, "refused": refused, "dryRun": wanted.dry_run})


_REMOVED = answer(
    "The block is no longer in force; if an incident made it, that does not fire again.",
    record(id="string", removed="boolean"),
)


@router.delete("/api/blocks/{entry_id}", responses=_REMOVED)
async def remove_block(entry_id: str, services: WithServices, caller: ScopedResponder) -> Response:
    """Remove one block."""
    await require_block(services, caller, entry_id)
    return ok({"id": await services.engine.submit(RemoveBlock(entry_id, caller.name)), "removed": True})


_LIFTED = answer(
    "No block of it is in force; fences end their guards' own blocks, and nobody blocks it again until `until`.",
    record(value="string", blocks="array", incidents="array", until="string", agents="integer", notReached="integer"),
)
_Lift = Annotated[str, Query(min_length=1, max_length=64, description="an address or CIDR")]


@router.delete("/api/blocks", responses=_LIFTED)
async def lift_blocks(
    services: WithServices, caller: ScopedResponder, value: _Lift, organization_id: Organization = None
) -> Response:
    """Lift every block within an address or CIDR, by incidents, by hand and by guards themselves.

    409 while a wider block or a policy document blocks it. `notReached` agents may keep a block of their own: they are
    not online, speak HTTP, or have no fence.
    """
    if organization_id is None and caller.organizations is not None:
        if len(caller.organizations) > 1:
            raise Invalid("org_id: name the organization in which to lift it")
        (organization_id,) = caller.organizations
    if organization_id is not None:
        await require_scope(services, caller, Scope("organization", organization_id))
    done: Lifted = await services.engine.submit(LiftAddress(value, caller.name, organization_id))
    return ok(
        {
            "value": done.value,
            "blocks": list(done.block_ids),
            "incidents": list(done.incident_ids),
            "until": iso(done.until),
            "agents": done.agents,
            "notReached": done.not_reached,
        }
    )


async def _add(
    services: Services, holder: ManualHolder, blocks: tuple[NewBlock, ...], caller: Caller, **options: Any
) -> BlocksAdded:
    done: BlocksAdded = await services.engine.submit(AddBlocks(holder, blocks, caller.name, **options))
    return done


def _normal(value: str) -> str:
    """Return an address or CIDR in normal form, any other value as it is."""
    try:
        return manual_value(value)
    except Invalid:
        return value
