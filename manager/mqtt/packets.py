"""The MQTT 3.1.1 packets that are frequent, as bytes: messages and their acknowledgements. paho does the rest."""

import struct

PUBLISH, PUBACK = 0x30, 0x40
KIND = 0xF0
"""The bits of a packet's first byte that say what it is."""

QOS = 0x06
QOS_1 = 0x02
RETAIN = 0x01
_DIGIT, _MORE = 0x7F, 0x80
_LONGEST_LENGTH = 4
_HEAD = 2


class MalformedPacketError(ConnectionError):
    """What the broker sent is no MQTT: the connection is of no use any more."""


def frame(buffer: bytes, at: int) -> tuple[int, int] | None:
    """Return where the body of the packet at `at` starts and ends; None while a part of it is missing.

    Raises:
        MalformedPacketError: no packet has such a length.
    """
    have = len(buffer)
    if have - at < _HEAD:
        return None
    body = at + _HEAD
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


def read_message(buffer: bytes, first: int, body: int, end: int) -> tuple[bytes, bytes, int]:
    """Return topic, payload and packet id of a PUBLISH that lies in `buffer`; the id is 0 with QoS 0.

    Raises:
        MalformedPacketError: it has QoS 2, which nobody subscribed to, or its parts do not fit in it.
    """
    start = body + _HEAD
    qos = first & QOS
    rest = start + (buffer[body] << 8 | buffer[body + 1]) if start <= end else end + 1
    payload = rest + _HEAD if qos else rest
    if qos > QOS_1 or payload > end:
        raise MalformedPacketError("a message is malformed")
    mid = buffer[rest] << 8 | buffer[rest + 1] if qos else 0
    return buffer[start:rest], buffer[payload:end], mid


def message(topic: str, payload: bytes, mid: int = 0, *, retained: bool = False) -> bytes:
    """Return a PUBLISH: QoS 1 with a packet id, QoS 0 without."""
    raw = topic.encode()
    first = PUBLISH | (QOS_1 if mid else 0) | (RETAIN if retained else 0)
    number = struct.pack(">H", mid) if mid else b""
    length = encoded_length(_HEAD + len(raw) + len(number) + len(payload))
    return b"%c%b%b%b%b%b" % (first, length, struct.pack(">H", len(raw)), raw, number, payload)


def acknowledgements(mids: list[int]) -> bytes:
    """Return one PUBACK for each packet id."""
    return struct.pack(f">{len(mids)}I", *[PUBACK << 24 | _HEAD << 16 | mid for mid in mids])


def encoded_length(length: int) -> bytes:
    """Return the remaining length of a packet as it stands behind the first byte."""
    digits = bytearray()
    while True:
        length, digit = length >> 7, length & _DIGIT
        digits.append(digit | (_MORE if length else 0))
        if not length:
            return bytes(digits)
