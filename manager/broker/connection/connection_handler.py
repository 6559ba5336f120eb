"""Serves one connection: reads and answers packets, sends the session's queue, and enforces the keep-alive."""

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

from manager import mqtt_packets
from manager.broker.connection.packet_reader import (
    ConnectionLostError,
    Packet,
    PacketError,
    read_packet,
    read_packet_id,
    read_publish,
    read_with_amqtt,
)
from manager.broker.delivery.client_session import ClientSession
from manager.broker.delivery.message_router import REFUSED, MessageRouter
from manager.broker.limits import BrokerLimits
from manager.domain.budget import TokenBucket
from manager.mqtt_packets import PINGRESP, PUBCOMP, PUBREC, UNSUBACK, acknowledgement

_CHUNK = 64 * 1024
_ANSWERS = 64 * 1024
_KEEP_ALIVE_FACTOR = 1.5
_ASLEEP = 1.0
_HIGHEST_QOS = 2
_REQUEST_FLAGS = 0x02
_PINGRESP = bytes((PINGRESP, 0))

log = structlog.get_logger(__name__)


class AbortableWriter(StreamWriterAdapter):
    """amqtt's writer with an abort that does not wait for the peer."""

    def abort(self) -> None:
        """Close the connection at once; buffered bytes are lost."""
        self.is_closed = True
        self._writer.transport.abort()

    async def finish(self, seconds: float) -> None:
        """Close the connection when the buffered bytes are sent, or after `seconds`."""
        try:
            await asyncio.wait_for(self.close(), seconds)
        except (TimeoutError, OSError):
            self.abort()


