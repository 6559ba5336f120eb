"""One application message inside the broker, and how it looks on the wire to a subscriber."""

from typing import NamedTuple

_PUBLISH = 0x30
_DUPLICATE = 0x08
_RETAIN = 0x01
_OVERHEAD = 64
_SEVEN_BITS = 0x7F


class Message(NamedTuple):
    """What was published; shared by all subscribers that wait for it."""

    topic: str
    payload: bytes
    qos: int
    """The publisher's, 0 to 2; a subscriber gets the lower of it and what it was granted."""

    @property
    def cost(self) -> int:
        """Bytes that count against a client's queue: payload, topic, and a fair share of bookkeeping."""
        return len(self.payload) + len(self.topic) + _OVERHEAD


def remaining_length(length: int) -> bytes:
    """Return a packet's length field, one to four bytes of seven bits each (MQTT 3.1.1, 2.2.3)."""
    encoded = bytearray()
    while length > _SEVEN_BITS:
        encoded.append(length & _SEVEN_BITS | 0x80)
        length >>= 7
    encoded.append(length)
    return bytes(encoded)


def publish_packet(message: Message, packet_id: int | None, *, retain: bool, duplicate: bool = False) -> bytes:
    """Return the PUBLISH packet of a message.

    Args:
        message: what is delivered.
        packet_id: makes it QoS 1; QoS 0 has none.
        retain: whether it is a retained message that answers a subscription (MQTT 3.1.1, 3.3.1.3).
        duplicate: whether it was sent before and not acknowledged.
    """
    topic = message.topic.encode()
    head = _PUBLISH | (_RETAIN if retain else 0) | (_DUPLICATE if duplicate else 0)
    identifier = b""
    if packet_id is not None:
        head |= 0x02
        identifier = packet_id.to_bytes(2, "big")
    size = 2 + len(topic) + len(identifier) + len(message.payload)
    return b"".join(
        (bytes((head,)), remaining_length(size), len(topic).to_bytes(2, "big"), topic, identifier, message.payload),
    )
