"""The two routes that agents ask all day, heartbeat and events: plain callables in front of the framework.

They are described for OpenAPI in `manager.api.routes.reporting`; what a framework's layers cost is in docs/http.md.
"""

from collections.abc import Callable

from pydantic_core import to_json

from manager.api.auth import own_or_admin
from manager.api.credentials import Caller
from manager.api.envelope import JSON_TYPE
from manager.api.errors import NoJsonBody
from manager.api.legacy_policy import legacy_superset
from manager.api.peers import Headers
from manager.api.ports import Door
from manager.domain.legacy_reports import PreparedReport, prepare
from manager.engine.desk import Submission
from manager.engine.legacy_commands import HeartbeatTaken, TakeHeartbeat, TakeReports
from manager.errors import Conflict, NotFound
from schemas.decoding import decode
from schemas.identifiers import is_identifier
from schemas.legacy import LegacyEvents, LegacyHeartbeat
from schemas.limits import BODY_LIMIT, MESSAGE_LIMIT

_JSON = JSON_TYPE.encode()


class HeartbeatRoute:
    """`POST /api/agents/{agent_id}/heartbeat`.

    Args:
        door: the way to the engine.
    """

    template = "/api/agents/{agent_id}/heartbeat"

    def __init__(self, door: Door) -> None:
        self._door = door

    async def __call__(self, agent_id: str, caller: Caller | None, headers: Headers, body: bytes) -> tuple[int, bytes]:
        """Answer a heartbeat once the engine has heard it."""
        own_or_admin(caller, agent_id)
        _is_json(headers, body)
        heartbeat = decode(LegacyHeartbeat, body or b"{}", MESSAGE_LIMIT)
        taken: HeartbeatTaken = await self._door.submit(TakeHeartbeat(_checked(agent_id), heartbeat))
        pending = [legacy_superset(policy) for policy in taken.pending]
        return 200, b'{"ok":true,"data":%b}' % to_json({**taken.record, "pendingPolicies": pending})


class EventsRoute:
    """`POST /api/agents/{agent_id}/events`.

    Args:
        door: the way to the engine.
        clock: seconds since 1970.
    """

    template = "/api/agents/{agent_id}/events"

    def __init__(self, door: Door, clock: Callable[[], float]) -> None:
        self._door = door
        self._clock = clock

    async def __call__(self, agent_id: str, caller: Caller | None, headers: Headers, body: bytes) -> tuple[int, bytes]:
        """Answer a report of threats once all of them are committed."""
        own_or_admin(caller, agent_id)
        _is_json(headers, body)
        events = decode(LegacyEvents, body, BODY_LIMIT)
        prepared = prepare(_checked(agent_id), events, self._clock())
        sent_at = None if events.sent_at is None else events.sent_at.timestamp()
        submission: Submission = await self._door.submit(TakeReports(agent_id, tuple(prepared), sent_at))
        if submission.refused is not None:
            place = f"{_list_name(events)}.{submission.refused}: " if _list_name(events) else ""
            raise Conflict(f"{place}another report of this agent has this id; nothing is stored")
        status = 200 if events.threats is not None else 201
        return status, _accepted(submission, prepared)


def _accepted(submission: Submission, prepared: list[PreparedReport]) -> bytes:
    """Write the answer; each threat is the report as it is stored, with whose it is before it."""
    threats = b""
    if prepared:
        agent = submission.arrivals[0].agent
        source = to_json({"sourceAgentId": agent.agent_id, "sourceHostname": agent.hostname})[:-1]
        threats = b",".join(b"%b,%b" % (source, report.document[1:].encode()) for report in prepared)
    ids = to_json([report.report.id for report in prepared])
    number = len(prepared)
    answer = b'{"ok":true,"data":{"received":%d,"accepted":%d,"eventIds":%b,"threats":[%b]}}'
    return answer % (number, number, ids, threats)


def _list_name(events: LegacyEvents) -> str:
    return "threats" if events.threats is not None else "events" if events.events is not None else ""


def _checked(agent_id: str) -> str:
    """Return an agent's id; what is none can be nobody's.

    Raises:
        NotFound: it is none.
    """
    if not is_identifier("agentId", agent_id):
        raise NotFound(f"Agent {agent_id[:64]} not found")
    return agent_id


def _is_json(headers: Headers, body: bytes) -> None:
    declared = headers.get(b"content-type", b"")
    if declared != _JSON and declared.partition(b";")[0].strip().lower() != _JSON and (body or declared):
        raise NoJsonBody
