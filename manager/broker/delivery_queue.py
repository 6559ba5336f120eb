"""What waits for one client: sent and not acknowledged, or not sent yet; bounded in bytes and messages."""

from collections import deque
from typing import NamedTuple

from manager.broker.limits import BrokerLimits
from manager.broker.message import Message, publish_packet

_PACKET_IDS = 65_535


class _Entry(NamedTuple):
    order: int
    message: Message
    retain: bool


class Outbox:
    """The queue of one session; it outlives the connection. No I/O.

    Messages leave in the order in which they came. A full window holds back QoS 1 only: QoS 0 then passes, as
    heartbeats that wait say nothing. An unacknowledged message is sent again after a reconnect, first and in its old
    order (MQTT 3.1.1, 4.4 and 4.6). Beyond its bounds the oldest that is not in flight goes, QoS 0 before QoS 1.
    """

    def __init__(self, limits: BrokerLimits) -> None:
        self._limits = limits
        self._unreliable: deque[_Entry] = deque()
        self._reliable: deque[_Entry] = deque()
        self._in_flight: dict[int, _Entry] = {}
        self._again: deque[int] = deque()
        self._order = 0
        self._packet_id = 0
        self._bytes = 0
        self.dropped = 0

    @property
    def size_bytes(self) -> int:
        """What everything in here counts against the bound, in flight or not."""
        return self._bytes

    @property
    def in_flight(self) -> int:
        """How many messages wait for the client's acknowledgement."""
        return len(self._in_flight)

    def __len__(self) -> int:
        return len(self._unreliable) + len(self._reliable) + len(self._in_flight)

    def put(self, message: Message, qos: int, *, retain: bool = False) -> None:
        """Add a message behind all others; `qos` is 0 or 1, already the lower of publication and grant."""
        self._order += 1
        queue = self._reliable if qos else self._unreliable
        queue.append(_Entry(self._order, message, retain))
        self._bytes += message.cost
        while self._bytes > self._limits.queue_bytes or len(self) > self._limits.queue_messages:
            if not self._drop_oldest():
                break

    def _drop_oldest(self) -> bool:
        queue = self._unreliable or self._reliable
        if not queue:
            return False
        self._bytes -= queue.popleft().message.cost
        self.dropped += 1
        return True

    def take(self, budget: int) -> bytes:
        """Return packets to send now, `budget` bytes and at most one packet more; empty when nothing may be sent."""
        packets: list[bytes] = []
        size = 0
        while size < budget and (packet := self._next()) is not None:
            packets.append(packet)
            size += len(packet)
        return b"".join(packets)

    def _next(self) -> bytes | None:
        while self._again:
            packet_id = self._again.popleft()
            entry = self._in_flight.get(packet_id)
            if entry is not None:
                return publish_packet(entry.message, packet_id, retain=entry.retain, duplicate=True)
        reliable, unreliable = self._reliable, self._unreliable
        window_open = len(self._in_flight) < self._limits.in_flight
        if reliable and window_open and (not unreliable or reliable[0].order < unreliable[0].order):
            entry = reliable.popleft()
            packet_id = self._free_packet_id()
            self._in_flight[packet_id] = entry
            return publish_packet(entry.message, packet_id, retain=entry.retain)
        if unreliable:
            entry = unreliable.popleft()
            self._bytes -= entry.message.cost
            return publish_packet(entry.message, None, retain=entry.retain)
        return None

    def _free_packet_id(self) -> int:
        while True:
            self._packet_id = self._packet_id % _PACKET_IDS + 1
            if self._packet_id not in self._in_flight:
                return self._packet_id

    def acknowledge(self, packet_id: int) -> None:
        """Forget a message that the client has taken over; an unknown id is nothing."""
        entry = self._in_flight.pop(packet_id, None)
        if entry is not None:
            self._bytes -= entry.message.cost

    def rewind(self) -> None:
        """Prepare for the next connection: what was not acknowledged goes again, QoS 0 that waited is gone."""
        self._bytes -= sum(entry.message.cost for entry in self._unreliable)
        self._unreliable.clear()
        self._again = deque(self._in_flight)
