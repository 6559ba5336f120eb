"""Request queue of one HTTP link: maps topics to requests, orders them, and interprets the answers. No I/O, no clock.

The requests of the HTTP agents' protocol, by topic:

- a subscription to the policy: ``GET /api/policy/agent/:id`` with the version in force; the first request of a session.
- a heartbeat: ``POST …/heartbeat``. If its answer names pending policies, a poll follows at once.
- threats: ``POST …/events``, all waiting reports in one request with their ids; all of them are stored or none.
- presence: the birth needs no request after the opening poll; the sign-off is ``DELETE /api/agents/:id``.
- a registration: ``POST /api/agents/register``.
"""

import json
import re
from collections.abc import Callable, Iterable
from typing import Any

from agent.link.http_exchange import LONGEST_PAUSE, NOT_MODIFIED, Answer, Request, Task, closed_by, data_of, sentence_of
from agent.link.link import (
    Delivered,
    Event,
    GenerationReceived,
    Opened,
    PolicyReceived,
    ReceiptReceived,
    RegistrationAnswered,
    Subscribed,
)
from schemas.decoding import DecodeError, decode
from schemas.generations import StoreGeneration
from schemas.limits import BODY_LIMIT, LOGINS_IN_HEARTBEAT, MESSAGE_LIMIT
from schemas.model import iso
from schemas.threats import Receipt, Refusal
from schemas.topics import HEARTBEAT, POLICY, POLICY_APPLIED, PRESENCE, REGISTRATION, THREATS, Topic

REPORTS_EVERY = 1.25
"""Seconds between two requests with reports: 48 of the 60 requests a minute that a manager allows one agent.

Reports that come in between are sent in one request.
"""

MOST_REPORTS = 500
"""The maximum number of reports in one request; a manager accepts 1,000 (wire.md)."""

_MOST_LOGINS = 1_000
_ROOM = 1024
_SHORTEST_PAUSE = 1.0

_TOO_MANY = 429
_FAILING_FROM = 500
_NOT_OURS = frozenset({401, 403, 404})
_BAD_CONTENT = frozenset({400, 409, 413, 422})
_PLACE = re.compile(r"threats\.([0-9]{1,6})\b")
# Only MQTT needs message codes and session counters: over HTTP the bearer token authenticates, and TCP keeps the order.
_OF_MQTT = ("mac", "session", "sequence", "blocklistSequence")


_LoginKey = tuple[Any, Any, Any]


