"""Forwarding of requests to the manager that leads: a code for the client's address, and a proxy.

A manager that stands by passes requests on. The leader takes the client's address from a header, with a code by a key
that only managers of the same database have: HMAC-SHA256 over sender, receiver, time and address.
"""

import asyncio
import hmac
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

import httpx2
import structlog
from starlette.types import Message, Receive, Scope, Send

from manager.api.middleware.client_address import Headers
from manager.errors import NotFound

log = structlog.get_logger(__name__)

FORWARDED = b"x-panguard-forwarded"
"""The header with the client's address and its code."""

_VALID = 300.0
"""Seconds by which the clocks of two managers may differ."""

_PARTS = 5
_HOP_BY_HOP = frozenset({
    b"connection", b"expect", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te",
    b"trailer", b"transfer-encoding", b"upgrade", b"date",
})  # fmt: skip
"""Headers of one connection, which are not passed on (RFC 9110, section 7.6.1), and the date, which the server adds."""

_CONNECT_TIMEOUT = 2.0
_ANSWER_TIMEOUT = 120.0
"""Seconds without a byte of an answer; the event stream sends a sign of life every 30."""

_IDLE = 2.0
"""Seconds that an idle connection is kept: less than the leader's 5, which may else close it during a request."""

_CONNECTIONS = 500

_FORMER_LEADER = 6.0
"""Seconds that a former leader has for the answers that it owes; one that hangs would be waited for much longer."""


class ForwardingCodes:
    """Signs and verifies the addresses of clients whose requests are passed on.

    Args:
        key: 32 bytes that the managers of one database share.
        own_id: this manager's id, as sender and as receiver.
        clock: seconds since 1970.
    """

    def __init__(self, key: bytes, own_id: str, clock: Callable[[], float]) -> None:
        self._key = key
        self._own_id = own_id
        self._clock = clock

    def sign(self, leader_id: str, address: str) -> bytes:
        """Return the header for a request of the client at `address` that is passed on to a leader."""
        text = f"{self._own_id} {leader_id} {self._clock():.0f} {address or '-'}".encode()
        return b"%b %b" % (text, self._code(text))

    def address(self, headers: Headers) -> str | None:
        """Return the address of the client of a request that another manager has passed on; None of any other.

        It is empty, which no network covers, where the header proves no address: the client is not the peer then.
        """
        header = headers.get(FORWARDED)
        if header is None:
            return None
        text, _, code = header.rpartition(b" ")
        if not hmac.compare_digest(code, self._code(text)):
            return ""
        parts = text.decode().split(" ")
        if len(parts) != _PARTS - 1 or parts[1] != self._own_id or abs(self._clock() - float(parts[2])) > _VALID:
            return ""
        return "" if parts[3] == "-" else parts[3]

    def _code(self, text: bytes) -> bytes:
        return hmac.digest(self._key, text, "sha256").hex().encode()


class Leader(NamedTuple):
    """The manager that leads: its id, and the URL of its HTTP door."""

    id: str
    url: str


class LeaderUnreachable(Exception):  # noqa: N818 -- named after the cause
    """The leader gave no answer; nothing of one was sent to the client."""


class LeaderProxy:
    """Passes requests on to the leader, with their answers, which may be streams.

    Args:
        codes: signs the clients' addresses.
        tls: verifies the leader's certificate.
    """

    def __init__(self, codes: ForwardingCodes, tls: ssl.SSLContext | None) -> None:
        self._codes = codes
        self._verify = False if tls is None else tls
        self._clients: dict[str, httpx2.AsyncClient] = {}
        """The client of the leader, by its id. A former leader that hangs has the connections of its own one alone."""
        self._former: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Close the connections to the leader, and to former ones."""
        former = list(self._former)
        for task in former:
            task.cancel()
        await asyncio.gather(*former, return_exceptions=True)
        for client in self._clients.values():
            await client.aclose()

    def _client_of(self, leader: Leader) -> httpx2.AsyncClient:
        client = self._clients.get(leader.id)
        if client is None:
            for former in self._clients.values():
                task = asyncio.create_task(_close_later(former), name="former-leader")
                self._former.add(task)
                task.add_done_callback(self._former.discard)
            client = self._new_client()
            self._clients = {leader.id: client}
        return client

    def _new_client(self) -> httpx2.AsyncClient:
        limits = httpx2.Limits(
            max_connections=_CONNECTIONS,
            max_keepalive_connections=_CONNECTIONS,
            keepalive_expiry=_IDLE,
        )
        timeout = httpx2.Timeout(_ANSWER_TIMEOUT, connect=_CONNECT_TIMEOUT, pool=_CONNECT_TIMEOUT)
        return httpx2.AsyncClient(limits=limits, timeout=timeout, verify=self._verify, trust_env=False)

    async def forward(
        self, leader: Leader, scope: Scope, receive: Receive, send: Send, *, address: str, body: bytes
    ) -> int:
        """Pass a request on, and send the client the answer; return its status.

        Args:
            leader: the manager that leads.
            scope: the request.
            receive: ends the answer when the client disconnects.
            send: sends the answer.
            address: the client's address.
            body: the whole body.

        Raises:
            LeaderUnreachable: there is no answer; whether the leader took the request is not known.
            NotFound: the request names no path.
        """
        request = self._request(leader, scope, address, body)
        try:
            response = await self._client_of(leader).send(request, stream=True)
        except httpx2.HTTPError as error:
            log.warning("request_not_forwarded", leader=leader.url, reason=str(error) or type(error).__name__)
            raise LeaderUnreachable from error
        except asyncio.CancelledError as error:  # this door closes, because the manager takes the lead or stops
            raise LeaderUnreachable from error
        watch = asyncio.create_task(_disconnected(receive), name="forwarded-disconnect")
        answer = asyncio.create_task(_send_answer(response, send), name="forwarded-answer")
        try:
            await asyncio.wait({watch, answer}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (watch, answer):
                task.cancel()
            with suppress(asyncio.CancelledError):
                await answer
            await response.aclose()
        return response.status_code

    def _request(self, leader: Leader, scope: Scope, address: str, body: bytes) -> httpx2.Request:
        query = scope["query_string"]
        target = scope["raw_path"] + (b"?%b" % query if query else b"")
        dropped = {*_HOP_BY_HOP, FORWARDED, b"content-length"}
        headers = [header for header in scope["headers"] if header[0] not in dropped]
        headers.append((FORWARDED, self._codes.sign(leader.id, address)))
        if body:
            headers.append((b"content-length", b"%d" % len(body)))
        try:
            url = httpx2.URL(leader.url).copy_with(raw_path=target)
        except httpx2.InvalidURL as error:
            raise NotFound("no path is named so") from error
        return httpx2.Request(scope["method"], url, headers=headers, content=body or None)


async def _close_later(client: httpx2.AsyncClient) -> None:
    """Close the connections to a former leader once it had time to answer."""
    try:
        await asyncio.sleep(_FORMER_LEADER)
    finally:
        await client.aclose()


async def _send_answer(response: httpx2.Response, send: Send) -> None:
    """Send an answer as it arrives; one that breaks off breaks off here too."""
    headers = [(name.lower(), value) for name, value in response.headers.raw if name.lower() not in _HOP_BY_HOP]
    await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
    async for chunk in response.aiter_raw():
        message: Message = {"type": "http.response.body", "body": chunk, "more_body": True}
        await send(message)
    await send({"type": "http.response.body", "body": b""})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
