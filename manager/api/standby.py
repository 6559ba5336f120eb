"""The HTTP application of a process that does not lead: health, metrics, and everything else passed on to the leader.

An ingest worker's serves the hot routes of agents, too.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

import structlog
from prometheus_client import CollectorRegistry
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from manager.api.agents.fast_lane import FastRequest
from manager.api.agents.worker_door import WorkerDoor
from manager.api.authentication import Credentials
from manager.api.envelope import fail, ok
from manager.api.errors import Unauthorized, closing_answer, error_response
from manager.api.forwarding import FORWARDED, Leader, LeaderProxy, LeaderUnreachable
from manager.api.http_metrics import CONTENT_TYPE, expose
from manager.api.middleware.admission import bearer
from manager.api.middleware.client_address import ClientAddresses, Headers
from manager.api.middleware.outermost_middleware import refuse_large_body, whole_body
from manager.api.middleware.response_headers import DEFAULT_HEADERS, HSTS, REQUEST_ID, Header, RequestIds
from manager.api.ports import Record
from manager.domain.access import Role
from manager.errors import LeaderNeeded
from schemas.limits import BODY_LIMIT

log = structlog.get_logger(__name__)

RETRY = {"Retry-After": "2"}
NO_LEADER = "no manager leads just now: another takes the lead within seconds; try again"
NO_STANDBY = "no manager leads just now, and none is heard of that stands by: start one if none runs, and try again"
_UNREACHABLE = (
    "the manager that leads does not answer; whether it took this request is not known: look before you ask again"
)
_OWN_PATHS = frozenset({"/health", "/health/live", "/health/ready", "/metrics"})


@dataclass(frozen=True, slots=True)
class StandbyServices:
    """The dependencies of the application.

    Args:
        leader: returns the manager that leads; None while none is known.
        group: returns the role and the managers of the database, as `/health` shows them.
        not_ready: returns the reason why the manager cannot serve; None if it can.
        credentials: returns the tokens that are known now; called in a thread, because it may read the database.
        addresses: resolves client addresses.
        proxy: makes the proxy that passes requests on, in the event loop.
        registry: the metrics of this process.
        version: the manager's release.
        uptime: returns the seconds since the start.
        door: serves agents at an ingest worker; None at a manager that stands by.
    """

    leader: Callable[[], Leader | None]
    group: Callable[[], Record]
    not_ready: Callable[[], str | None]
    credentials: Callable[[], Credentials]
    addresses: ClientAddresses
    proxy: Callable[[], LeaderProxy]
    registry: CollectorRegistry
    version: str
    uptime: Callable[[], float]
    door: WorkerDoor | None = None


class StandbyApp:
    """The ASGI application of a process that does not lead.

    Args:
        services: its dependencies.
    """

    def __init__(self, services: StandbyServices) -> None:
        self._services = services
        self._request_ids = RequestIds()
        door = services.door
        self.fast_lane = None if door is None else door.fast_lane(self._request_ids, self._pass_on)
        """Serves plain requests of agents before the application; the server reads this attribute."""
        self._passed_on: set[asyncio.Task[None]] = set()
        self._proxy: LeaderProxy | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the lifespan."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await self._serve(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        self._proxy = self._services.proxy()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._proxy.close()
        await send({"type": "lifespan.shutdown.complete"})

    def _pass_on(self, request: FastRequest, needed: LeaderNeeded) -> None:
        """Serve a request that the fast lane cannot, in a task."""
        task = asyncio.get_running_loop().create_task(self._serve_fast(request, needed), name="passed-on")
        self._passed_on.add(task)
        task.add_done_callback(self._passed_on.discard)

    async def _serve_fast(self, request: FastRequest, needed: LeaderNeeded) -> None:
        answer = WholeAnswer()
        await self._serve(request.scope(), _received(bytes(request.body)), answer.send, needed)
        request.head.lane.finish(request, answer.status, answer.headers, answer.body)

    async def _serve(self, scope: Scope, receive: Receive, send: Send, needed: LeaderNeeded | None = None) -> None:
        headers: Headers = dict(scope["headers"])
        request_id = self._request_ids.of(headers)
        started = False

        async def send_and_note(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            answer = await self._answer(scope, headers, receive, send_and_note, needed)
        except ClientDisconnect:
            return
        except asyncio.CancelledError:
            if started:
                raise
            answer = closing_answer()
        except Exception as error:  # noqa: BLE001 -- the last error handler: every error is answered
            answer = error_response(error, method=scope["method"], path=scope["path"], request_id=request_id.decode())
        if answer is not None:
            secure = (HSTS,) if scope["scheme"] == "https" else ()
            present = {name for name, _ in answer.raw_headers}
            own = (*DEFAULT_HEADERS, *secure, (REQUEST_ID, request_id))
            answer.raw_headers.extend(header for header in own if header[0] not in present)
            await answer(scope, receive, send)

    async def _answer(
        self, scope: Scope, headers: Headers, receive: Receive, send: Send, needed: LeaderNeeded | None
    ) -> Response | None:
        """Return this process's own answer; None after the leader's was sent."""
        if scope["path"] in _OWN_PATHS:
            return await self._own(scope, headers)
        services = self._services
        refuse_large_body(headers, BODY_LIMIT)
        body = await whole_body(receive, BODY_LIMIT)
        if services.door is not None and (needed is None or needed.may_be_learned):
            try:
                return await services.door.answer(scope, headers, body)
            except LeaderNeeded as error:
                needed = error
        leader = services.leader()
        if (
            leader is None or self._proxy is None or FORWARDED in headers
        ):  # one that was passed on here is not passed on again
            return fail(503, NO_LEADER if leader is not None or self._has_standby() else NO_STANDBY, RETRY)
        address = services.addresses.address(scope["client"], headers)
        try:
            status = await self._proxy.forward(leader, scope, receive, send, address=address, body=body)
        except LeaderUnreachable:
            return fail(503, _UNREACHABLE, RETRY)
        if needed is not None and needed.served is not None and status == HTTPStatus.OK:
            needed.served()
        return None

    def _has_standby(self) -> bool:
        """Return whether a manager is heard of that takes the lead, or this one does or has; a worker never does."""
        group = self._services.group()
        return group["role"] != "ingest" or any(member["role"] == "standby" for member in group["managers"])

    async def _own(self, scope: Scope, headers: Headers) -> Response:
        services, path = self._services, scope["path"]
        if scope["method"] not in {"GET", "HEAD"}:
            return fail(405, "this path does not know that method", {"Allow": "GET, HEAD"})
        if path == "/metrics":
            return await self._metrics(headers)
        reason = services.not_ready()
        if path == "/health/live":
            return ok({"live": True})
        if path == "/health/ready":
            return ok({"ready": True}) if reason is None else fail(503, reason, RETRY)
        data = {
            "status": "healthy" if reason is None else "degraded",
            "running": True,
            "uptime": round(services.uptime(), 3),
            "version": services.version,
            **services.group(),
        }
        return ok(data, **data)

    async def _metrics(self, headers: Headers) -> Response:
        token = bearer(headers)
        credentials = None if token is None else await run_in_threadpool(self._services.credentials)
        caller = None if token is None or credentials is None else credentials.identify(token)
        if caller is None or not caller.has(Role.METRICS) or caller.organizations is not None:
            raise Unauthorized
        return Response(expose(self._services.registry), media_type=CONTENT_TYPE)


class WholeAnswer:
    """Keeps an answer of the application."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: list[Header] = []
        self.body = b""

    async def send(self, message: Message) -> None:
        """Take a part of the answer; another beginning replaces what there is."""
        if message["type"] == "http.response.start":
            given = message.get("headers", ())
            self.status, self.body = message["status"], b""
            self.headers = [(name, value) for name, value in given if name.lower() != b"content-length"]
        else:
            self.body += message.get("body", b"")


def _received(body: bytes) -> Receive:
    """Return what receives a request with this body, of a client that does not leave."""
    parts: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if not parts:
            await asyncio.Event().wait()
        return parts.pop()

    return receive
