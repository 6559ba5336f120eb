"""Encodes and decodes the MQTT 3.1.1 packets of a simulated agent."""

import struct
from collections.abc import Iterable
from typing import NamedTuple

CONNACK, PUBLISH, PUBACK, SUBACK, PINGRESP = 0x20, 0x30, 0x40, 0x90, 0xD0
PINGREQ = b"\xc0\x00"
DISCONNECT = b"\xe0\x00"

_KIND = 0xF0
_QOS, _QOS_1, _RETAIN = 0x06, 0x02, 0x01
_USER_AND_PASSWORD, _WILL_RETAINED_QOS_1, _CLEAN = 0xC0, 0x2C, 0x02
_LENGTH_BYTES = 4
_MORE = 0x80
_REFUSED = 0x80
LARGEST = 4 * 1024 * 1024
"""The maximum size of a packet in bytes; a larger one ends the connection."""


class PacketError(ConnectionError):
    """The broker sent an invalid or unexpected packet."""


class Packet(NamedTuple):
    """One packet: its first byte with kind and flags, and its body."""

    first: int
    body: bytes

    @property
    def kind(self) -> int:
        """The kind, without flags."""
        return self.first & _KIND


class Message(NamedTuple):
    """A received PUBLISH; `packet_id` is 0 with QoS 0."""

    topic: str
    payload: bytes
    packet_id: int


class Framer:
    """Splits a stream of bytes into packets."""

    __slots__ = ("_unread",)

    def __init__(self) -> None:
        self._unread = b""

    def feed(self, data: bytes) -> list[Packet]:
        """Add bytes and return the packets that are now complete.

        Raises:
            PacketError: a length is invalid or too large.
        """
        buffer = self._unread + data if self._unread else data
        packets, at = [], 0
        while (found := _body(buffer, at)) is not None:
            start, end = found
            packets.append(Packet(buffer[at], buffer[start:end]))
            at = end
        self._unread = buffer[at:]
        return packets


def _body(buffer: bytes, at: int) -> tuple[int, int] | None:
    """Return start and end of the body of the packet at `at`; None while a part of it is missing."""
    length = 0
    for place in range(_LENGTH_BYTES):
        index = at + 1 + place
        if index >= len(buffer):
            return None
        length |= (buffer[index] & ~_MORE) << 7 * place
        if not buffer[index] & _MORE:
            start = index + 1
            break
    else:
        raise PacketError("the broker sent a packet whose length has more than four bytes")
    if length > LARGEST:
        raise PacketError(f"the broker sent a packet of {length} bytes")
    return (start, start + length) if start + length <= len(buffer) else None


def connect(
    client_id: str, username: str, password: str, keep_alive: int, will: tuple[str, bytes] | None = None
) -> bytes:
    """Return a CONNECT with a clean session; a will is retained, at QoS 1."""
    flags = _USER_AND_PASSWORD | _CLEAN | (_WILL_RETAINED_QOS_1 if will else 0)
    parts = [client_id.encode(), *((will[0].encode(), will[1]) if will else ()), username.encode(), password.encode()]
    body = _field(b"MQTT") + struct.pack(">BBH", 4, flags, keep_alive) + b"".join(map(_field, parts))
    return b"\x10" + _length(len(body)) + body


def subscribe(packet_id: int, topics: Iterable[str]) -> bytes:
    """Return a SUBSCRIBE at QoS 1."""
    body = struct.pack(">H", packet_id) + b"".join(_field(topic.encode()) + b"\x01" for topic in topics)
    return b"\x82" + _length(len(body)) + body


def unsubscribe(packet_id: int, topic: str) -> bytes:
    """Return an UNSUBSCRIBE."""
    body = struct.pack(">H", packet_id) + _field(topic.encode())
    return b"\xa2" + _length(len(body)) + body


def publish(topic: str, payload: bytes, packet_id: int = 0, *, retained: bool = False) -> bytes:
    """Return a PUBLISH: QoS 1 with a packet id, QoS 0 without."""
    first = PUBLISH | (_QOS_1 if packet_id else 0) | (_RETAIN if retained else 0)
    body = _field(topic.encode()) + (struct.pack(">H", packet_id) if packet_id else b"") + payload
    return bytes((first,)) + _length(len(body)) + body


def acknowledge(packet_id: int) -> bytes:
    """Return a PUBACK."""
    return struct.pack(">BBH", PUBACK, 2, packet_id)


def message(packet: Packet) -> Message:
    """Parse a PUBLISH.

    Raises:
        PacketError: it is malformed, or has QoS 2, which the agent did not request.
    """
    body, qos = packet.body, packet.first & _QOS
    topic_end = 2 + int.from_bytes(body[:2])
    payload_from = topic_end + (2 if qos else 0)
    if qos > _QOS_1 or len(body) < payload_from:
        raise PacketError("the broker sent a malformed message")
    packet_id = int.from_bytes(body[topic_end:payload_from])
    try:
        return Message(body[2:topic_end].decode(), body[payload_from:], packet_id)
    except UnicodeDecodeError as error:
        raise PacketError("the broker sent a topic that is no text") from error


def return_code(packet: Packet) -> int:
    """Return the code of a CONNACK; 0 means accepted.

    Raises:
        PacketError: it is too short.
    """
    if len(packet.body) != 2:  # noqa: PLR2004 -- flags and code
        raise PacketError("the broker sent a malformed CONNACK")
    return packet.body[1]


def grants(packet: Packet) -> list[bool]:
    """Return for each filter of a SUBACK whether it is granted."""
    return [code < _REFUSED for code in packet.body[2:]]


def are_granted(packet: Packet) -> bool:
    """Return whether a SUBACK grants every filter."""
    granted = grants(packet)
    return bool(granted) and all(granted)


def _field(raw: bytes) -> bytes:
    return struct.pack(">H", len(raw)) + raw


def _length(length: int) -> bytes:
    digits = bytearray()
    while True:
        length, digit = length >> 7, length & 0x7F
        digits.append(digit | (_MORE if length else 0))
        if not length:
            return bytes(digits)
