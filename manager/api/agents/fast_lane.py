"""Fast lane for heartbeats and events: passes them from the HTTP parser to the engine without a task or framework.

It serves only plain requests; all others go through the application to the same routes and get the same answer. The
saving is measured in docs/http.md.
"""

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from starlette.types import Scope

from manager.api.agents.hot_routes import HotRoute
from manager.api.agents.known_heads import BODY_LIMIT, KnownHeads
from manager.api.authentication import Caller, token_digest
from manager.api.errors import error_response
from manager.api.http_metrics import RequestMetrics
from manager.api.middleware.admission import bearer
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
from manager.errors import LeaderNeeded

PREFIX = b"/api/agents/"
_EXCLUDED = frozenset({b"origin", b"transfer-encoding", b"expect", b"upgrade", REQUEST_ID})
"""Headers that exclude a request from the fast lane."""

PLAIN_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
"""An agent's id in a path without escapes."""

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


class RequestHead(NamedTuple):
    """The head of a plain request; requests that repeat it share it.

    Attributes:
        lane: Serves its requests.
        route: The route of its path.
        path: Its path.
        agent_id: The agent in its path.
        headers: Its headers.
        token_digest: The SHA-256 of its bearer token; None without one.
    """

    lane: "FastLane"
    route: HotRoute
    path: str
    agent_id: str
    headers: Headers
    token_digest: bytes | None


class _NoEvent:
    """Stands for the event that uvicorn sets when more of a body arrives; no task waits for it."""

    def set(self) -> None:
        """Do nothing."""


_NO_EVENT = _NoEvent()


class FastRequest:
    """One request of the fast lane; replaces uvicorn's request cycle and an asyncio future.

    Args:
        head: its head.
        connection: its connection.
        body: its body, complete; None if it is still to come.
    """

    __slots__ = (
        "began", "body", "connection", "disconnected", "head", "keep_alive", "message_event", "more_body", "render",
        "response_complete", "response_started",
    )  # fmt: skip

    def __init__(self, head: RequestHead, connection: ConnectionHandle, body: bytes | None = None) -> None:
        self.head = head
        self.connection = connection
        self.began = time.perf_counter()
        self.body: bytearray | bytes = bytearray() if body is None else body
        self.more_body = body is None
        self.keep_alive = True
        self.disconnected = self.response_started = self.response_complete = False
        self.message_event = _NO_EVENT
        self.render: Callable[[Any], tuple[int, bytes]] | None = None

    def scope(self) -> Scope:
        """Return the request's scope, as an application gets it."""
        head = self.head
        return {
            "type": "http",
            "http_version": "1.1",
            "method": "POST",
            "scheme": "https" if self.connection.secure else "http",
            "path": head.path,
            "raw_path": head.path.encode(),
            "query_string": b"",
            "headers": list(head.headers.items()),
            "client": self.connection.client,
        }

    def done(self) -> bool:
        """Return whether the engine's reply is no longer wanted."""
        return self.response_complete or self.disconnected

    def set_result(self, value: Any) -> None:
        """Answer with the engine's reply."""
        self.head.lane.reply(self, value)

    def set_exception(self, error: Exception) -> None:
        """Answer with an error."""
        self.head.lane.refuse(self, error)


class Admits(Protocol):
    """Authentication and rate limit of the fast lane."""

    def admit(
        self,
        path: str,
        client: tuple[str, int] | None,
        headers: Headers,
        signed_in: Caller | None = None,
        *,
        token_digest: bytes | None = None,
    ) -> Caller | None:
        """Return the caller, as `Admission.admit` does, or raise an error of the error map, or LeaderNeeded."""
        ...


