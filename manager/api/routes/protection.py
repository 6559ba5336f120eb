"""The forecast of automatic blocking: measures that guards took or would have taken, and what followed."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from manager.api.authorization import ScopedViewer
from manager.api.envelope import answer, ok, record
from manager.api.parameters import Organization
from manager.api.scope import require_no_group
from manager.api.services import WithServices
from schemas.identifiers import GroupName

router = APIRouter(tags=["protection"])

_DAY = 86_400.0

_Days = Annotated[int, Query(ge=1, le=30, description="only measures of the last days; 30 days are kept")]
_Group = Annotated[GroupName | None, Query(description="only the agents that this policy group selects now")]
_FORECAST = answer(
    "Counts of addresses, and at most 50 named cases, the one with the newest evidence first.",
    record(
        since="string", until="string", organizationId="string?", addresses="integer", taken="integer",
        throttled="integer", beforeSixthGuess="integer", friends="integer", loggedIn="integer", guessed="integer",
        lifted="integer", allowlisted="integer", connectionsCut="integer", connectionsUnknown="integer",
        hosts="integer", hostsReportingLogins="integer", cases="array",
    ),
)  # fmt: skip


@router.get("/api/protection/forecast", responses=_FORECAST)
async def forecast(
    services: WithServices,
    caller: ScopedViewer,
    organization_id: Organization = None,
    days: _Days = 30,
    group: _Group = None,
) -> Response:
    """The cost of automatic blocking: blocked addresses, and those that turned out to be friends."""
    require_no_group(caller, group)
    now = services.clock()
    query, since = services.queries.protection_forecast, now - days * _DAY
    return ok(
        await services.read(query, since=since, now=now, organizations=caller.limit(organization_id), group=group)
    )
