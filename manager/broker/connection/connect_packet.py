"""The CONNECT packet: reads it within limits, checks it, and builds the CONNACK."""

from dataclasses import dataclass

from amqtt.adapters import ReaderAdapter
from amqtt.mqtt.connect import ConnectPacket
from amqtt.mqtt.packet import CONNECT

from manager.broker.connection.packet_reader import Packet, PacketError, read_packet, read_with_amqtt
from manager.broker.delivery.message import Message

_MQTT_3_1_1 = b"\x00\x04MQTT\x04"
_MQTT_5 = b"\x00\x04MQTT\x05"
_HIGHEST_QOS = 2

UNSUPPORTED_VERSION = 1
IDENTIFIER_REJECTED = 2
SERVER_UNAVAILABLE = 3
NOT_AUTHORIZED = 5


def connack(code: int, *, session_present: bool = False) -> bytes:
    """Return a CONNACK packet (MQTT 3.1.1, 3.2); `code` 0 accepts the client."""
    return bytes((0x20, 0x02, int(session_present), code))


_CONNACK_MQTT_5_UNSUPPORTED = bytes((0x20, 0x03, 0x00, 0x84, 0x00))


class RefusedError(Exception):
    """A client is refused; `answer` is the CONNACK with the code."""

    def __init__(self, reason: str, answer: bytes) -> None:
        self.answer = answer
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class ConnectRequest:
    """The fields of a client's CONNECT."""

    client_id: str
    username: str | None
    password: str | None
    clean_session: bool
    keep_alive: int
    """The keep-alive in seconds; 0 turns it off."""

    will: Message | None
    will_retain: bool


async def read_connect(reader: ReaderAdapter, limit: int) -> ConnectRequest:
    """Read and check the first packet of a connection.

    Raises:
        PacketError: the packet is not a valid CONNECT.
        RefusedError: its protocol version or client id is not supported.
        ConnectionLostError: the stream ended first.
    """
    packet = await read_packet(reader, limit, first_byte=CONNECT << 4)
    _check_version(packet)
    connect = await read_with_amqtt(ConnectPacket, packet)
    _check(connect)
    will = None
    if connect.will_flag and connect.will_topic is not None and connect.will_message is not None:
        will = Message(connect.will_topic, bytes(connect.will_message), connect.will_qos)
    return ConnectRequest(
        connect.client_id or "",
        connect.username,
        connect.password,
        connect.clean_session_flag,
        connect.keep_alive,
        will,
        connect.will_retain_flag,
    )


def _check_version(packet: Packet) -> None:
    if packet.body.startswith(_MQTT_3_1_1):
        return
    if packet.body.startswith(_MQTT_5):
        raise RefusedError("MQTT 5 is not supported", _CONNACK_MQTT_5_UNSUPPORTED)
    if packet.body.startswith((b"\x00\x04MQTT", b"\x00\x06MQIsdp")):
        raise RefusedError("the MQTT version is not supported", connack(UNSUPPORTED_VERSION))
    raise PacketError("the first packet is no MQTT")


def _check(connect: ConnectPacket) -> None:
    """Refuse a CONNECT that violates MQTT 3.1.1, 3.1."""
    incomplete = (
        (connect.will_flag and (not connect.will_topic or connect.will_message is None))
        or (connect.username_flag and connect.username is None)
        or (connect.password_flag and connect.password is None)
    )
    if connect.reserved_flag or incomplete or connect.will_qos > _HIGHEST_QOS:
        raise PacketError("a CONNECT has contradictory flags")
    if connect.password_flag and not connect.username_flag:
        raise PacketError("a CONNECT has a password and no username")
    if connect.client_id_is_random and not connect.clean_session_flag:
        raise RefusedError("a stored session needs a client id", connack(IDENTIFIER_REJECTED))
