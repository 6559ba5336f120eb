"""One connection's handler alone, at moments that real sockets hit only by chance."""

import asyncio

import pytest
from amqtt.adapters import StreamReaderAdapter

from manager.broker.connection.connection_handler import AbortableWriter, ConnectionHandler
from manager.broker.delivery.client_session import ClientSession
from manager.broker.delivery.message import Message
from manager.broker.limits import BrokerLimits
from tests.integration.broker.broker_clients import packet, text

PINGREQ = b"\xc0\x00"


class StuckWriter(AbortableWriter):
    """A peer that reads nothing: what is written never drains."""

    def __init__(self) -> None:
        self.is_closed = False

    def write(self, data: bytes) -> None:
        """Take it."""

    async def drain(self) -> None:
        """Wait for ever."""
        await asyncio.Event().wait()

    def abort(self) -> None:
        self.is_closed = True


class CuttingRouter:
    """Takes a publication, and cuts its publisher."""

    def __init__(self) -> None:
        self.published: list[bytes] = []
        self.publisher: ConnectionHandler

    def publish(self, _sender: ClientSession, message: Message, *, retain: bool) -> None:
        del retain
        self.published.append(message.payload)
        self.publisher.cut()


class Served:
    """A handler that serves a stream, in the running loop."""

    def __init__(self, sent: bytes) -> None:
        self.stream = asyncio.StreamReader()
        self.stream.feed_data(sent)
        self.session = ClientSession("client", "guest", BrokerLimits())
        self.router = CuttingRouter()
        self.handler = ConnectionHandler(
            plugins=None,
            router=self.router,
            session=self.session,
            reader=StreamReaderAdapter(self.stream),
            writer=StuckWriter(),
            limits=BrokerLimits(),
        )
        self.router.publisher = self.handler
        self._task = asyncio.create_task(self.handler.serve())

    async def settle(self) -> None:
        """Let everything run that can run."""
        for _ in range(20):
            # waits for no time: it lets the other tasks of the loop run once
            await asyncio.sleep(0)

    async def end(self) -> None:
        self._task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await self._task


def test_a_client_that_does_not_read_its_answers_is_not_read_either() -> None:
    """A flood of requests whose answers go nowhere stops being read after a bounded number of answers."""

    async def flood() -> tuple[int, int]:
        served = Served(PINGREQ * 200_000)
        await served.settle()
        left, waiting = len(served.stream._buffer), len(served.handler._answers)
        await served.end()
        return left, waiting

    left, waiting = asyncio.run(flood())
    assert left > 0
    assert waiting <= 64 * 1024 + 2


def test_a_connection_that_was_cut_takes_nothing_more_from_the_outbox() -> None:
    """A message queued for a connection that is closed at the same moment stays for the session's next one."""

    async def cut_while_sending() -> int:
        served = Served(b"")
        await served.settle()
        served.session.queue.put(Message("open/a", b"keep me", 1), 1)
        served.handler.wake()
        served.handler.cut()
        await served.settle()
        await served.end()
        return served.session.queue.in_flight

    assert asyncio.run(cut_while_sending()) == 0


def test_a_connection_that_was_cut_is_not_heard_any_more() -> None:
    """Packets that were received before the cut and not handled yet are not handled after it."""
    first, second = (packet(0x30, text("open/a") + payload) for payload in (b"first", b"second"))

    async def cut_while_handling() -> list[bytes]:
        served = Served(first + second)
        await served.settle()
        return served.router.published

    async def cut_while_waiting() -> list[bytes]:
        served = Served(b"")
        await served.settle()
        served.stream.feed_data(first)
        served.handler.cut()
        await served.settle()
        return served.router.published

    assert asyncio.run(cut_while_handling()) == [b"first"]
    assert asyncio.run(cut_while_waiting()) == []
