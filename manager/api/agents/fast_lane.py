"""Fast lane for heartbeats and events: passes them from the HTTP parser to the engine without a task or framework.

It serves only plain requests; all others go through the application to the same routes and get the same answer. The
saving is measured in docs/http.md.
"""

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from manager.api.agents.hot_routes import HotRoute
from manager.api.errors import error_response
from manager.api.http_metrics import RequestMetrics
from manager.api.middleware.admission import Admission
from manager.api.middleware.client_address import Headers
from manager.api.middleware.response_headers import (
    DEFAULT_HEADERS,
    HSTS,
    JSON,
    REQUEST_ID,
    Header,
    RequestIds,
    render_head,
    render_headers,
)
from manager.api.ports import CommandGateway

PREFIX = b"/api/agents/"
BODY_LIMIT = 32 * 1024
"""The maximum body size in the fast lane, in bytes; the application serves requests with larger bodies."""

_EXCLUDED = frozenset({b"origin", b"transfer-encoding", b"expect", b"upgrade", REQUEST_ID})
"""Headers that exclude a request from the fast lane."""

_PLAIN_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_PLAIN_LENGTH = re.compile(rb"[0-9]{1,5}")


class ConnectionHandle(NamedTuple):
    """The part of a client's connection that the fast lane needs.

    Attributes:
        client: The peer's address and port.
        secure: Whether it uses TLS.
        write: Sends a complete answer, and closes the connection if the second argument is true.
        server_headers: Returns the headers that the server adds to every answer, such as the date; the same list until
            one of them changes.
    """

    client: tuple[str, int] | None
    secure: bool
    write: Callable[[bytes, bool], None]
    server_headers: Callable[[], Sequence[Header]]


class FastRequest:
    """One request of the fast lane; replaces uvicorn's request cycle and an asyncio future.

    Args:
        lane: serves it.
        route: the route of its path.
        agent_id: the agent in its path.
        headers: its headers.
        connection: the connection of the request.
    """

    __slots__ = (
        "agent_id", "began", "body", "connection", "disconnected", "headers", "keep_alive", "lane", "message_event",
        "more_body", "render", "response_complete", "response_started", "route",
    )  # fmt: skip

    def __init__(
        self, lane: "FastLane", route: HotRoute, agent_id: str, headers: Headers, connection: ConnectionHandle
    ) -> None:
        self.lane = lane
        self.route = route
        self.agent_id = agent_id
        self.headers = headers
        self.connection = connection
        self.began = time.perf_counter()
        self.body: bytearray | bytes = bytearray()
        self.more_body = self.keep_alive = True
        self.disconnected = self.response_started = self.response_complete = False
        self.message_event = self
        self.render: Callable[[Any], tuple[int, bytes]] | None = None

    def again(self, body: bytes) -> "FastRequest":
        """Return another request with the same head, complete with its body."""
        request = FastRequest(self.lane, self.route, self.agent_id, self.headers, self.connection)
        request.body, request.more_body = body, False
        return request

    @property
    def path(self) -> str:
        """The request's path."""
        return self.route.path.replace("{agent_id}", self.agent_id)

    def set(self) -> None:
        """Do nothing: no task waits for more of the body."""

    def done(self) -> bool:
        """Return whether the engine's reply is no longer wanted."""
        return self.response_complete or self.disconnected

    def set_result(self, value: Any) -> None:
        """Answer with the engine's reply."""
        self.lane.reply(self, value)

    def set_exception(self, error: Exception) -> None:
        """Answer with an error."""
        self.lane.refuse(self, error)


class FastLane:
    """Serves plain requests to the hot routes.

    Args:
        hot_routes: the routes below ``/api/agents/{agent_id}/``, by their last path segment.
        admission: authentication and rate limit.
        engine: executes commands.
        metrics: records every request.
        request_ids: generates request ids.
    """

    def __init__(
        self,
        hot_routes: Mapping[str, HotRoute],
        admission: Admission,
        engine: CommandGateway,
        metrics: RequestMetrics,
        request_ids: RequestIds,
    ) -> None:
        self._hot_routes = {segment.encode(): route for segment, route in hot_routes.items()}
        self._admission = admission
        self._engine = engine
        self._metrics = metrics
        self._request_ids = request_ids
        self._heads: dict[tuple[int, bool], bytes] = {}
        self._server_headers: Sequence[Header] = ()
        self._server_lines = b""

    def match(
        self, url: bytes, given: Iterable[tuple[bytes, bytes]], connection: ConnectionHandle
    ) -> FastRequest | None:
        """Return the request of a POST to `url` with the headers `given`; None if it is not plain."""
        if not url.startswith(PREFIX):
            return None
        agent_id, _, segment = url[len(PREFIX) :].partition(b"/")
        route = self._hot_routes.get(segment)
        if route is None or _PLAIN_ID.fullmatch(agent_id) is None:
            return None
        headers = dict(given)
        length = headers.get(b"content-length", b"")
        if _PLAIN_LENGTH.fullmatch(length) is None or int(length) > BODY_LIMIT or not _EXCLUDED.isdisjoint(headers):
            return None
        return FastRequest(self, route, agent_id.decode("ascii"), headers, connection)

    def serve(self, request: FastRequest) -> None:
        """Submit the command of a complete request; its answer follows the commit."""
        try:
            caller = self._admission.admit(request.path, request.connection.client, request.headers)
            command = request.route.prepare(request.agent_id, caller, request.headers, bytes(request.body))
            request.render = command.render
            self._engine.submit_nowait(command.request, request)
        except Exception as error:  # noqa: BLE001 -- the last error handler: every error is answered
            self.refuse(request, error)

    def reply(self, request: FastRequest, value: Any) -> None:
        """Render the engine's reply and send it."""
        render = request.render
        if render is None:
            raise RuntimeError("the engine replied to a request that was not submitted")
        try:
            status, body = render(value)
        except Exception as error:  # noqa: BLE001 -- the last error handler: every error is answered
            self.refuse(request, error)
            return
        secure = request.connection.secure
        head = self._heads.get((status, secure))
        if head is None:
            headers = (JSON, *DEFAULT_HEADERS, HSTS) if secure else (JSON, *DEFAULT_HEADERS)
            head = self._heads[status, secure] = render_head(status, headers)
        server_headers = request.connection.server_headers()
        if server_headers is not self._server_headers:  # another list each second, with the date
            self._server_headers, self._server_lines = server_headers, render_headers(server_headers)
        own = self._server_lines, REQUEST_ID, self._request_ids.new(), len(body), body
        self._send(request, status, head + b"%b%b: %b\r\ncontent-length: %d\r\n\r\n%b" % own)

    def refuse(self, request: FastRequest, error: Exception) -> None:
        """Send the error map's answer to an error."""
        request_id = self._request_ids.new()
        response = error_response(error, method="POST", path=request.path, request_id=request_id.decode())
        secure = (HSTS,) if request.connection.secure else ()
        own = (*request.connection.server_headers(), (REQUEST_ID, request_id))
        headers = (*response.raw_headers, *DEFAULT_HEADERS, *secure, *own)
        status = response.status_code
        self._send(request, status, b"%b\r\n%b" % (render_head(status, headers), bytes(response.body)))

    def _send(self, request: FastRequest, status: int, answer: bytes) -> None:
        request.response_started = request.response_complete = True
        self._metrics.observe("POST", request.route.path, status, time.perf_counter() - request.began)
        request.connection.write(answer, not request.keep_alive)