class FastLane:
    """Serves plain requests to the hot routes.

    Args:
        hot_routes: the routes below ``/api/agents/{agent_id}/``, by their last path segment.
        admission: authentication and rate limit.
        engine: executes commands.
        metrics: records every request.
        request_ids: generates request ids.
        pass_on: passes a request on that only the leader can serve; None in the leader itself.
    """

    def __init__(
        self,
        hot_routes: Mapping[str, HotRoute],
        admission: Admits,
        engine: CommandGateway,
        metrics: RequestMetrics,
        request_ids: RequestIds,
        *,
        pass_on: Callable[["FastRequest", LeaderNeeded], None] | None = None,
    ) -> None:
        self._pass_on = pass_on
        self._hot_routes = {segment.encode(): route for segment, route in hot_routes.items()}
        self._admission = admission
        self._engine = engine
        self._metrics = metrics
        self._request_ids = request_ids
        self._known: KnownHeads[RequestHead] = KnownHeads()
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
        if route is None or PLAIN_ID.fullmatch(agent_id) is None:
            return None
        headers = dict(given)
        length = headers.get(b"content-length", b"")
        if _PLAIN_LENGTH.fullmatch(length) is None or int(length) > BODY_LIMIT or not _EXCLUDED.isdisjoint(headers):
            return None
        name, token = agent_id.decode("ascii"), bearer(headers)
        path = route.path.replace("{agent_id}", name)
        digest = None if token is None else token_digest(token)
        return FastRequest(RequestHead(self, route, path, name, headers, digest), connection)

    def match_known(self, data: bytes, connection: ConnectionHandle) -> FastRequest | None:
        """Return the request that `data` is the whole of, if its head is known from before; else None."""
        found = self._known.find(data)
        return None if found is None else FastRequest(found[0], connection, found[1])

    def keep(self, data: bytes, request: FastRequest) -> None:
        """Keep the head of a request that was the whole of `data`, unless it was refused or passed on at once."""
        if not request.more_body and not request.done() and request.render is not None:
            self._known.keep(data, request.head.agent_id, request.head)

    def serve(self, request: FastRequest) -> None:
        """Submit the command of a complete request; its answer follows the commit."""
        head = request.head
        try:
            caller = self._admission.admit(
                head.path, request.connection.client, head.headers, token_digest=head.token_digest
            )
            command = head.route.prepare(head.agent_id, caller, head.headers, bytes(request.body))
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
        connection = request.connection
        secure = connection.secure
        head = self._heads.get((status, secure))
        if head is None:
            headers = (JSON, *DEFAULT_HEADERS, HSTS) if secure else (JSON, *DEFAULT_HEADERS)
            head = self._heads[status, secure] = render_head(status, headers)
        server_headers = connection.server_headers()
        if server_headers is not self._server_headers:  # another list each second, with the date
            self._server_headers, self._server_lines = server_headers, render_headers(server_headers)
        own = self._server_lines, REQUEST_ID, self._request_ids.new(), len(body), body
        self._send(request, status, head + b"%b%b: %b\r\ncontent-length: %d\r\n\r\n%b" % own)

    def refuse(self, request: FastRequest, error: Exception) -> None:
        """Send the error map's answer to an error; pass on what only the leader can serve."""
        if self._pass_on is not None and isinstance(error, LeaderNeeded):
            self._pass_on(request, error)
            return
        request_id = self._request_ids.new()
        head, connection = request.head, request.connection
        response = error_response(error, method="POST", path=head.path, request_id=request_id.decode())
        secure = (HSTS,) if connection.secure else ()
        own = (*connection.server_headers(), (REQUEST_ID, request_id))
        headers = (*response.raw_headers, *DEFAULT_HEADERS, *secure, *own)
        status = response.status_code
        self._send(request, status, b"%b\r\n%b" % (render_head(status, headers), bytes(response.body)))

    def finish(self, request: FastRequest, status: int, headers: Iterable[Header], body: bytes) -> None:
        """Send an answer that was made elsewhere, unless the client has left."""
        if not request.done():
            own = (*headers, (b"content-length", b"%d" % len(body)), *request.connection.server_headers())
            self._send(request, status, b"%b\r\n%b" % (render_head(status, own), body))

    def _send(self, request: FastRequest, status: int, answer: bytes) -> None:
        request.response_started = request.response_complete = True
        head = request.head
        self._metrics.observe("POST", head.route.path, status, time.perf_counter() - request.began)
        request.connection.write(answer, not request.keep_alive)