class ConnectionHandler(BrokerProtocolHandler):
    """A connection after its CONNECT.

    One task handles the packets one after another, so a publisher's messages keep their order. One sender task writes
    answers and messages, many in one write.
    """

    def __init__(
        self,
        *,
        plugins: PluginManager[BrokerContext],
        router: MessageRouter,
        session: ClientSession,
        reader: ReaderAdapter,
        writer: AbortableWriter,
        limits: BrokerLimits,
        bucket: TokenBucket | None = None,
    ) -> None:
        super().__init__(plugins)
        self.attach(session, reader, writer)
        self.client = session
        self._router = router
        self._reader = reader
        self._out = writer
        self._limits = limits
        self._bucket = bucket
        self._answers = bytearray()
        self._to_send = asyncio.Event()
        self._answered = asyncio.Event()
        self._cut = asyncio.Event()
        self._closed = False
        self._last_packet = self._loop.time()
        self._timeout = session.keep_alive * _KEEP_ALIVE_FACTOR
        self._timer: asyncio.TimerHandle | None = None

    def wake(self) -> None:
        """Wake the sender for the messages in the delivery queue."""
        self._to_send.set()

    def cut(self) -> None:
        """Close the connection at once."""
        self._closed = True
        self._cut.set()
        self._out.abort()

    def answer(self, packet: bytes) -> None:
        """Send a packet ahead of the queued messages."""
        self._answers += packet
        self._to_send.set()

    async def serve(self) -> bool:
        """Serve the client until its connection ends; return whether it sent DISCONNECT."""
        sender = asyncio.create_task(self._send(), name=f"send to {self.client.client_id}")
        if self._timeout:
            self._timer = self._loop.call_later(
                self._timeout, self._check_keep_alive, self._last_packet + self._timeout
            )
        try:
            return await self._receive()
        except ConnectionLostError:
            return False
        except PacketError as error:
            log.warning("client_cut", client_id=self.client.client_id, username=self.client.username, reason=str(error))
            return False
        finally:
            self._closed = True
            if self._timer is not None:
                self._timer.cancel()
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)

    async def _receive(self) -> bool:
        while not self._closed:
            packet = await read_packet(self._reader, self._limits.packet_bytes)
            if self._closed:
                break
            self._last_packet = self._loop.time()
            if packet.kind == DISCONNECT:
                return True
            await self._handle(packet)
            if packet.kind == PUBLISH and self._bucket is not None:
                await self._slow_down(self._bucket.consume(len(packet.body), self._last_packet))
            while len(self._answers) > _ANSWERS and not self._closed:
                # Do not read from a client that does not read its answers.
                self._answered.clear()
                await self._answered.wait()
        return False

    async def _slow_down(self, seconds: float) -> None:
        """Stop reading for a while from a client that exceeds its rate limit; other clients are not affected."""
        if seconds > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._cut.wait(), seconds)
            self._last_packet = self._loop.time()  # the pause does not count as the client's silence

    async def _handle(self, packet: Packet) -> None:
        kind = packet.kind
        if kind == PUBLISH:
            self._handle_publication(packet)
        elif kind == PUBACK:
            self.client.queue.acknowledge(read_packet_id(packet.body))
            self._to_send.set()
        elif kind == PINGREQ:
            self.answer(_PINGRESP)
        elif kind == SUBSCRIBE and packet.flags == _REQUEST_FLAGS:
            await self._handle_subscription(packet)
        elif kind == UNSUBSCRIBE and packet.flags == _REQUEST_FLAGS:
            await self._handle_unsubscription(packet)
        elif kind == PUBREL and packet.flags == _REQUEST_FLAGS:
            packet_id = read_packet_id(packet.body)
            self.client.incomplete.discard(packet_id)
            self.answer(acknowledgement(PUBCOMP, packet_id))
        else:
            raise PacketError(f"a packet of type {kind} with flags {packet.flags} is not expected")

    def _handle_publication(self, packet: Packet) -> None:
        publication = read_publish(packet.flags, packet.body)
        packet_id, qos = publication.packet_id, publication.message.qos
        if qos == _HIGHEST_QOS:
            if packet_id not in self.client.incomplete:
                self.client.incomplete.add(packet_id)
                self._router.publish(self.client, publication.message, retain=publication.retain)
            self.answer(acknowledgement(PUBREC, packet_id))
            return
        self._router.publish(self.client, publication.message, retain=publication.retain)
        if qos:
            self.answer(acknowledgement(mqtt_packets.PUBACK, packet_id))

    async def _handle_subscription(self, packet: Packet) -> None:
        subscribe = await read_with_amqtt(SubscribePacket, packet)
        wanted = subscribe.payload.topics if subscribe.payload is not None else []
        if subscribe.variable_header is None or not wanted or any(qos > _HIGHEST_QOS for _, qos in wanted):
            raise PacketError("a SUBSCRIBE is malformed")
        codes = [self._router.subscribe(self.client, topic_filter, qos) for topic_filter, qos in wanted]
        self.answer(SubackPacket.build(subscribe.variable_header.packet_id, codes).to_bytes())
        for (topic_filter, _), code in zip(wanted, codes, strict=True):
            if code != REFUSED:
                self._router.send_retained(self.client, topic_filter, code)

    async def _handle_unsubscription(self, packet: Packet) -> None:
        unsubscribe = await read_with_amqtt(UnsubscribePacket, packet)
        filters = unsubscribe.payload.topics if unsubscribe.payload is not None else []
        if unsubscribe.variable_header is None or not filters:
            raise PacketError("an UNSUBSCRIBE is malformed")
        for topic_filter in filters:
            self._router.unsubscribe(self.client, topic_filter)
        self.answer(acknowledgement(UNSUBACK, unsubscribe.variable_header.packet_id))

    async def _send(self) -> None:
        try:
            while True:
                await self._to_send.wait()
                self._to_send.clear()
                while chunk := self._next_chunk():
                    self._out.write(chunk)
                    await self._out.drain()
        except OSError:
            self.cut()
        except Exception:
            log.exception("sender_failed", client_id=self.client.client_id)
            self.cut()
        finally:
            self._answered.set()

    def _next_chunk(self) -> bytes:
        if self._closed:
            # The queue may already serve the session's next connection.
            return b""
        answers = bytes(self._answers)
        self._answers.clear()
        self._answered.set()
        return answers + self.client.queue.take(_CHUNK)

    def _check_keep_alive(self, due: float) -> None:
        """Close the connection when no packet came for 1.5 keep-alives (MQTT 3.1.1, 3.1.2.10)."""
        now = self._loop.time()
        if now - due > _ASLEEP:
            # The broker's own process was suspended: packets sent meanwhile are not read yet.
            self._last_packet = now
        if now - self._last_packet >= self._timeout:
            self.handle_read_timeout()
            return
        due = self._last_packet + self._timeout
        self._timer = self._loop.call_at(due, self._check_keep_alive, due)

    def handle_read_timeout(self) -> None:
        """Close the connection of a silent client, so that its will is published."""
        log.info("client_silent", client_id=self.client.client_id, seconds=self._timeout)
        self.cut()
