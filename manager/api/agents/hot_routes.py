"""Hot routes of HTTP agents, heartbeat and events, which are served without the framework.

Their OpenAPI description is in `manager.api.routes.agents`; the framework's cost is measured in docs/http.md.
"""

from collections.abc import Callable
from datetime import datetime
from functools import lru_cache, partial
from typing import Any, NamedTuple, Protocol

import orjson

from manager.api.authentication import Caller
from manager.api.authorization import require_admin_or_self
from manager.api.envelope import JSON_TYPE
from manager.api.errors import NoJsonBody
from manager.api.middleware.client_address import Headers
from manager.domain.http_reports import PreparedReport, prepare
from manager.engine.commands.http_agent_requests import HeartbeatRecorded, RecordHeartbeat, StoreReports
from manager.engine.commands.requests import AgentPolicy
from manager.engine.context import Submission
from manager.errors import Conflict, NotFound
from schemas.decoding import decode, decode_leniently
from schemas.fast_http_heartbeats import AnyHttpHeartbeat, FastHttpHeartbeat, fast_http_heartbeat
from schemas.fast_http_reports import FastHttpEvents, fast_events
from schemas.http_agents import HttpEvents, HttpHeartbeat
from schemas.identifiers import is_identifier
from schemas.limits import BODY_LIMIT, MESSAGE_LIMIT
from schemas.model import iso

_JSON = JSON_TYPE.encode()

_iso = lru_cache(maxsize=64)(iso)
"""Formats the time of a batch, which all its answers state."""

AnyEvents = HttpEvents | FastHttpEvents
"""A decoded request body with reports, whichever decoder made it."""


class PreparedCommand(NamedTuple):
    """A command for the engine, and the function that renders its reply as status and body."""

    request: Any
    render: Callable[[Any], tuple[int, bytes]]


class HotRoute(Protocol):
    """A route that is served without the framework; `path` is its template."""

    path: str

    def prepare(self, agent_id: str, caller: Caller | None, headers: Headers, body: bytes) -> PreparedCommand:
        """Decode a request into a command, or raise an error of the error map."""
        ...


class HeartbeatRoute:
    """`POST /api/agents/{agent_id}/heartbeat`."""

    path = "/api/agents/{agent_id}/heartbeat"

    def prepare(self, agent_id: str, caller: Caller | None, headers: Headers, body: bytes) -> PreparedCommand:
        """Decode a heartbeat; an invalid member is dropped and reported in the answer's `warnings`."""
        require_admin_or_self(caller, agent_id)
        _require_json(headers, body)
        heartbeat, dropped = _decoded_heartbeat(body)
        plain = body if isinstance(heartbeat, FastHttpHeartbeat) else None
        command = RecordHeartbeat(_existing_id(agent_id), heartbeat, tuple(dropped), plain)
        return PreparedCommand(command, partial(_render_heartbeat, dropped))


class EventsRoute:
    """`POST /api/agents/{agent_id}/events`.

    Args:
        clock: seconds since 1970.
        charge: charges the caller's budget for a number of reports and bytes.
    """

    path = "/api/agents/{agent_id}/events"

    def __init__(self, clock: Callable[[], float], charge: Callable[[Caller | None, int, int], None]) -> None:
        self._clock = clock
        self._charge = charge

    def prepare(self, agent_id: str, caller: Caller | None, headers: Headers, body: bytes) -> PreparedCommand:
        """Decode threat reports; they are answered once all of them are committed."""
        require_admin_or_self(caller, agent_id)
        self._charge(caller, 1, len(body))
        _require_json(headers, body)
        is_id = is_identifier("agentId", agent_id)
        events = (fast_events(body, agent_id) if is_id else None) or decode(HttpEvents, body, BODY_LIMIT)
        if not is_id:
            raise _no_agent(agent_id)
        prepared = prepare(agent_id, events, self._clock())
        self._charge(caller, len(prepared), 0)
        resent, sent_at, reported_at = bool(events.resent), _epoch(events.sent_at), _epoch(events.reported_at)
        command = StoreReports(agent_id, tuple(prepared), sent_at, reported_at, resent)
        return PreparedCommand(command, partial(_render_reports, events, prepared))


