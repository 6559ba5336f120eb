"""From a stream to MQTT packets, with a limit on their size; the frequent ones are read here, the rest by amqtt."""

from typing import Any, NamedTuple, TypeVar

from amqtt.adapters import BufferReader, ReaderAdapter
from amqtt.errors import AMQTTError, CodecError, MQTTError, NoDataError
from amqtt.mqtt.packet import MQTTFixedHeader, MQTTPacket

from manager.broker.message import Message
from manager.broker.subscriptions import MAX_LEVELS

_LENGTH_BYTES = 4
_QOS_MASK = 0x06
_RETAIN_FLAG = 0x01
_HIGHEST_QOS = 2

AmqttPacket = TypeVar("AmqttPacket", bound=MQTTPacket[Any, Any, Any])


class PacketError(Exception):
    """A client sent what no client may send; its connection ends."""


class ConnectionLostError(Exception):
    """The peer is gone, or the broker cut it."""


class Packet(NamedTuple):
    """One packet as it came: its type, the four flag bits, and everything after the length."""

    kind: int
    flags: int
    body: bytes


class Publication(NamedTuple):
    """A PUBLISH packet read."""

    message: Message
    packet_id: int
    """0 with QoS 0."""

    retain: bool


async def _read(reader: ReaderAdapter, size: int) -> bytes:
    try:
        data = await reader.read(size)
    except (EOFError, OSError) as error:
        raise ConnectionLostError from error
    if len(data) < size:
        raise ConnectionLostError
    return data


async def read_packet(reader: ReaderAdapter, limit: int, *, first_byte: int | None = None) -> Packet:
    """Read one packet of at most `limit` bytes after its length.

    Args:
        reader: the stream.
        limit: the most bytes after the length.
        first_byte: the only type and flags that are taken; whatever else speaks is not waited for.

    Raises:
        PacketError: it is another or larger packet, or its length is malformed. Nothing of its body was read.
        ConnectionLostError: the stream ended first.
    """
    first = (await _read(reader, 1))[0]
    if first_byte is not None and first != first_byte:
        raise PacketError("it begins with another packet than it has to")
    size = 0
    for position in range(_LENGTH_BYTES):
        byte = (await _read(reader, 1))[0]
        size |= (byte & 0x7F) << (7 * position)
        if not byte & 0x80:
            break
    else:
        raise PacketError("its length has more than four bytes")
    if size > limit:
        raise PacketError(f"it has {size} bytes; at most {limit} are taken")
    return Packet(first >> 4, first & 0x0F, await _read(reader, size) if size else b"")


def read_publish(flags: int, body: bytes) -> Publication:
    """Read a PUBLISH packet.

    Raises:
        PacketError: it is malformed, or its topic is none that anybody may publish to (MQTT 3.1.1, 3.3.2.1).
    """
    qos = (flags & _QOS_MASK) >> 1
    end = 2 + int.from_bytes(body[:2], "big")
    start = end + (2 if qos else 0)
    if qos > _HIGHEST_QOS or len(body) < max(start, 2):
        raise PacketError("a PUBLISH is malformed")
    try:
        topic = body[2:end].decode()
    except UnicodeDecodeError as error:
        raise PacketError("a topic is not UTF-8") from error
    if not topic or "+" in topic or "#" in topic or "\0" in topic or topic.count("/") >= MAX_LEVELS:
        raise PacketError("a topic is empty, too deep, or has a wildcard in it")
    packet_id = int.from_bytes(body[end:start], "big")
    if qos and not packet_id:
        raise PacketError("a PUBLISH with QoS has no packet id")
    return Publication(Message(topic, body[start:], qos), packet_id, bool(flags & _RETAIN_FLAG))


def read_packet_id(body: bytes) -> int:
    """Return the packet id that is the whole body of an acknowledgement.

    Raises:
        PacketError: the body is something else.
    """
    if len(body) != 2:  # noqa: PLR2004 -- a packet id has two bytes
        raise PacketError("an acknowledgement is malformed")
    return int.from_bytes(body, "big")


async def read_with_amqtt(kind: type[AmqttPacket], packet: Packet) -> AmqttPacket:
    """Read one of the rare packets with amqtt's own codec.

    Raises:
        PacketError: it is malformed.
    """
    header = MQTTFixedHeader(packet.kind, packet.flags, len(packet.body))
    try:
        return await kind.from_stream(BufferReader(packet.body), fixed_header=header)
    except (AMQTTError, MQTTError, CodecError, NoDataError, ValueError) as error:
        raise PacketError(f"a {kind.__name__} is malformed") from error
