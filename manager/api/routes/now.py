"""The first screen's question in one request: who may have got in, whom blocks hurt, what waits, what is not seen."""

from typing import Any

from fastapi import APIRouter, Response

from manager.api.authorization import ScopedViewer
from manager.api.envelope import ANY_OBJECT, answer, ok, record
from manager.api.ports import Organizations, Record
from manager.api.services import Services, WithServices
from manager.api.user_names import is_masked_for

router = APIRouter(tags=["fleet"])

_SHOWN = 20
_LIMITED = "failing"

_SITUATION: dict[str, Any] = record(at="string", since="string")
_SITUATION["required"] += ["agents", "gotIn", "weHurt", "waits", "blind", "manager", "dealtWith"]
_SITUATION["properties"] |= dict.fromkeys(_SITUATION["required"][2:], ANY_OBJECT)


@router.get(
    "/api/now", responses=answer("The situation of the last 24 hours, in numbers and first records.", _SITUATION)
)
async def read_situation(services: WithServices, caller: ScopedViewer) -> Response:
    """Logins that look guessed, blocks that hurt, approvals that wait, agents that are not seen, the manager's own lag.

    Requests that arrive together share one read of the store, which begins after they have arrived.
    """
    organizations = caller.limit(None)
    key = None if organizations is None else frozenset(organizations)
    found = await services.situations.get(key, lambda: _situation(services, organizations))
    if is_masked_for(caller):
        logins = [_masked(services, each) for each in found["gotIn"]["records"]]
        found = {**found, "gotIn": {**found["gotIn"], "records": logins}}
    return ok(found)


def _masked(services: Services, login: Record) -> Record:
    threat = login["threat"]
    return {**login, "threat": {**threat, "evidence": services.user_names.shown(threat["evidence"])}}


async def _situation(services: Services, organizations: Organizations) -> Record:
    found = await services.read(services.queries.situation, services.clock(), organizations)
    sees_all = organizations is None
    held_back = [each for each in services.held_back() if sees_all or each["organizationId"] in (organizations or ())]
    channels = [each for each in services.notifications.records() if each["state"] == _LIMITED] if sees_all else []
    found["blind"] |= {
        "heldBack": {"count": len(held_back), "records": held_back[:_SHOWN]},
        "channels": [{name: each[name] for name in ("name", "failingSince", "reason")} for each in channels],
        "warnings": services.warnings()[:_SHOWN] if sees_all else [],
    }
    return {**found, "manager": {"problem": services.not_ready(), **services.lag()}}
