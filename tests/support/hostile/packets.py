"""What a broker reads and answers of MQTT 3.1.1 beyond messages: who connects, who subscribes, and the answers."""

import struct
from collections.abc import Iterator
from typing import NamedTuple

CONNECT, PUBLISH, PUBACK, SUBSCRIBE, UNSUBSCRIBE, PINGREQ, DISCONNECT = 0x10, 0x30, 0x40, 0x80, 0xA0, 0xC0, 0xE0
PINGRESP = b"\xd0\x00"
_CLEAN, _WILL, _WILL_QOS, _WILL_RETAINED = 0x02, 0x04, 0x18, 0x20


class Message(NamedTuple):
    """What somebody publishes."""

    topic: str
    payload: bytes
    qos: int = 1
    retained: bool = False


class Hello(NamedTuple):
    """A CONNECT, without name and password: this broker lets in everybody."""

    client_id: str
    clean: bool
    will: Message | None


def read_hello(body: bytes) -> Hello:
    """Read a CONNECT."""
    _, at = _text(body, 0)
    flags = body[at + 1]
    client_id, at = _text(body, at + 4)
    will = None
    if flags & _WILL:
        topic, at = _text(body, at)
        payload, at = _bytes(body, at)
        will = Message(topic.decode(), payload, (flags & _WILL_QOS) >> 3, bool(flags & _WILL_RETAINED))
    return Hello(client_id.decode(), bool(flags & _CLEAN), will)


def read_filters(body: bytes, *, with_qos: bool) -> Iterator[tuple[str, int]]:
    """Yield the filters of a SUBSCRIBE with their QoS, or of an UNSUBSCRIBE with none."""
    at = 2
    while at < len(body):
        text, at = _text(body, at)
        yield text.decode(), body[at] if with_qos else 0
        at += with_qos


def hello_taken(*, session_present: bool) -> bytes:
    """Return a CONNACK."""
    return bytes([0x20, 2, session_present, 0])


def published(mid: int) -> bytes:
    """Return a PUBACK."""
    return struct.pack(">BBH", PUBACK, 2, mid)


def subscribed(mid: int, granted: list[int]) -> bytes:
    """Return a SUBACK."""
    return struct.pack(">BBH", 0x90, 2 + len(granted), mid) + bytes(granted)


def unsubscribed(mid: int) -> bytes:
    """Return an UNSUBACK."""
    return struct.pack(">BBH", 0xB0, 2, mid)


def _bytes(body: bytes, at: int) -> tuple[bytes, int]:
    end = at + 2 + int.from_bytes(body[at : at + 2])
    return body[at + 2 : end], end


_text = _bytes
