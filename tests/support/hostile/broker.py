"""A malicious MQTT 3.1.1 broker: honest in its protocol, and free to do with every message whatever a test says.

It lets in everybody, keeps sessions, wills and retained messages, and speaks QoS 0 and 1. It confirms all that it is
given, whether it passes that on or not: a PUBACK proves nothing.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from types import TracebackType
from typing import Self, TypeVar

from manager.mqtt_packets import TYPE_MASK, find_packet, read_publish
from tests.support.hostile import packets
from tests.support.hostile.packets import Message
from tests.support.hostile.sessions import Session, matches

T = TypeVar("T")

Tampering = Callable[[Message], Iterable[Message]]
"""What becomes of a message on its way through the broker: nothing, itself, or any others."""

_PATIENCE = 120.0


def honest(message: Message) -> Iterable[Message]:
    """Pass it on as it is."""
    return (message,)


class HostileBroker:
    """A context manager around one broker on a free loopback port, in a thread of its own.

    `heard` is all that clients ever published, wills too, in order: what the broker can choose from. `wills` are the
    newest ones, by the client's id, which the broker knows before their time.
    """

    def __init__(self) -> None:
        self.heard: list[Message] = []
        self.wills: dict[str, Message] = {}
        self._tampering: Tampering = honest
        self._retained: dict[str, Message] = {}
        self._sessions: dict[str, Session] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="hostile-broker")
        self._server: asyncio.Server | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """Where it is, as settings name it."""
        return f"mqtt://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        """Listen."""
        self._thread.start()
        opening = self._loop.create_server(lambda: _Connection(self), "127.0.0.1", 0)
        self._server = asyncio.run_coroutine_threadsafe(opening, self._loop).result(_PATIENCE)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Hang up on everybody."""
        asyncio.run_coroutine_threadsafe(self._shut_down(), self._loop).result(_PATIENCE)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_PATIENCE)
        self._loop.close()

    # What a test does; from any thread.

    @contextlib.contextmanager
    def tampering(self, tampering: Tampering) -> Iterator[None]:
        """Treat all messages so, within the block."""
        self._do(self._set_tampering, tampering)
        try:
            yield
        finally:
            self._do(self._set_tampering, honest)

    def publish(self, *messages: Message, to: str = "") -> None:
        """Publish in this order; nobody can tell that from a client's messages.

        Args:
            messages: What.
            to: Whom to tell, by the beginning of the client's id; everybody if it is empty.
        """
        self._do(lambda: [self._pass_on(message, to) for message in messages])

    def retained(self, topic: str) -> bytes | None:
        """Return what is retained on a topic."""
        found = self._retained.get(topic)
        return None if found is None else found.payload

    def forget_retained(self, topic: str) -> None:
        """Keep nothing of a topic, and tell nobody."""
        self._do(self._retained.pop, topic, None)

    def hang_up(self, client: str) -> int:
        """End the connections of the clients whose id begins so, without a word; return how many there were."""
        return self._do(self._hang_up, client)

    # What clients do; in the broker's thread.

    def connected(self, hello: packets.Hello, transport: asyncio.Transport) -> Session:
        """Take a client, in place of an older connection of the same id."""
        known = self._sessions.get(hello.client_id)
        if known is not None and known.transport is not None:
            known.transport.abort()
        present = known is not None and not known.clean and not hello.clean
        session = known if known is not None and present else Session(hello.clean)
        session.transport = transport
        if hello.will is not None:
            self.wills[hello.client_id] = hello.will
        self._sessions[hello.client_id] = session
        transport.write(packets.hello_taken(session_present=present))
        session.resume()
        return session

    def subscribed(self, session: Session, filters: list[tuple[str, int]]) -> None:
        """Send what is retained."""
        session.filters.update(filters)
        for message in list(self._retained.values()):
            granted = max((qos for pattern, qos in filters if matches(pattern, message.topic)), default=None)
            if granted is not None:
                session.deliver(message, granted)

    def take(self, message: Message) -> None:
        """Do with a message what the tampering says."""
        self.heard.append(message)
        for each in self._tampering(message):
            self._pass_on(each)

    def _pass_on(self, message: Message, to: str = "") -> None:
        if message.retained:
            self._retained[message.topic] = message
            if not message.payload:
                del self._retained[message.topic]
        for client_id, session in list(self._sessions.items()):
            granted = session.granted(message.topic)
            if granted is not None and client_id.startswith(to):
                session.deliver(message._replace(retained=False), granted)

    def _set_tampering(self, tampering: Tampering) -> None:
        self._tampering = tampering

    def _hang_up(self, client: str) -> int:
        found = [
            session.transport
            for client_id, session in self._sessions.items()
            if client_id.startswith(client) and session.transport is not None
        ]
        for transport in found:
            transport.abort()
        return len(found)

    def _do(self, work: Callable[..., T], *args: object) -> T:
        done: Future[T] = Future()

        def run() -> None:
            try:
                done.set_result(work(*args))
            except Exception as error:  # noqa: BLE001 -- whoever waits gets it
                done.set_exception(error)

        self._loop.call_soon_threadsafe(run)
        return done.result(_PATIENCE)

    async def _shut_down(self) -> None:
        self._tampering = honest
        if self._server is not None:
            self._server.close()
        self._hang_up("")
        # waits for no time: the connections learn of their end in the loop's next turn
        await asyncio.sleep(0)


class _Connection(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, broker: HostileBroker) -> None:
        self._broker = broker
        self._buffer = b""
        self._will: Message | None = None
        self._session: Session | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        at = 0
        while found := find_packet(self._buffer, at):
            body, end = found
            self._handle(self._buffer[at], body, end)
            at = end
        self._buffer = self._buffer[at:]

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if self._session is not None and self._session.transport is self._transport:
            self._session.transport = None
        if self._will is not None:
            self._broker.take(self._will)

    def _handle(self, first: int, start: int, end: int) -> None:
        assert self._transport is not None
        body, write = self._buffer[start:end], self._transport.write
        match first & TYPE_MASK:
            case packets.CONNECT:
                hello = packets.read_hello(body)
                self._will = hello.will
                self._session = self._broker.connected(hello, self._transport)
            case packets.PUBLISH:
                topic, payload, mid = read_publish(self._buffer, first, start, end)
                if mid:
                    write(packets.published(mid))
                self._broker.take(Message(topic.decode(), payload, 1 if mid else 0, bool(first & 1)))
            case packets.PUBACK if self._session is not None:
                self._session.unacknowledged.pop(int.from_bytes(body), None)
            case packets.SUBSCRIBE if self._session is not None:
                filters = list(packets.read_filters(body, with_qos=True))
                write(packets.subscribed(int.from_bytes(body[:2]), [qos for _, qos in filters]))
                self._broker.subscribed(self._session, filters)
            case packets.UNSUBSCRIBE if self._session is not None:
                for pattern, _ in packets.read_filters(body, with_qos=False):
                    self._session.filters.pop(pattern, None)
                write(packets.unsubscribed(int.from_bytes(body[:2])))
            case packets.PINGREQ:
                write(packets.PINGRESP)
            case packets.DISCONNECT:
                self._will = None
                self._transport.close()
