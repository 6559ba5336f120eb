"""One connection: reads packets, answers them, sends what the session's outbox holds, and watches the keep-alive."""

import asyncio
import contextlib

import structlog
from amqtt.adapters import ReaderAdapter, StreamWriterAdapter
from amqtt.broker import BrokerContext
from amqtt.mqtt.packet import (
    DISCONNECT,
    PINGREQ,
    PUBACK,
    PUBLISH,
    PUBREL,
    SUBSCRIBE,
    UNSUBSCRIBE,
)
from amqtt.mqtt.protocol.broker_handler import BrokerProtocolHandler
from amqtt.mqtt.suback import SubackPacket
from amqtt.mqtt.subscribe import SubscribePacket
from amqtt.mqtt.unsubscribe import UnsubscribePacket
from amqtt.plugins.manager import PluginManager

from manager.broker.limits import BrokerLimits
from manager.broker.packets import (
    ConnectionLostError,
    Packet,
    PacketError,
    read_packet,
    read_packet_id,
    read_publish,
    read_with_amqtt,
)
from manager.broker.routing import REFUSED, Exchange
from manager.broker.session import ClientSession
from manager.domain.budget import TokenBucket

_CHUNK = 64 * 1024
_ANSWERS = 64 * 1024
_KEEP_ALIVE_FACTOR = 1.5
_ASLEEP = 1.0
_HIGHEST_QOS = 2
_REQUEST_FLAGS = 0x02
_PINGRESP = b"\xd0\x00"

log = structlog.get_logger(__name__)


class AbortableWriter(StreamWriterAdapter):
    """amqtt's writer, which can also be cut without waiting for the peer."""

    def abort(self) -> None:
        """Close the connection at once; what is buffered is lost."""
        self.is_closed = True
        self._writer.transport.abort()

    async def finish(self, seconds: float) -> None:
        """Close the connection when what is buffered has been sent, or after `seconds`."""
        try:
            await asyncio.wait_for(self.close(), seconds)
        except (TimeoutError, OSError):
            self.abort()