class RequestQueue:
    """The requests of one link, one at a time: `next` returns one, and `answered` handles its answer.

    Args:
        agent_id: The agent of the session; empty on a link that registers.
        version: Returns the version of the policy in force, None without one.
    """

    def __init__(self, agent_id: str, version: Callable[[], int | None]) -> None:
        self._path = f"/api/agents/{agent_id}"
        self._policy_path = f"/api/policy/agent/{agent_id}"
        self._version = version
        self._opening = bool(agent_id)
        self._poll = self._opening
        self._subscribed = False
        self._registration: bytes | None = None
        self._heartbeat: bytes | None = None
        self._logins: dict[_LoginKey, dict[str, Any]] = {}
        self._policy_error: str | None = None
        self._reports: dict[str, bytes] = {}
        self._resent: dict[str, bytes] = {}
        self._most = MOST_REPORTS
        self._reports_from = 0.0
        self._hold_until = 0.0
        self._farewell: int | None = None
        self._left = False
        self._number = 0
        self._events: list[Event] = [] if self._opening else [Opened()]

    def events(self) -> list[Event]:
        """Return and clear the events to post before the next request."""
        events, self._events = self._events, []
        return events

    def subscribe(self, rows: tuple[Topic, ...]) -> None:
        """Queue a poll if the policy is among the rows and the opening poll was not just sent."""
        self._poll = self._poll or (POLICY in rows and self._subscribed)
        self._subscribed = True
        self._events.append(Subscribed(rows))

    def publish(self, row: Topic, payload: bytes) -> int:
        """Queue a message's request and return its number.

        A newer heartbeat replaces an older one; the logins of that wait for the next heartbeats that are answered.
        """
        self._number += 1
        if row is REGISTRATION:
            self._registration = payload
            return self._number
        message = {name: value for name, value in json.loads(payload).items() if name not in _OF_MQTT}
        if row is HEARTBEAT:
            message |= self._with_waiting_logins(message.get("logins") or ())
            self._heartbeat = _compact(message | ({"policyError": self._policy_error} if self._policy_error else {}))
        elif row is THREATS and message.get("resent"):
            self._resent |= {report["id"]: _compact(report) for report in message["reports"]}
        elif row is THREATS:
            self._reports[message["id"]] = _compact(message)
        elif row is POLICY_APPLIED:
            self._policy_error = message.get("error")  # heartbeats carry the other states
        elif row is PRESENCE and message["state"] == "offline":
            self._farewell = self._number
        else:
            self._events.append(Delivered(self._number))
        return self._number

    def next(self, now: float, wall: float) -> Request | None:
        """Return the request to send now, if any; the same request is returned until it is answered.

        Args:
            now: On the monotonic clock.
            wall: Epoch seconds.
        """
        if self._left:
            return None
        if self._farewell is not None:
            return Request(Task.FAREWELL, "DELETE", self._path)
        return self._routine(now, wall) if now >= self._hold_until else None

    def _routine(self, now: float, wall: float) -> Request | None:
        if self._registration is not None:
            return Request(Task.REGISTRATION, "POST", "/api/agents/register", self._registration)
        if self._heartbeat is not None:
            return Request(Task.HEARTBEAT, "POST", f"{self._path}/heartbeat", self._heartbeat)
        if self._poll:
            version = self._version()
            query = "" if version is None else f"?version={version}"
            return Request(Task.POLICY, "GET", self._policy_path + query)
        if (self._reports or self._resent) and now >= self._reports_from:
            return self._batch(wall)
        return None

    def wait(self, now: float) -> float | None:
        """Return the seconds until `next` returns a request; None while nothing is queued."""
        if self._left:
            return None
        if self._registration is not None or self._heartbeat is not None or self._poll:
            return max(0.0, self._hold_until - now)
        if self._reports or self._resent:
            return max(0.0, self._hold_until - now, self._reports_from - now)
        return None

    def answered(self, request: Request, answer: Answer, now: float) -> list[Event]:
        """Return the events of an answer; a request that did not succeed stays in the queue."""
        if request.task is Task.FAREWELL:
            number, self._farewell, self._left = self._farewell or 0, None, True
            return [Delivered(number)]
        in_session = not self._opening and request.task is not Task.REGISTRATION
        if answer.status == _TOO_MANY and in_session:
            self._hold_until = now + min(max(answer.retry_after, _SHORTEST_PAUSE), LONGEST_PAUSE)
            return []
        if answer.status == _TOO_MANY or answer.status >= _FAILING_FROM:
            return [closed_by(request, answer)]
        return self._heeded(request, answer, now)

    def _heeded(self, request: Request, answer: Answer, now: float) -> list[Event]:
        if request.task is Task.REGISTRATION:
            self._registration = None
            return [RegistrationAnswered(answer.status, answer.body)]
        if answer.status in _NOT_OURS:
            return [closed_by(request, answer, unauthorized=True)]
        if request.task is Task.REPORTS:
            return self._reported(request, answer, now)
        if request.task is Task.HEARTBEAT:
            return self._heard(request, answer)
        return self._polled(request, answer)

    def _with_waiting_logins(self, logins: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
        """Return the newest of the logins that no answered heartbeat has carried, as many as one may carry.

        At most 1,000 wait, each with its repetitions in later heartbeats; beyond that the oldest is left out.
        """
        for login in logins:
            self._logins.pop(_key_of(login), None)
            self._logins[_key_of(login)] = login
        while len(self._logins) > _MOST_LOGINS:
            del self._logins[next(iter(self._logins))]
        return {"logins": list(self._logins.values())[-LOGINS_IN_HEARTBEAT:]} if self._logins else {}

    def _heard(self, request: Request, answer: Answer) -> list[Event]:
        data = data_of(answer)
        if data is None:
            return [closed_by(request, answer)]
        if self._heartbeat is request.body:
            self._heartbeat = None
        for login in json.loads(request.body or b"{}").get("logins", ()):
            if self._logins.get(_key_of(login)) == login:
                del self._logins[_key_of(login)]
        self._poll = self._poll or bool(data.get("pendingPolicies"))  # a list of policies, or their number
        return _generation_in(data)

    def _polled(self, request: Request, answer: Answer) -> list[Event]:
        offered: list[Event] = []
        if answer.status != NOT_MODIFIED:
            data = data_of(answer)
            if data is None:
                return [closed_by(request, answer)]
            offered = [PolicyReceived(data)]
        opened: list[Event] = [Opened(answer.peer)] if self._opening else []
        self._opening = self._poll = False
        return opened + offered

    def _batch(self, wall: float) -> Request:
        """Return a request with as many reports as fit, the oldest first; a single report may have any size.

        Reports that are sent again after a receipt wait until no other does, and go in requests of their own.
        """
        ids: list[str] = []
        size = _ROOM
        waiting = self._reports or self._resent
        for report_id, body in waiting.items():
            size += len(body) + 1
            if ids and (len(ids) >= self._most or size > BODY_LIMIT):
                break
            ids.append(report_id)
        reports = b",".join(waiting[report_id] for report_id in ids)
        resent = b"" if self._reports else b',"resent":true'
        body = b'{"threats":[%b],"sentAt":"%b"%b}' % (reports, iso(wall).encode(), resent)
        return Request(Task.REPORTS, "POST", f"{self._path}/events", body, tuple(ids))

    def _reported(self, request: Request, answer: Answer, now: float) -> list[Event]:
        """Handle the answer to reports: all were stored, or one was refused permanently, or all must be sent again."""
        self._reports_from = now + REPORTS_EVERY
        data = data_of(answer)
        if data is not None and data.get("accepted") == len(request.ids):
            self._most = MOST_REPORTS
            self._forget(request.ids)
            return [ReceiptReceived(_receipt(request.ids, data))]
        if answer.status not in _BAD_CONTENT:
            return [closed_by(request, answer)]
        sentence = sentence_of(answer.body) or f"the manager answered {answer.status}"
        bad = _refused_report_id(sentence, request.ids)
        if bad is None:  # the answer names no report: bisect the batch
            self._most = len(request.ids) // 2
            return []
        self._forget((bad,))
        return [ReceiptReceived(Receipt(refused=[Refusal(id=bad, reason=sentence)]))]

    def _forget(self, ids: tuple[str, ...]) -> None:
        for report_id in ids:
            self._reports.pop(report_id, None)
            self._resent.pop(report_id, None)


def _generation_in(data: dict[str, Any]) -> list[Event]:
    """Return the event of the generation of the store that the answer to a heartbeat states, if it states one."""
    try:
        return [GenerationReceived(decode(StoreGeneration, _compact(data["storeGeneration"]), MESSAGE_LIMIT))]
    except (KeyError, TypeError, DecodeError):  # an older manager, or another server
        return []


def _receipt(ids: tuple[str, ...], data: dict[str, Any]) -> Receipt:
    """Return the receipt for reports that an answer calls accepted."""
    stated = {"stored": list(ids), "generation": data.get("generation"), "mark": data.get("mark")}
    try:
        return decode(Receipt, _compact(stated), BODY_LIMIT)
    except DecodeError:
        return Receipt(stored=list(ids))


def _refused_report_id(sentence: str, ids: tuple[str, ...]) -> str | None:
    """Return the id of the refused report, by the index in the error message, or of the only report."""
    if len(ids) == 1:
        return ids[0]
    place = _PLACE.match(sentence)
    return ids[int(place[1])] if place and int(place[1]) < len(ids) else None


def _key_of(login: dict[str, Any]) -> _LoginKey:
    return login.get("sourceIp"), login.get("user"), bool(login.get("guessed"))


def _compact(message: Any) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode()
