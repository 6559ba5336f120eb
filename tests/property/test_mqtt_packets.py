"""A stream yields the same messages, however it is split; noise ends the connection."""

import contextlib
import itertools
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manager import mqtt_packets as packets
from manager.mqtt.paho_client import BufferedClient

Message = tuple[str, bytes, int, bool]

PINGRESP = b"\xd0\x00"
topics = st.text("abc/ä", min_size=1, max_size=20)
payloads = st.binary(max_size=40) | st.integers(100, 20_000).map(bytes)
messages = st.tuples(topics, payloads, st.sampled_from([0, 1, 0xFFFF]), st.booleans())
streams = st.lists(messages | st.just(None), max_size=12)


def read(stream: bytes, cuts: list[int], room: int) -> list[Message]:
    """Feed a client the stream in pieces; return what it delivers when there is room for that many at a time."""
    ours, theirs = socket.socketpair()
    client = BufferedClient("reader")
    client._sock = ours
    ours.setblocking(False)
    found: list[Message] = []

    def deliver(topic: bytes, payload: bytes, mid: int, retained: bool) -> None:
        found.append((topic.decode(), payload, mid, retained))

    with theirs, contextlib.closing(ours):
        places = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
        for start, end in itertools.pairwise(places):
            theirs.sendall(stream[start:end])
            client.receive()
            client.process(deliver, room)
            while client.pending:
                before = len(found)
                client.process(deliver, room)
                assert len(found) <= before + room
        client._sock = None
    return found


@given(streams, st.lists(st.integers(0, 200_000), max_size=30), st.integers(1, 5))
def test_messages_survive_any_split(stream: list[Message | None], cuts: list[int], room: int) -> None:
    """Every message comes out once, in order, with other packets between them, however the bytes are cut."""
    written = b"".join(
        PINGRESP if message is None else packets.publish_packet(*message[:3], retained=message[3]) for message in stream
    )
    assert read(written, cuts, room) == [message for message in stream if message is not None]


@given(st.binary(min_size=1, max_size=60))
def test_noise_is_refused_and_nothing_else(noise: bytes) -> None:
    """Bytes that are no MQTT end the connection with OSError, or wait for more; nothing else is raised."""
    with contextlib.suppress(OSError):
        read(noise, [], 1)


@pytest.mark.parametrize(
    "packet",
    [
        b"\x30\x01a",
        b"\x30\x03\x00\x05a",
        b"\x32\x04\x00\x02ab",
        b"\x34\x07\x00\x01a\x00\x01xx",
        b"\x30\xff\xff\xff\xff\x01",
    ],
    ids=["no room for a topic", "topic beyond its end", "no room for an id", "QoS 2", "five digits of length"],
)
def test_malformed_messages_end_the_connection(packet: bytes) -> None:
    """A message whose parts do not fit, or with QoS 2, is never delivered."""
    with pytest.raises(packets.MalformedPacketError):
        read(packet, [], 1)
