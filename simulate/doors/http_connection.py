"""One keep-alive HTTP connection to the manager: one request at a time, reconnects when the manager has closed it."""

import asyncio
import ssl
from typing import Any, cast

import httptools
import orjson

from simulate.address import Address
from simulate.doors.door import DoorError

_ANSWER_WITHIN = 15.0
_LARGEST_ANSWER = 4 * 1024 * 1024
_LONGEST_SENTENCE = 300


class Answer:
    """A response: `status`, the seconds of `Retry-After` (0 without), and the body."""

    __slots__ = ("_document", "body", "retry_after", "status")

    def __init__(self, status: int, retry_after: float, body: bytes) -> None:
        self.status = status
        self.retry_after = retry_after
        self.body = body
        self._document: dict[str, Any] | None = None

    @property
    def document(self) -> dict[str, Any]:
        """The body's JSON object; empty for anything else."""
        if self._document is None:
            try:
                found = orjson.loads(self.body)
            except orjson.JSONDecodeError:
                found = None
            self._document = found if isinstance(found, dict) else {}
        return self._document

    @property
    def data(self) -> dict[str, Any]:
        """The envelope's data, if it is an object."""
        data = self.document.get("data")
        return data if isinstance(data, dict) else {}

    @property
    def sentence(self) -> str:
        """The envelope's error, safe to print."""
        text = str(self.document.get("error", f"status {self.status}"))[:_LONGEST_SENTENCE]
        return "".join(char if char.isprintable() else " " for char in text)


class HttpConnection:
    """A connection that several agents may use in turn. Redirects are not followed, proxies are ignored.

    Args:
        address: The manager.
        tls: Verifies the manager's certificate; None for plain text.
    """

    def __init__(self, address: Address, tls: ssl.SSLContext | None) -> None:
        self._address = address
        self._tls = tls
        self._turn = asyncio.Lock()
        self._wire: _Wire | None = None
        host = f"[{address.host}]" if ":" in address.host else address.host
        self._host = f"{host}:{address.port}"

    async def ask(self, method: str, path: str, bearer: str, body: bytes | None = None) -> Answer:
        """Send a request and return its answer.

        Raises:
            OSError: the connection failed.
            TimeoutError: the answer took too long; the connection is closed.
        """
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: {self._host}\r\nAuthorization: Bearer {bearer}\r\n"
            "User-Agent: panguard-simulate\r\nAccept-Encoding: identity\r\n"
        )
        if body is not None:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        raw = head.encode() + b"\r\n" + (body or b"")
        async with self._turn, asyncio.timeout(_ANSWER_WITHIN):
            wire = await self._opened()
            try:
                return await wire.exchange(raw)
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        """Close the connection; the next request opens it again."""
        if self._wire is not None:
            self._wire.abort()
            self._wire = None

    async def _opened(self) -> "_Wire":
        if self._wire is None or not self._wire.is_open:
            address, loop = self._address, asyncio.get_running_loop()
            server_hostname = address.host if self._tls else None
            _, self._wire = await loop.create_connection(
                _Wire, address.host, address.port, ssl=self._tls, server_hostname=server_hostname
            )
        return self._wire


class _Wire(asyncio.Protocol):
    """One TCP connection; the parser calls the methods that begin with `on_`."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._answer: asyncio.Future[Answer] | None = None
        self._body: list[bytes] = []
        self._size = 0
        self._retry_after = 0.0
        self._keeps_alive = True

    @property
    def is_open(self) -> bool:
        """Whether a request may be sent."""
        return self._transport is not None and self._keeps_alive and not self._transport.is_closing()

    async def exchange(self, raw: bytes) -> Answer:
        """Send a request and return its answer."""
        if self._transport is None:
            raise DoorError("the manager ended the connection")
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(raw)
        return await self._answer

    def abort(self) -> None:
        """Close the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own class

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the waiting request."""
        self._transport = None
        self._fail(exc or DoorError("the manager ended the connection"))

    def data_received(self, data: bytes) -> None:
        """Feed the received bytes to the parser."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._fail(DoorError("what answers at the manager's address speaks no HTTP"))
            self.abort()

    def on_message_begin(self) -> None:
        """Reset the state for a new response."""
        self._body, self._size, self._retry_after = [], 0, 0.0

    def on_header(self, name: bytes, value: bytes) -> None:
        """Store the Retry-After header."""
        if name.lower() == b"retry-after" and value.isdigit():
            self._retry_after = float(value)

    def on_body(self, body: bytes) -> None:
        """Store a part of the body."""
        self._size += len(body)
        if self._size > _LARGEST_ANSWER:
            self._fail(DoorError(f"an answer is larger than {_LARGEST_ANSWER} bytes"))
            self.abort()
        self._body.append(body)

    def on_message_complete(self) -> None:
        """Resolve the waiting request with the response."""
        self._keeps_alive = self._parser.should_keep_alive()
        if self._answer is not None and not self._answer.done():
            answer = Answer(self._parser.get_status_code(), self._retry_after, b"".join(self._body))
            self._answer.set_result(answer)

    def _fail(self, error: Exception) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)