class HardenedHandler(BrokerProtocolHandler):
    """A connection after its CONNECT.

    Packets are handled one after another as they come, in the connection's own task: so a publisher's messages keep
    their order. Answers and messages leave through one sender task, many in one write.
    """

    def __init__(
        self,
        *,
        plugins: PluginManager[BrokerContext],
        exchange: Exchange,
        session: ClientSession,
        reader: ReaderAdapter,
        writer: AbortableWriter,
        limits: BrokerLimits,
        purse: TokenBucket | None = None,
    ) -> None:
        super().__init__(plugins)
        self.attach(session, reader, writer)
        self.client = session
        self._exchange = exchange
        self._source = reader
        self._sink = writer
        self._limits = limits
        self._purse = purse
        self._answers = bytearray()
        self._to_send = asyncio.Event()
        self._answered = asyncio.Event()
        self._cut_off = asyncio.Event()
        self._over = False
        self._heard = self._loop.time()
        self._patience = session.keep_alive * _KEEP_ALIVE_FACTOR
        self._timer: asyncio.TimerHandle | None = None

    def wake(self) -> None:
        """Look into the outbox: there is something to send."""
        self._to_send.set()

    def cut(self) -> None:
        """End the connection at once, whatever it is doing."""
        self._over = True
        self._cut_off.set()
        self._sink.abort()

    def answer(self, packet: bytes) -> None:
        """Send a packet ahead of the messages that wait."""
        self._answers += packet
        self._to_send.set()

    async def serve(self) -> bool:
        """Serve the client until its connection ends; return whether it said DISCONNECT."""
        sender = asyncio.create_task(self._send(), name=f"send to {self.client.client_id}")
        if self._patience:
            self._timer = self._loop.call_later(self._patience, self._watch, self._heard + self._patience)
        try:
            return await self._receive()
        except ConnectionLostError:
            return False
        except PacketError as error:
            log.warning("client_cut", client_id=self.client.client_id, username=self.client.username, reason=str(error))
            return False
        finally:
            self._over = True
            if self._timer is not None:
                self._timer.cancel()
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)

    async def _receive(self) -> bool:
        while not self._over:
            packet = await read_packet(self._source, self._limits.packet_bytes)
            if self._over:
                break
            self._heard = self._loop.time()
            if packet.kind == DISCONNECT:
                return True
            await self._handle(packet)
            if packet.kind == PUBLISH and self._purse is not None:
                await self._slow_down(self._purse.consume(len(packet.body), self._heard))
            while len(self._answers) > _ANSWERS and not self._over:
                # A client that does not read its answers is not read either.
                self._answered.clear()
                await self._answered.wait()
        return False

    async def _slow_down(self, seconds: float) -> None:
        """Read nothing for a while from a client that publishes more than it may: it has to wait, nobody else."""
        if seconds > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._cut_off.wait(), seconds)
            self._heard = self._loop.time()  # it was not listened to

    async def _handle(self, packet: Packet) -> None:
        kind = packet.kind
        if kind == PUBLISH:
            self._handle_publication(packet)
        elif kind == PUBACK:
            self.client.outbox.acknowledge(read_packet_id(packet.body))
            self._to_send.set()
        elif kind == PINGREQ:
            self.answer(_PINGRESP)
        elif kind == SUBSCRIBE and packet.flags == _REQUEST_FLAGS:
            await self._handle_subscription(packet)
        elif kind == UNSUBSCRIBE and packet.flags == _REQUEST_FLAGS:
            await self._handle_unsubscription(packet)
        elif kind == PUBREL and packet.flags == _REQUEST_FLAGS:
            self.client.incomplete.discard(read_packet_id(packet.body))
            self.answer(b"\x70\x02" + packet.body)
        else:
            raise PacketError(f"a packet of type {kind} and flags {packet.flags} has no place here")

    def _handle_publication(self, packet: Packet) -> None:
        publication = read_publish(packet.flags, packet.body)
        packet_id, qos = publication.packet_id, publication.message.qos
        if qos == _HIGHEST_QOS:
            if packet_id not in self.client.incomplete:
                self.client.incomplete.add(packet_id)
                self._exchange.publish(self.client, publication.message, retain=publication.retain)
            self.answer(b"\x50\x02" + packet_id.to_bytes(2, "big"))
            return
        self._exchange.publish(self.client, publication.message, retain=publication.retain)
        if qos:
            self.answer(b"\x40\x02" + packet_id.to_bytes(2, "big"))

    async def _handle_subscription(self, packet: Packet) -> None:
        subscribe = await read_with_amqtt(SubscribePacket, packet)
        wanted = subscribe.payload.topics if subscribe.payload is not None else []
        if subscribe.variable_header is None or not wanted or any(qos > _HIGHEST_QOS for _, qos in wanted):
            raise PacketError("a SUBSCRIBE is malformed")
        codes = [self._exchange.subscribe(self.client, topic_filter, qos) for topic_filter, qos in wanted]
        self.answer(SubackPacket.build(subscribe.variable_header.packet_id, codes).to_bytes())
        for (topic_filter, _), code in zip(wanted, codes, strict=True):
            if code != REFUSED:
                self._exchange.send_retained(self.client, topic_filter, code)

    async def _handle_unsubscription(self, packet: Packet) -> None:
        unsubscribe = await read_with_amqtt(UnsubscribePacket, packet)
        filters = unsubscribe.payload.topics if unsubscribe.payload is not None else []
        if unsubscribe.variable_header is None or not filters:
            raise PacketError("an UNSUBSCRIBE is malformed")
        for topic_filter in filters:
            self._exchange.unsubscribe(self.client, topic_filter)
        self.answer(b"\xb0\x02" + unsubscribe.variable_header.packet_id.to_bytes(2, "big"))

    async def _send(self) -> None:
        try:
            while True:
                await self._to_send.wait()
                self._to_send.clear()
                while chunk := self._next_chunk():
                    self._sink.write(chunk)
                    await self._sink.drain()
        except OSError:
            self.cut()
        except Exception:
            log.exception("sender_failed", client_id=self.client.client_id)
            self.cut()
        finally:
            self._answered.set()

    def _next_chunk(self) -> bytes:
        if self._over:
            # The outbox may serve the session's next connection already.
            return b""
        answers = bytes(self._answers)
        self._answers.clear()
        self._answered.set()
        return answers + self.client.outbox.take(_CHUNK)

    def _watch(self, due: float) -> None:
        """Cut the client when nothing was heard for 1.5 keep-alives (MQTT 3.1.1, 3.1.2.10)."""
        now = self._loop.time()
        if now - due > _ASLEEP:
            # It is the broker that stood still: what the client sent meanwhile has not been read yet.
            self._heard = now
        if now - self._heard >= self._patience:
            self.handle_read_timeout()
            return
        due = self._heard + self._patience
        self._timer = self._loop.call_at(due, self._watch, due)

    def handle_read_timeout(self) -> None:
        """Take a silent client for lost: cut it, so that its will is published."""
        log.info("client_silent", client_id=self.client.client_id, seconds=self._patience)
        self.cut()
