"""MQTT packets that only benchmarks need; the manager's codec has the others."""

import struct
from collections.abc import Iterator

from manager.mqtt_packets import PUBACK, PUBLISH, TYPE_MASK, find_packet, remaining_length

CONNACK, SUBACK = 0x20, 0x90
__all__ = ["CONNACK", "PUBACK", "PUBLISH", "SUBACK", "connect", "is_kind", "split", "subscribe"]


def connect(client_id: str, username: str, password: str, *, clean: bool = True) -> bytes:
    """Return a CONNECT without keep-alive."""
    flags = 0xC0 | (0x02 if clean else 0)
    body = _text("MQTT") + bytes([4, flags, 0, 0]) + _text(client_id) + _text(username) + _text(password)
    return b"\x10" + remaining_length(len(body)) + body


def subscribe(mid: int, topic: str, qos: int) -> bytes:
    """Return a SUBSCRIBE to one filter."""
    body = struct.pack(">H", mid) + _text(topic) + bytes([qos])
    return b"\x82" + remaining_length(len(body)) + body


def split(buffer: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield the whole packets in `buffer`: first byte, where the body starts, where it ends."""
    at = 0
    while found := find_packet(buffer, at):
        yield buffer[at], *found
        at = found[1]


def is_kind(first: int, kind: int) -> bool:
    """Return whether a packet's first byte is of a kind."""
    return first & TYPE_MASK == kind


def _text(text: str) -> bytes:
    raw = text.encode()
    return struct.pack(">H", len(raw)) + raw
