"""The CONNECT packet: read within limits, checked, and answered."""

from dataclasses import dataclass

from amqtt.adapters import ReaderAdapter
from amqtt.mqtt.connect import ConnectPacket
from amqtt.mqtt.packet import CONNECT

from manager.broker.message import Message
from manager.broker.packets import Packet, PacketError, read_packet, read_with_amqtt

_MQTT_3_1_1 = b"\x00\x04MQTT\x04"
_MQTT_5 = b"\x00\x04MQTT\x05"
_HIGHEST_QOS = 2

UNSUPPORTED_VERSION = 1
IDENTIFIER_REJECTED = 2
SERVER_UNAVAILABLE = 3
NOT_AUTHORIZED = 5


def connack(code: int, *, session_present: bool = False) -> bytes:
    """Return a CONNACK packet (MQTT 3.1.1, 3.2); `code` 0 lets the client in."""
    return bytes((0x20, 0x02, int(session_present), code))


_CONNACK_MQTT_5_UNSUPPORTED = bytes((0x20, 0x03, 0x00, 0x84, 0x00))


class RefusedError(Exception):
    """A client is not let in; `answer` is the CONNACK that says so."""

    def __init__(self, reason: str, answer: bytes) -> None:
        self.answer = answer
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class Introduction:
    """What a client says of itself in its CONNECT."""

    client_id: str
    username: str | None
    password: str | None
    clean_session: bool
    keep_alive: int
    """Seconds; 0 asks for none."""

    will: Message | None
    will_retain: bool


async def read_introduction(reader: ReaderAdapter, limit: int) -> Introduction:
    """Read the first packet of a connection.

    Raises:
        PacketError: it is no CONNECT, or a malformed one.
        RefusedError: it is one that this broker does not serve.
        ConnectionLostError: the stream ended first.
    """
    packet = await read_packet(reader, limit, first_byte=CONNECT << 4)
    _check_version(packet)
    connect = await read_with_amqtt(ConnectPacket, packet)
    _check(connect)
    will = None
    if connect.will_flag and connect.will_topic is not None and connect.will_message is not None:
        will = Message(connect.will_topic, bytes(connect.will_message), connect.will_qos)
    return Introduction(
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
        raise RefusedError("it speaks MQTT 5", _CONNACK_MQTT_5_UNSUPPORTED)
    if packet.body.startswith((b"\x00\x04MQTT", b"\x00\x06MQIsdp")):
        raise RefusedError("it speaks another version of MQTT", connack(UNSUPPORTED_VERSION))
    raise PacketError("the first packet speaks no MQTT")


def _check(connect: ConnectPacket) -> None:
    """Refuse what MQTT 3.1.1, 3.1 forbids."""
    incomplete = (
        (connect.will_flag and (not connect.will_topic or connect.will_message is None))
        or (connect.username_flag and connect.username is None)
        or (connect.password_flag and connect.password is None)
    )
    if connect.reserved_flag or incomplete or connect.will_qos > _HIGHEST_QOS:
        raise PacketError("a CONNECT contradicts itself")
    if connect.password_flag and not connect.username_flag:
        raise PacketError("a CONNECT has a password and no user")
    if connect.client_id_is_random and not connect.clean_session_flag:
        raise RefusedError("it wants a stored session and names none", connack(IDENTIFIER_REJECTED))
