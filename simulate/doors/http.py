"""The HTTP door: the lifecycle page's agent protocol, over one connection for each agent or a few shared ones.

A bearer token authenticates each request, so many agents may share a connection.
"""

import asyncio
import re
import time
from collections.abc import Callable

import orjson

from schemas.generations import StoreGeneration
from schemas.identifiers import DEFAULT_ORGANIZATION, is_identifier
from schemas.keys import EnrollmentToken
from schemas.model import iso
from schemas.threats import Receipt, Refusal
from simulate.agent import ARCHITECTURE, SYSTEM, VERSION, Agent, InForce
from simulate.doors.door import DoorError
from simulate.doors.http_connection import Answer, HttpConnection
from simulate.errors import UnreachableError
from simulate.identity import Identity

REPORTS_EVERY = 1.25
"""Seconds between two requests with an agent's reports: a manager allows one agent 60 requests a minute."""

MOST_REPORTS = 500
"""The maximum number of reports in one request."""

_OF_MQTT = ("session", "sequence", "blocklistSequence")
_OK, _CREATED, _NOT_MODIFIED = 200, 201, 304
_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND, _CONFLICT, _TOO_MANY = 401, 403, 404, 409, 429
_REFUSED_FOR_GOOD = frozenset({400, _UNAUTHORIZED, _FORBIDDEN})
_UNKNOWN_AGENT = frozenset({_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND})
_BAD_CONTENT = frozenset({400, _CONFLICT, 413})
_PLACE = re.compile(r"threats\.([0-9]{1,6})\b")
_SHORTEST_PAUSE = 1.0


class HttpDoor:
    """Connects agents to one manager.

    Args:
        connections: The connections; agents are spread over them by number.
        token: The enrollment token.
        keep: Called with each identity that the manager has accepted.
        heartbeat_interval: Seconds; None sends only the first of a session.
        policy_poll_interval: Seconds between two polls of an agent.
        leaving: Set when agents must sign off.
    """

    def __init__(
        self,
        *,
        connections: list[HttpConnection],
        token: EnrollmentToken,
        keep: Callable[[Identity], None],
        heartbeat_interval: float | None,
        policy_poll_interval: float,
        leaving: asyncio.Event,
    ) -> None:
        self._connections = connections
        self._token = token
        self._keep = keep
        self._heartbeat_interval = heartbeat_interval
        self._poll_interval = policy_poll_interval
        self._leaving = leaving

    async def session(self, agent: Agent) -> None:
        """See `Door`."""
        connection = self._connections[agent.number % len(self._connections)]
        if not agent.identity.http_token:
            await self._register(agent, connection)
        session = HttpSession(agent, connection, self._heartbeat_interval, self._poll_interval, self._leaving)
        await session.open()
        try:
            await session.run()
        except (OSError, TimeoutError) as error:
            agent.tally.last_error = str(error) or "an answer took too long"
        finally:
            session.close()

    async def close(self) -> None:
        """Close the connections."""
        for connection in self._connections:
            connection.close()

    async def _register(self, agent: Agent, connection: HttpConnection) -> None:
        identity = agent.identity
        body = orjson.dumps({"hostname": identity.hostname, "os": SYSTEM, "arch": ARCHITECTURE, "version": VERSION})
        answer = await connection.ask("POST", "/api/agents/register", str(self._token), body)
        if answer.status in _REFUSED_FOR_GOOD:
            raise UnreachableError(f"the manager refuses {identity.hostname}: {answer.sentence}")
        if answer.status not in {_OK, _CREATED}:
            raise DoorError(f"a registration was answered {answer.status}: {answer.sentence}")
        document = answer.document
        agent_id, token = document.get("agentId"), document.get("token")
        if not (isinstance(agent_id, str) and is_identifier("agentId", agent_id) and isinstance(token, str)):
            raise UnreachableError("what answers at the manager's address is no manager")
        named = answer.data.get("organizationId")
        identity.agent_id, identity.http_token = agent_id, token
        identity.organization_id = named if isinstance(named, str) else DEFAULT_ORGANIZATION
        agent.tally.registered += 1
        self._keep(identity)


