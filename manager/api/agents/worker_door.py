"""HTTP door of an ingest worker: serves heartbeats and events of the agents that it knows, and leaves all others.

The routes, the decoding, the limits and the answers are those of the leader. Where the leader is needed, LeaderNeeded
says so, and the application passes the request on.
"""

import secrets
import time
from collections.abc import Callable
from typing import Protocol

from prometheus_client import CollectorRegistry
from starlette.responses import Response
from starlette.types import Scope

from manager.api.agents.fast_lane import PLAIN_ID, PREFIX, FastLane, FastRequest
from manager.api.agents.hot_routes import hot_routes
from manager.api.authentication import Caller, Credentials, token_digest
from manager.api.http_metrics import RequestMetrics
from manager.api.middleware.admission import Admission, bearer
from manager.api.middleware.client_address import ClientAddresses, Headers
from manager.api.middleware.rate_limits import SlidingWindow
from manager.api.middleware.response_headers import JSON, RequestIds
from manager.api.ports import CommandGateway
from manager.domain.agents.agent import Agent
from manager.domain.budget import Budget
from manager.engine.commands.http_agent_requests import LearnAgent
from manager.errors import LeaderNeeded

HOT_SEGMENTS = frozenset({"heartbeat", "events"})
"""The last path segments of the requests that a worker takes."""

_NO_TOKEN = "no agent's token"  # noqa: S105 -- a reason


class KnownTokens(Protocol):
    """The agents that a worker knows; safe from any thread."""

    def find_by_http_digest(self, digest: bytes) -> Agent | None:
        """Return the agent whose HTTP token has this SHA-256, unless its token may have changed."""
        ...

    def has(self, agent_id: str) -> bool:
        """Return whether an agent is known, and its token has not changed."""
        ...


class WorkerAdmission:
    """Admits the agents that a worker knows.

    Args:
        agents: the known agents.
        takes: returns whether the worker can take a request with this last path segment just now.
        admission: the limits of known agents.
    """

    def __init__(self, agents: KnownTokens, takes: Callable[[str], bool], admission: Admission) -> None:
        self._agents = agents
        self._takes = takes
        self._admission = admission

    def require_taking(self, segment: str) -> None:
        """Raise LeaderNeeded if the worker takes no request with this last path segment just now."""
        if not self._takes(segment):
            raise LeaderNeeded("this process takes nothing just now")

    def admit(
        self,
        path: str,
        client: tuple[str, int] | None,
        headers: Headers,
        signed_in: Caller | None = None,
        *,
        token_digest: bytes | None = None,
    ) -> Caller | None:
        """Return the caller, an agent.

        Raises:
            LeaderNeeded: the worker does not know the agent, or takes nothing just now.
            TooManyRequests: the agent exceeded its limit.
        """
        self.require_taking(path.rpartition("/")[2])
        if token_digest is None:
            raise LeaderNeeded(_NO_TOKEN)
        if self._agents.find_by_http_digest(token_digest) is None:
            raise LeaderNeeded("this agent is not known here", may_be_learned=True)
        return self._admission.admit(path, client, headers, signed_in, token_digest=token_digest)


class WorkerDoor:
    """Serves the hot routes at a worker.

    Args:
        agents: the agents that the worker knows.
        takes: returns whether the worker can take a request with this last path segment just now.
        engine: the worker's engine, as the HTTP server asks it.
        addresses: resolves client addresses.
        rate_limit: requests per minute of one agent, and look-ups of one address for tokens that no agent has; 0 for no
            limits.
        report_budget: reports and bytes a second of one agent.
        sharers: returns the number of processes that serve agents, among which budgets are divided.
        clock: seconds since 1970.
        registry: exposes the metric of the requests.
    """

    def __init__(
        self,
        *,
        agents: KnownTokens,
        takes: Callable[[str], bool],
        engine: CommandGateway,
        addresses: ClientAddresses,
        rate_limit: int,
        report_budget: Budget,
        sharers: Callable[[], int],
        clock: Callable[[], float],
        registry: CollectorRegistry,
    ) -> None:
        self._agents = agents
        self._engine = engine
        self._addresses = addresses
        self._strangers = SlidingWindow(rate_limit)
        credentials = Credentials(secrets.token_hex(32), agents.find_by_http_digest)
        own = Admission(credentials, addresses, rate_limit, report_budget, sharers=sharers)
        self._admission = WorkerAdmission(agents, takes, own)
        self._routes = hot_routes(clock, own.charge_reports)
        self._metrics = RequestMetrics(registry)

    def fast_lane(self, request_ids: RequestIds, pass_on: Callable[[FastRequest, LeaderNeeded], None]) -> FastLane:
        """Return the fast lane for plain requests; `pass_on` passes those on that only the leader can serve."""
        return FastLane(self._routes, self._admission, self._engine, self._metrics, request_ids, pass_on=pass_on)

    async def answer(self, scope: Scope, headers: Headers, body: bytes) -> Response:
        """Return the answer to a request, after the commit.

        Raises:
            LeaderNeeded: only the leader can serve it; nothing of it is stored.
            ManagerError: the request is refused.
        """
        began = time.perf_counter()
        agent_id, segment = _target(scope, headers)
        self._admission.require_taking(segment)
        token = bearer(headers)
        digest = None if token is None else token_digest(token)
        if digest is not None and self._agents.find_by_http_digest(digest) is None and not self._agents.has(agent_id):
            await self._learn(agent_id, digest, scope, headers)
        caller = self._admission.admit(scope["path"], scope["client"], headers, token_digest=digest)
        route = self._routes[segment]
        command = route.prepare(agent_id, caller, headers, body)
        status, content = command.render(await self._engine.submit(command.request))
        self._metrics.observe("POST", route.path, status, time.perf_counter() - began)
        name, value = JSON
        return Response(content, status, {name.decode(): value.decode()})

    async def _learn(self, agent_id: str, digest: bytes, scope: Scope, headers: Headers) -> None:
        """Have an unknown agent looked up, unless its address has just named many whose tokens it does not have.

        A look-up is a statement of the engine's, which is not for strangers; the leader judges their requests.
        """
        key, now = self._addresses.rate_limit_key(self._addresses.address(scope["client"], headers)), time.monotonic()
        if self._strangers.limit and self._strangers.remaining(key, now):
            return
        await self._engine.submit(LearnAgent(agent_id))
        if self._strangers.limit and self._agents.find_by_http_digest(digest) is None:
            self._strangers.wait(key, now)


def _target(scope: Scope, headers: Headers) -> tuple[str, str]:
    """Return the agent and the last path segment of a request for a hot route.

    Raises:
        LeaderNeeded: it is another request, or one of a web page.
    """
    path = scope["path"].encode()
    agent_id, _, segment = path.removeprefix(PREFIX).decode().partition("/")
    is_hot = (
        scope["method"] == "POST" and path.startswith(PREFIX) and segment in HOT_SEGMENTS and path == scope["raw_path"]
    )
    if not is_hot or scope["query_string"] or b"origin" in headers or PLAIN_ID.fullmatch(agent_id.encode()) is None:
        raise LeaderNeeded("no heartbeat or report of an agent")
    return agent_id, segment
