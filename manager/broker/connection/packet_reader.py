"""Reads MQTT packets from a stream with a size limit; amqtt decodes the rare ones."""

from typing import Any, NamedTuple, TypeVar

from amqtt.adapters import BufferReader, ReaderAdapter
from amqtt.errors import AMQTTError, CodecError, MQTTError, NoDataError
from amqtt.mqtt.packet import MQTTFixedHeader, MQTTPacket

from manager import mqtt_packets
from manager.broker.delivery.message import Message
from manager.broker.delivery.subscription_index import MAX_LEVELS

_LENGTH_BYTES = 4
_HIGHEST_QOS = 2

AmqttPacket = TypeVar("AmqttPacket", bound=MQTTPacket[Any, Any, Any])


class PacketError(Exception):
    """A client violated the protocol; its connection ends."""


class ConnectionLostError(Exception):
    """The connection was closed by the peer or by the broker."""


class Packet(NamedTuple):
    """A packet: its type, the four flag bits, and the body after the remaining length."""

    kind: int
    flags: int
    body: bytes


class Publication(NamedTuple):
    """A decoded PUBLISH packet."""

    message: Message
    packet_id: int
    """The packet id; 0 with QoS 0."""

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
        limit: the maximum number of bytes after the length.
        first_byte: the only type and flags accepted; any other first byte is refused at once.

    Raises:
        PacketError: another or a larger packet, or a malformed length. Nothing of the body was read.
        ConnectionLostError: the stream ended first.
    """
    first = (await _read(reader, 1))[0]
    if first_byte is not None and first != first_byte:
        raise PacketError("the first packet is no CONNECT")
    size = 0
    for position in range(_LENGTH_BYTES):
        byte = (await _read(reader, 1))[0]
        size |= (byte & 0x7F) << (7 * position)
        if not byte & 0x80:
            break
    else:
        raise PacketError("the length of a packet has more than four bytes")
    if size > limit:
        raise PacketError(f"a packet of {size} bytes; at most {limit} are accepted")
    return Packet(first >> 4, first & 0x0F, await _read(reader, size) if size else b"")


def read_publish(flags: int, body: bytes) -> Publication:
    """Decode a PUBLISH packet.

    Raises:
        PacketError: it is malformed, or its topic cannot be published to (MQTT 3.1.1, 3.3.2.1).
    """
    qos = (flags & mqtt_packets.QOS_MASK) >> 1
    if qos > _HIGHEST_QOS:
        raise PacketError("a PUBLISH is malformed")
    try:
        raw, payload, packet_id = mqtt_packets.read_publish(body, flags, 0, len(body))
        topic = raw.decode()
    except mqtt_packets.MalformedPacketError as error:
        raise PacketError(str(error)) from error
    except UnicodeDecodeError as error:
        raise PacketError("a topic is not UTF-8") from error
    if not topic or "+" in topic or "#" in topic or "\0" in topic or topic.count("/") >= MAX_LEVELS:
        raise PacketError("a topic is empty, too deep, or has a wildcard in it")
    if qos and not packet_id:
        raise PacketError("a PUBLISH with QoS has no packet id")
    return Publication(Message(topic, payload, qos), packet_id, bool(flags & mqtt_packets.RETAIN))


def read_packet_id(body: bytes) -> int:
    """Decode the body of an acknowledgement: one packet id.

    Raises:
        PacketError: the body has another size.
    """
    if len(body) != 2:  # noqa: PLR2004 -- a packet id has two bytes
        raise PacketError("an acknowledgement is malformed")
    return int.from_bytes(body, "big")


async def read_with_amqtt(kind: type[AmqttPacket], packet: Packet) -> AmqttPacket:
    """Decode a rare packet with amqtt's codec.

    Raises:
        PacketError: it is malformed.
    """
    header = MQTTFixedHeader(packet.kind, packet.flags, len(packet.body))
    try:
        return await kind.from_stream(BufferReader(packet.body), fixed_header=header)
    except (AMQTTError, MQTTError, CodecError, NoDataError, ValueError) as error:
        raise PacketError(f"a {kind.__name__} is malformed") from error