def hot_routes(clock: Callable[[], float], charge: Callable[[Caller | None, int, int], None]) -> dict[str, HotRoute]:
    """Return the hot routes by their last path segment; the arguments are those of `EventsRoute`."""
    return {"heartbeat": HeartbeatRoute(), "events": EventsRoute(clock, charge)}


def policy_record(policy: AgentPolicy) -> dict[str, Any]:
    """Return an agent's policy for HTTP agents: the document, with the field names of earlier guards."""
    return {
        **policy.document,
        "policyId": f"pol-{policy.digest[:16]}",
        "policyVersion": policy.version,
        "version": policy.version,
        "appliedAt": policy.document["updatedAt"],
    }


def _epoch(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()


def _decoded_heartbeat(body: bytes) -> tuple[AnyHttpHeartbeat, list[str]]:
    """Return a heartbeat, and an error message for each member that is dropped."""
    fast = fast_http_heartbeat(body)
    return decode_leniently(HttpHeartbeat, body or b"{}", MESSAGE_LIMIT) if fast is None else (fast, [])


def _render_heartbeat(dropped: list[str], recorded: HeartbeatRecorded) -> tuple[int, bytes]:
    pending = [policy_record(policy) for policy in recorded.pending]
    members = {**recorded.record, "pendingPolicies": pending, "pendingPolicyCount": len(pending)}
    if recorded.generation is not None:
        members["storeGeneration"] = recorded.generation.model_dump(mode="json", by_alias=True, exclude_none=True)
    data = orjson.dumps(members)
    if dropped:
        return 200, b'{"ok":true,"data":%b,"warnings":%b}' % (data, orjson.dumps(dropped))
    return 200, b'{"ok":true,"data":%b}' % data


def _render_reports(events: AnyEvents, prepared: list[PreparedReport], submission: Submission) -> tuple[int, bytes]:
    if submission.refusal is not None:
        named = _list_name(events) and submission.refused is not None
        place = f"{_list_name(events)}.{submission.refused}: " if named else ""
        raise Conflict(f"{place}{submission.refusal}; nothing is stored")
    return 200 if events.threats is not None else 201, _reports_body(submission, prepared)


def _reports_body(submission: Submission, prepared: list[PreparedReport]) -> bytes:
    """Render the answer; each threat is the stored document with its agent."""
    threats = b""
    if prepared:
        agent = submission.reports[0].agent
        about = {
            "sourceAgentId": agent.agent_id,
            "sourceHostname": agent.hostname,
            "receivedAt": _iso(submission.received_at),
        }
        source = orjson.dumps(about)[:-1]
        threats = b",".join(b"%b,%b" % (source, report.document[1:].encode()) for report in prepared)
    ids = orjson.dumps([report.report.id for report in prepared])
    number = len(prepared)
    store_state = orjson.dumps(submission.store_state)[1:-1]
    answer = b'{"ok":true,"data":{"received":%d,"accepted":%d,"eventIds":%b,"threats":[%b]%b%b}}'
    return answer % (number, number, ids, threats, b"," if store_state else b"", store_state)


def _list_name(events: AnyEvents) -> str:
    if events.threats is not None:
        return "threats"
    return "" if events.events is None else "events"


def _existing_id(agent_id: str) -> str:
    """Return a well-formed agent id.

    Raises:
        NotFound: the id is malformed.
    """
    if not is_identifier("agentId", agent_id):
        raise _no_agent(agent_id)
    return agent_id


def _no_agent(agent_id: str) -> NotFound:
    return NotFound(f"Agent {agent_id[:64]} not found")


def _require_json(headers: Headers, body: bytes) -> None:
    declared = headers.get(b"content-type", b"")
    if declared != _JSON and declared.partition(b";")[0].strip().lower() != _JSON and (body or declared):
        raise NoJsonBody
