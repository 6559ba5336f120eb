"""The way of what agents send all day: from the parser straight to the engine and back, with no task between.

A request takes it that is plain in every respect; any other goes through the application, to the same routes and the
same answer. What it saves is in docs/http.md.
"""

import re
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from manager.api.agents.hot_routes import HotRoute
from manager.api.errors import refusal
from manager.api.metrics import Traffic
from manager.api.middleware.gate import Gate
from manager.api.middleware.peers import Headers
from manager.api.middleware.responses import (
    EVERY_ANSWER,
    JSON,
    OVER_TLS,
    REQUEST_ID,
    Header,
    RequestIds,
    head_of,
    lines_of,
)
from manager.api.ports import Door

PREFIX = b"/api/agents/"
BODY_LIMIT = 32 * 1024
"""Bytes of the bodies that are taken here: larger ones come in pieces, which the application waits for."""

_UNUSUAL = frozenset({b"origin", b"transfer-encoding", b"expect", b"upgrade", REQUEST_ID})
"""Headers that ask for more than an answer; a request with one of them is not plain."""

_PLAIN_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_PLAIN_LENGTH = re.compile(rb"[0-9]{1,5}")


class Wire(NamedTuple):
    """One client's connection.

    Attributes:
        client: The peer's address and port.
        secure: Whether it speaks TLS.
        write: Sends an answer whole, and ends the connection where the second argument says so.
        standing: Returns the headers that the server itself puts into every answer of this moment: its date.
    """

    client: tuple[str, int] | None
    secure: bool
    write: Callable[[bytes, bool], None]
    standing: Callable[[], Iterable[Header]]


class Exchange:
    """One request and its answer; it stands where the server keeps a request that is under way.

    Args:
        lane: who serves it.
        route: the route that it is for.
        agent_id: the agent that its path names.
        headers: its headers.
        wire: where it came from.
    """

    __slots__ = (
        "agent_id", "answer", "began", "body", "disconnected", "headers", "keep_alive", "lane", "message_event",
        "more_body", "response_complete", "response_started", "route", "wire",
    )  # fmt: skip

    def __init__(self, lane: "FastLane", route: HotRoute, agent_id: str, headers: Headers, wire: Wire) -> None:
        self.lane = lane
        self.route = route
        self.agent_id = agent_id
        self.headers = headers
        self.wire = wire
        self.began = time.perf_counter()
        self.body = bytearray()
        self.more_body = self.keep_alive = True
        self.disconnected = self.response_started = self.response_complete = False
        self.message_event = self
        self.answer: Callable[[Any], tuple[int, bytes]] | None = None

    def set(self) -> None:
        """Nobody waits for more of this request: it is served once it is whole."""

    def done(self) -> bool:
        """Return whether nobody waits for the engine's word any more."""
        return self.response_complete or self.disconnected

    def set_result(self, value: Any) -> None:
        """Send what the engine answered."""
        self.lane.answered(self, value)

    def set_exception(self, error: Exception) -> None:
        """Send what it refused the request with."""
        self.lane.refused(self, error)


class FastLane:
    """Serves plain requests to the routes that are asked most.

    Args:
        hot: the routes below ``/api/agents/{agent_id}/``, by their last word.
        gate: who asks, and how often.
        door: the way to the engine.
        traffic: is told of every request.
        ids: names requests.
    """

    def __init__(self, hot: Mapping[str, HotRoute], gate: Gate, door: Door, traffic: Traffic, ids: RequestIds) -> None:
        self._hot = {word.encode(): route for word, route in hot.items()}
        self._gate = gate
        self._door = door
        self._traffic = traffic
        self._ids = ids
        self._heads: dict[tuple[int, bool], bytes] = {}

    def exchange(self, url: bytes, given: Iterable[tuple[bytes, bytes]], wire: Wire) -> Exchange | None:
        """Return an exchange for a POST to `url` with the headers `given`; None if it is not plain."""
        if not url.startswith(PREFIX):
            return None
        agent_id, _, word = url[len(PREFIX) :].partition(b"/")
        route = self._hot.get(word)
        if route is None or _PLAIN_ID.fullmatch(agent_id) is None:
            return None
        headers = dict(given)
        length = headers.get(b"content-length", b"")
        if _PLAIN_LENGTH.fullmatch(length) is None or int(length) > BODY_LIMIT or not _UNUSUAL.isdisjoint(headers):
            return None
        return Exchange(self, route, agent_id.decode("ascii"), headers, wire)

    def serve(self, exchange: Exchange) -> None:
        """Take a request that is whole; its answer follows when the engine has committed."""
        try:
            caller = self._gate.admit(_path(exchange), exchange.wire.client, exchange.headers)
            question = exchange.route.ask(exchange.agent_id, caller, exchange.headers, bytes(exchange.body))
            exchange.answer = question.answer
            self._door.ask(question.command, exchange)
        except Exception as error:  # noqa: BLE001 -- the last catch: all of them are answered
            self.refused(exchange, error)

    def answered(self, exchange: Exchange, value: Any) -> None:
        """Send the answer that a value of the engine makes."""
        answer = exchange.answer
        if answer is None:
            raise RuntimeError("the engine answered what it was not asked")
        try:
            status, body = answer(value)
        except Exception as error:  # noqa: BLE001 -- the last catch: all of them are answered
            self.refused(exchange, error)
            return
        secure = exchange.wire.secure
        head = self._heads.get((status, secure))
        if head is None:
            headers = (JSON, *EVERY_ANSWER, OVER_TLS) if secure else (JSON, *EVERY_ANSWER)
            head = self._heads[status, secure] = head_of(status, headers)
        own = (*exchange.wire.standing(), (REQUEST_ID, self._ids.new()), (b"content-length", b"%d" % len(body)))
        self._send(exchange, status, b"%b%b\r\n%b" % (head, lines_of(own), body))

    def refused(self, exchange: Exchange, error: Exception) -> None:
        """Send what the error map has for an error."""
        request_id = self._ids.new()
        response = refusal(error, method="POST", path=_path(exchange), request_id=request_id.decode())
        secure = (OVER_TLS,) if exchange.wire.secure else ()
        own = (*exchange.wire.standing(), (REQUEST_ID, request_id))
        headers = (*response.raw_headers, *EVERY_ANSWER, *secure, *own)
        status = response.status_code
        self._send(exchange, status, b"%b\r\n%b" % (head_of(status, headers), bytes(response.body)))

    def _send(self, exchange: Exchange, status: int, answer: bytes) -> None:
        exchange.response_started = exchange.response_complete = True
        self._traffic.record("POST", exchange.route.template, status, time.perf_counter() - exchange.began)
        exchange.wire.write(answer, not exchange.keep_alive)


def _path(exchange: Exchange) -> str:
    return exchange.route.template.replace("{agent_id}", exchange.agent_id)
