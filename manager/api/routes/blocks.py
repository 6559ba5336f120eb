"""What incidents have put in force: addresses and hashes that are blocked, agents that are more attentive."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from manager.api.auth import Admin
from manager.api.envelope import answer, ok, page, page_of, record
from manager.api.parameters import Cursor, Limit, Organization
from manager.api.services import WithServices
from manager.domain.response.emergency_entry import EntryKind
from manager.engine.commands.requests import RemoveBlock

router = APIRouter(tags=["incidents"])

_Target = Annotated[str | None, Query(max_length=64, description="only what this agent or organization has by itself")]
_Incident = Annotated[str | None, Query(alias="incidentId", max_length=64, description="only what this incident made")]


@router.get("/api/blocks", responses=page_of("Live entries, newest first."))
async def list_blocks(
    *,
    services: WithServices,
    _caller: Admin,
    kind: EntryKind | None = None,
    organization_id: Organization = None,
    target: _Target = None,
    incident_id: _Incident = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """The emergency entries in force, and until when. What admins block by policy stands in the policies."""
    found = await services.read(
        services.queries.blocks,
        after=services.clock(),
        kind=kind,
        organization_id=organization_id,
        target=target,
        incident_id=incident_id,
        limit=limit,
        cursor=cursor,
    )
    return page(*found)


_REMOVED = answer(
    "It is in force no more, and its incident does not fire again.", record(id="string", removed="boolean")
)


@router.delete("/api/blocks/{entry_id}", responses=_REMOVED)
async def remove_block(entry_id: str, services: WithServices, caller: Admin) -> Response:
    """Take one entry out of force."""
    return ok({"id": await services.door.submit(RemoveBlock(entry_id, caller.name)), "removed": True})
