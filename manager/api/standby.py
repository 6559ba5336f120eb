"""The HTTP application of a manager that stands by: health, metrics, and everything else passed on to the leader."""

from collections.abc import Callable
from dataclasses import dataclass

import structlog
from prometheus_client import CollectorRegistry
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from manager.api.authentication import Credentials
from manager.api.envelope import fail, ok
from manager.api.errors import Unauthorized, error_response
from manager.api.forwarding import FORWARDED, Leader, LeaderProxy, LeaderUnreachable
from manager.api.http_metrics import CONTENT_TYPE, expose
from manager.api.middleware.admission import bearer
from manager.api.middleware.client_address import ClientAddresses, Headers
from manager.api.middleware.outermost_middleware import refuse_large_body, whole_body
from manager.api.middleware.response_headers import DEFAULT_HEADERS, HSTS, REQUEST_ID, RequestIds
from manager.api.ports import Record
from manager.domain.access import Role
from schemas.limits import BODY_LIMIT

log = structlog.get_logger(__name__)

RETRY = {"Retry-After": "2"}
NO_LEADER = "no manager leads just now: another takes the lead within seconds; try again"
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


class StandbyApp:
    """The ASGI application of a manager that stands by.

    Args:
        services: its dependencies.
    """

    fast_lane = None
    """The server serves no request by itself."""

    def __init__(self, services: StandbyServices) -> None:
        self._services = services
        self._request_ids = RequestIds()
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

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers: Headers = dict(scope["headers"])
        request_id = self._request_ids.of(headers)
        try:
            answer = await self._answer(scope, headers, receive, send)
        except ClientDisconnect:
            return
        except Exception as error:  # noqa: BLE001 -- the last error handler: every error is answered
            answer = error_response(error, method=scope["method"], path=scope["path"], request_id=request_id.decode())
        if answer is not None:
            secure = (HSTS,) if scope["scheme"] == "https" else ()
            present = {name for name, _ in answer.raw_headers}
            own = (*DEFAULT_HEADERS, *secure, (REQUEST_ID, request_id))
            answer.raw_headers.extend(header for header in own if header[0] not in present)
            await answer(scope, receive, send)

    async def _answer(self, scope: Scope, headers: Headers, receive: Receive, send: Send) -> Response | None:
        """Return this manager's own answer; None after the leader's was sent."""
        if scope["path"] in _OWN_PATHS:
            return await self._own(scope, headers)
        services = self._services
        refuse_large_body(headers, BODY_LIMIT)
        body = await whole_body(receive, BODY_LIMIT)
        leader = services.leader()
        if (
            leader is None or self._proxy is None or FORWARDED in headers
        ):  # one that was passed on here is not passed on again
            return fail(503, NO_LEADER, RETRY)
        address = services.addresses.address(scope["client"], headers)
        try:
            await self._proxy.forward(leader, scope, receive, send, address=address, body=body)
        except LeaderUnreachable:
            return fail(503, _UNREACHABLE, RETRY)
        return None

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
