"""Queue of messages for one client, in flight or unsent; bounded in bytes and messages."""

from collections import deque
from typing import NamedTuple

from manager import mqtt_packets
from manager.broker.delivery.message import Message
from manager.broker.limits import BrokerLimits


class _Entry(NamedTuple):
    order: int
    message: Message
    retain: bool

    def packet(self, packet_id: int = 0, *, duplicate: bool = False) -> bytes:
        message = self.message
        return mqtt_packets.publish_packet(
            message.topic, message.payload, packet_id, retained=self.retain, duplicate=duplicate
        )


class DeliveryQueue:
    """The queue of one session; it outlives the connection. No I/O.

    Messages are sent in order of arrival. A full window holds back QoS 1 only, because a delayed heartbeat (QoS 0) is
    useless. Unacknowledged messages are sent again after a reconnect, first and in their original order
    (MQTT 3.1.1, 4.4 and 4.6). Beyond the bounds the oldest that is not in flight is dropped, QoS 0 before QoS 1.

    Args:
        limits: window and bounds.
        max_bytes: replaces the bound in bytes.
    """

    def __init__(self, limits: BrokerLimits, max_bytes: int | None = None) -> None:
        self._limits = limits
        self._max_bytes = limits.queue_bytes if max_bytes is None else max_bytes
        self._qos_0: deque[_Entry] = deque()
        self._qos_1: deque[_Entry] = deque()
        self._in_flight: dict[int, _Entry] = {}
        self._to_resend: deque[int] = deque()
        self._order = 0
        self._packet_id = 0
        self._bytes = 0
        self.dropped = 0

    @property
    def size_bytes(self) -> int:
        """The number of bytes that count against the bound, in flight or not."""
        return self._bytes

    @property
    def in_flight(self) -> int:
        """The number of messages sent and not acknowledged."""
        return len(self._in_flight)

    def __len__(self) -> int:
        return len(self._qos_0) + len(self._qos_1) + len(self._in_flight)

    def put(self, message: Message, qos: int, *, retain: bool = False) -> None:
        """Append a message; `qos` (0 or 1) is the lower of publication and grant."""
        self._order += 1
        queue = self._qos_1 if qos else self._qos_0
        queue.append(_Entry(self._order, message, retain))
        self._bytes += message.cost
        while self._bytes > self._max_bytes or len(self) > self._limits.queue_messages:
            if not self._drop_oldest():
                break

    def _drop_oldest(self) -> bool:
        queue = self._qos_0 or self._qos_1
        if not queue:
            return False
        self._bytes -= queue.popleft().message.cost
        self.dropped += 1
        return True

    def take(self, budget: int) -> bytes:
        """Return the packets to send now, up to `budget` bytes and one more packet; empty if none may be sent."""
        packets: list[bytes] = []
        size = 0
        while size < budget and (packet := self._next()) is not None:
            packets.append(packet)
            size += len(packet)
        return b"".join(packets)

    def _next(self) -> bytes | None:
        while self._to_resend:
            packet_id = self._to_resend.popleft()
            entry = self._in_flight.get(packet_id)
            if entry is not None:
                return entry.packet(packet_id, duplicate=True)
        qos_1, qos_0 = self._qos_1, self._qos_0
        window_open = len(self._in_flight) < self._limits.in_flight
        if qos_1 and window_open and (not qos_0 or qos_1[0].order < qos_0[0].order):
            entry = qos_1.popleft()
            packet_id = self._free_packet_id()
            self._in_flight[packet_id] = entry
            return entry.packet(packet_id)
        if qos_0:
            entry = qos_0.popleft()
            self._bytes -= entry.message.cost
            return entry.packet()
        return None

    def _free_packet_id(self) -> int:
        while True:
            self._packet_id = self._packet_id % mqtt_packets.MAX_PACKET_ID + 1
            if self._packet_id not in self._in_flight:
                return self._packet_id

    def acknowledge(self, packet_id: int) -> None:
        """Remove a message that the client has acknowledged; an unknown id is ignored."""
        entry = self._in_flight.pop(packet_id, None)
        if entry is not None:
            self._bytes -= entry.message.cost

    def rewind(self) -> None:
        """Prepare for the next connection: unacknowledged messages are sent again, queued QoS 0 is dropped."""
        self._bytes -= sum(entry.message.cost for entry in self._qos_0)
        self._qos_0.clear()
        self._to_resend = deque(self._in_flight)