class HttpSession:
    """One agent's requests, one at a time: heartbeat, policy, reports, and the sign-off."""

    def __init__(
        self,
        agent: Agent,
        connection: HttpConnection,
        heartbeat_interval: float | None,
        poll_interval: float,
        leaving: asyncio.Event,
    ) -> None:
        self._agent = agent
        self._connection = connection
        self._interval = float("inf") if heartbeat_interval is None else heartbeat_interval
        self._poll_interval = poll_interval
        self._leaving = leaving
        self._news = asyncio.Event()
        self._path = f"/api/agents/{agent.identity.agent_id}"
        self._is_cut = False
        self._next_heartbeat = self._next_poll = self._reports_from = 0.0
        self._most = MOST_REPORTS

    async def open(self) -> None:
        """Poll the policy and send the first heartbeat; reports may follow.

        Raises:
            OSError: the manager did not answer as expected.
        """
        agent = self._agent
        agent.begin_session()
        await self._poll()
        await self._beat()
        agent.session = self
        agent.tally.connected += 1
        agent.outbox.begin()
        agent.kept.begin(time.monotonic())

    async def run(self) -> None:
        """Send the due requests until the agent leaves.

        Raises:
            OSError: the manager did not answer as expected; the caller opens another session.
        """
        while not self._is_cut:
            now = time.monotonic()
            if self._leaving.is_set():
                await self._ask("DELETE", self._path)
                return
            if now >= self._next_heartbeat:
                await self._beat()
            elif now >= self._next_poll:
                await self._poll()
            elif (self._agent.outbox or self._agent.kept.again) and now >= self._reports_from:
                await self._report(now)
            else:
                await self._wait(now)
        self._connection.close()

    def close(self) -> None:
        """End the session."""
        if self._agent.session is self:
            self._agent.session = None
            self._agent.tally.connected -= 1

    def pump(self) -> None:
        """Wake the loop to send the outbox's reports."""
        self._news.set()

    def cut(self) -> None:
        """Close the connection without a sign-off, even during a request."""
        self._is_cut = True
        self._connection.close()
        self._news.set()

    def sign_off(self) -> None:
        """Wake the loop, which signs off because `leaving` is set."""
        self._news.set()

    def tick(self, now: float) -> None:
        """Wake the loop if a report in the outbox may be due."""
        if (self._agent.outbox or self._agent.kept.again) and now >= self._reports_from:
            self._news.set()

    async def _wait(self, now: float) -> None:
        self._news.clear()
        until = min(self._next_heartbeat, self._next_poll)
        if self._agent.outbox or self._agent.kept.again:
            until = min(until, max(self._reports_from, now + 1))
        try:
            async with asyncio.timeout(None if until == float("inf") else until - now):
                await self._news.wait()
        except TimeoutError:
            return

    async def _beat(self) -> None:
        self._next_heartbeat = time.monotonic() + self._interval
        fields = orjson.loads(self._agent.heartbeat())
        body = orjson.dumps({name: value for name, value in fields.items() if name not in _OF_MQTT})
        answer = await self._ask("POST", f"{self._path}/heartbeat", body)
        if answer.data.get("pendingPolicies"):
            self._next_poll = 0.0
        generation = answer.data.get("storeGeneration")
        if generation is not None:
            self._agent.kept.hear(StoreGeneration.model_validate_json(orjson.dumps(generation)), time.monotonic())

    async def _poll(self) -> None:
        agent = self._agent
        self._next_poll = time.monotonic() + self._poll_interval
        query = f"?version={agent.policy.version}" if agent.policy.version else ""
        answer = await self._ask("GET", f"/api/policy/agent/{agent.identity.agent_id}{query}")
        version, digest = answer.data.get("version"), answer.data.get("digest")
        if answer.status == _OK and isinstance(version, int) and version > agent.policy.version:
            proof = answer.data.get("versionProof")
            agent.policy = InForce(version, digest if isinstance(digest, str) else "", str(proof or ""))
            agent.tally.policies_applied += 1

    async def _report(self, now: float) -> None:
        agent = self._agent
        taken, resent = agent.outbox.take(now, self._most), b""
        if not taken:
            taken, resent = agent.kept.take(now), b',"resent":true'
        if not taken:
            self._reports_from = now + _SHORTEST_PAUSE
            return
        reports = b",".join(agent.signed_by_agent(body) for _, body in taken)
        body = b'{"threats":[%b],"sentAt":"%b"%b}' % (reports, iso(time.time()).encode(), resent)
        answer = await self._ask("POST", f"{self._path}/events", body, expects=_BAD_CONTENT)
        now = time.monotonic()
        self._reports_from = max(self._reports_from, now + REPORTS_EVERY)
        names = [name for name, _ in taken]
        if answer.status in _BAD_CONTENT:
            self._refused(answer, names, now)
        elif answer.status == _TOO_MANY:
            agent.outbox.defer(names, self._reports_from)
            agent.tally.deferred += len(names)
        elif answer.data.get("accepted") == len(names):
            stated = {name: answer.data.get(name) for name in ("generation", "mark")}
            agent.take_receipt(Receipt.model_validate({"stored": names, **stated}), now)
            self._most = MOST_REPORTS
        else:
            raise DoorError("the manager did not say that it has stored all reports of a request")

    def _refused(self, answer: Answer, names: list[str], now: float) -> None:
        """Find the refused report: named in the answer, or the only one; otherwise halve the request."""
        place = _PLACE.match(answer.sentence)
        bad = names[int(place[1])] if place and int(place[1]) < len(names) else names[0] if len(names) == 1 else None
        if bad is None:
            self._most = max(1, len(names) // 2)
        else:
            self._agent.take_receipt(Receipt(refused=[Refusal(id=bad, reason=answer.sentence)]), now)
        self._agent.outbox.defer([name for name in names if name != bad], now)

    async def _ask(
        self, method: str, path: str, body: bytes | None = None, expects: frozenset[int] = frozenset()
    ) -> Answer:
        """Send a request; return the answer if it means success, retry later, or one of `expects`.

        Raises:
            DoorError: any other answer; an agent that the manager does not know registers again.
        """
        identity = self._agent.identity
        answer = await self._connection.ask(method, path, identity.http_token, body)
        if answer.status in {_OK, _CREATED, _NOT_MODIFIED} or answer.status in expects:
            return answer
        if answer.status == _TOO_MANY:
            pause = max(answer.retry_after, _SHORTEST_PAUSE)
            later = time.monotonic() + pause
            self._reports_from, self._next_heartbeat = later, max(later, self._next_heartbeat)
            self._next_poll = max(later, self._next_poll)
            return answer
        if answer.status in _UNKNOWN_AGENT:
            identity.http_token = ""
        raise DoorError(f"{method} {path} was answered {answer.status}: {answer.sentence}")
