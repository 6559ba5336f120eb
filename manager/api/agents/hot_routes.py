"""The two routes that agents ask all day, heartbeat and events: plain objects in front of the framework.

They are described for OpenAPI in `manager.api.routes.reporting`; what a framework's layers cost is in docs/http.md.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

import orjson

from manager.api.agents.policy_record import http_superset
from manager.api.auth import own_or_admin
from manager.api.credentials import Caller
from manager.api.envelope import JSON_TYPE
from manager.api.errors import NoJsonBody
from manager.api.middleware.peers import Headers
from manager.domain.http_reports import PreparedReport, prepare
from manager.engine.commands.http_agent_requests import HeartbeatRecorded, RecordHeartbeat, StoreReports
from manager.engine.context import Submission
from manager.errors import Conflict, NotFound
from schemas.decoding import decode
from schemas.http_agents import HttpEvents, HttpHeartbeat
from schemas.identifiers import is_identifier
from schemas.limits import BODY_LIMIT, MESSAGE_LIMIT

_JSON = JSON_TYPE.encode()


class Question(NamedTuple):
    """What a request comes to: a command for the engine, and how its answer reads: status and body."""

    command: Any
    answer: Callable[[Any], tuple[int, bytes]]


class HotRoute(Protocol):
    """A route that is served without the framework, because it is asked most."""

    template: str

    def ask(self, agent_id: str, caller: Caller | None, headers: Headers, body: bytes) -> Question:
        """Return what a request comes to, or raise what the error map knows."""
        ...


class HeartbeatRoute:
    """`POST /api/agents/{agent_id}/heartbeat`."""

    template = "/api/agents/{agent_id}/heartbeat"

    def ask(self, agent_id: str, caller: Caller | None, headers: Headers, body: bytes) -> Question:
        """Read a heartbeat; it is answered once the engine has heard it."""
        own_or_admin(caller, agent_id)
        _is_json(headers, body)
        heartbeat = decode(HttpHeartbeat, body or b"{}", MESSAGE_LIMIT)
        return Question(RecordHeartbeat(_checked(agent_id), heartbeat), _heard)


class EventsRoute:
    """`POST /api/agents/{agent_id}/events`.

    Args:
        clock: seconds since 1970.
    """

    template = "/api/agents/{agent_id}/events"

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock

    def ask(self, agent_id: str, caller: Caller | None, headers: Headers, body: bytes) -> Question:
        """Read a report of threats; it is answered once all of them are committed."""
        own_or_admin(caller, agent_id)
        _is_json(headers, body)
        events = decode(HttpEvents, body, BODY_LIMIT)
        prepared = prepare(_checked(agent_id), events, self._clock())
        sent_at = None if events.sent_at is None else events.sent_at.timestamp()
        return Question(StoreReports(agent_id, tuple(prepared), sent_at), partial(_stored, events, prepared))


def _heard(taken: HeartbeatRecorded) -> tuple[int, bytes]:
    pending = [http_superset(policy) for policy in taken.pending]
    return 200, b'{"ok":true,"data":%b}' % orjson.dumps({**taken.record, "pendingPolicies": pending})


def _stored(events: HttpEvents, prepared: list[PreparedReport], submission: Submission) -> tuple[int, bytes]:
    if submission.refused is not None:
        place = f"{_list_name(events)}.{submission.refused}: " if _list_name(events) else ""
        raise Conflict(f"{place}another report of this agent has this id; nothing is stored")
    return 200 if events.threats is not None else 201, _accepted(submission, prepared)


def _accepted(submission: Submission, prepared: list[PreparedReport]) -> bytes:
    """Write the answer; each threat is the report as it is stored, with whose it is before it."""
    threats = b""
    if prepared:
        agent = submission.reports[0].agent
        source = orjson.dumps({"sourceAgentId": agent.agent_id, "sourceHostname": agent.hostname})[:-1]
        threats = b",".join(b"%b,%b" % (source, report.document[1:].encode()) for report in prepared)
    ids = orjson.dumps([report.report.id for report in prepared])
    number = len(prepared)
    answer = b'{"ok":true,"data":{"received":%d,"accepted":%d,"eventIds":%b,"threats":[%b]}}'
    return answer % (number, number, ids, threats)


def _list_name(events: HttpEvents) -> str:
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
