"""MQTT 3.1.1 codec for the frequent packets, shared by the manager's client and the embedded broker.

Publications and acknowledgements are read and written here; paho and amqtt read the rare packets.
"""

import struct

PUBLISH, PUBACK, PUBREC, PUBCOMP, UNSUBACK, PINGRESP = 0x30, 0x40, 0x50, 0x70, 0xB0, 0xD0
"""First bytes of packets; of a PUBLISH the lower four bits are flags."""

TYPE_MASK = 0xF0
"""The bits of a packet's first byte that hold its type."""

QOS_MASK = 0x06
QOS_1 = 0x02
RETAIN = 0x01
_DUPLICATE = 0x08
_DIGIT, _MORE = 0x7F, 0x80
_LONGEST_LENGTH = 4
_TWO_BYTES = 2
MAX_PACKET_ID = 0xFFFF


class MalformedPacketError(ConnectionError):
    """The peer sent bytes that are not an MQTT packet; the connection must be closed."""


def find_packet(buffer: bytes, at: int) -> tuple[int, int] | None:
    """Return start and end of the body of the packet that begins at `at`; None while a part of it is missing.

    Raises:
        MalformedPacketError: the remaining length has more than four digits.
    """
    have = len(buffer)
    if have - at < _TWO_BYTES:
        return None
    body = at + _TWO_BYTES
    length = buffer[at + 1]
    if length & _MORE:
        length &= _DIGIT
        for place in range(1, _LONGEST_LENGTH):
            if body >= have:
                return None
            digit = buffer[body]
            body += 1
            length |= (digit & _DIGIT) << 7 * place
            if not digit & _MORE:
                break
        else:
            raise MalformedPacketError("the length of a packet has more than four digits")
    return (body, body + length) if body + length <= have else None


def missing_bytes(buffer: bytes, at: int) -> int:
    """Return the minimum number of bytes missing from the packet at `at`."""
    length, digits = 0, 0
    for digits, digit in enumerate(buffer[at + 1 : at + 1 + _LONGEST_LENGTH]):
        length |= (digit & _DIGIT) << 7 * digits
        if not digit & _MORE:
            return at + _TWO_BYTES + digits + length - len(buffer)
    return 1


def read_publish(buffer: bytes, first: int, body: int, end: int) -> tuple[bytes, bytes, int]:
    """Return topic, payload and packet id of a PUBLISH; the id is 0 with QoS 0.

    Args:
        buffer: bytes that hold the packet.
        first: the packet's first byte, or its four flag bits.
        body: index of the first byte behind the remaining length.
        end: index behind the last byte.

    Raises:
        MalformedPacketError: topic or packet id do not fit in the packet.
    """
    start = body + _TWO_BYTES
    topic_end = start + (buffer[body] << 8 | buffer[body + 1]) if start <= end else end + 1
    if not first & QOS_MASK:
        if topic_end > end:
            raise MalformedPacketError("a PUBLISH is malformed")
        return buffer[start:topic_end], buffer[topic_end:end], 0
    payload = topic_end + _TWO_BYTES
    if payload > end:
        raise MalformedPacketError("a PUBLISH is malformed")
    return buffer[start:topic_end], buffer[payload:end], buffer[topic_end] << 8 | buffer[topic_end + 1]


def publish_packet(
    topic: str, payload: bytes, packet_id: int = 0, *, retained: bool = False, duplicate: bool = False
) -> bytes:
    """Return a PUBLISH packet.

    Args:
        topic: where it is published.
        payload: the message.
        packet_id: makes it QoS 1; 0 makes it QoS 0.
        retained: the retain flag.
        duplicate: the flag of a packet that was sent before and not acknowledged.
    """
    raw = topic.encode()
    first = PUBLISH | (QOS_1 if packet_id else 0) | (RETAIN if retained else 0) | (_DUPLICATE if duplicate else 0)
    number = struct.pack(">H", packet_id) if packet_id else b""
    length = remaining_length(_TWO_BYTES + len(raw) + len(number) + len(payload))
    return b"%c%b%b%b%b%b" % (first, length, struct.pack(">H", len(raw)), raw, number, payload)


def puback_packets(packet_ids: list[int]) -> bytes:
    """Return one PUBACK for each packet id."""
    return struct.pack(f">{len(packet_ids)}I", *[PUBACK << 24 | _TWO_BYTES << 16 | number for number in packet_ids])


def acknowledgement(first: int, packet_id: int) -> bytes:
    """Return a packet whose whole body is a packet id: PUBACK, PUBREC, PUBCOMP or UNSUBACK."""
    return struct.pack(">BBH", first, _TWO_BYTES, packet_id)


def remaining_length(length: int) -> bytes:
    """Return a packet's length field: one to four bytes of seven bits each (MQTT 3.1.1, 2.2.3)."""
    digits = bytearray()
    while True:
        length, digit = length >> 7, length & _DIGIT
        digits.append(digit | (_MORE if length else 0))
        if not length:
            return bytes(digits)
