"""The simulator's MQTT packets: what it writes can be read, in pieces of any size, and nonsense ends a connection."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulate.doors import packets
from simulate.doors.packets import Framer, Packet, PacketError

TOPICS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@given(st.lists(st.tuples(TOPICS, st.binary(max_size=300), st.integers(0, 65_535)), max_size=8), st.data())
def test_messages_survive_any_cutting(messages: list[tuple[str, bytes, int]], data: st.DataObject) -> None:
    """Whatever pieces a stream arrives in, the same messages come out, each once and in order."""
    stream = b"".join(packets.publish(*each) for each in messages)
    framer, found, at = Framer(), [], 0
    while at < len(stream):
        size = data.draw(st.integers(1, len(stream) - at))
        found += [tuple(packets.message(packet)) for packet in framer.feed(stream[at : at + size])]
        at += size
    assert found == messages


@given(st.binary(max_size=200))
def test_any_bytes_are_taken_or_refused(data: bytes) -> None:
    """Noise is incomplete, or it is packets, or it is a `PacketError`: never another error."""
    try:
        for packet in Framer().feed(data):
            packets.message(packet)
            packets.return_code(packet)
    except PacketError:
        pass


def test_a_long_length_is_refused() -> None:
    """A length of five bytes, and a packet larger than anything that is sent to agents, end the connection."""
    with pytest.raises(PacketError, match="more than four bytes"):
        Framer().feed(b"\x30\xff\xff\xff\xff\x01")
    with pytest.raises(PacketError, match="a packet of 268435455 bytes"):
        Framer().feed(b"\x30\xff\xff\xff\x7f")


def test_a_connect_has_will_and_login() -> None:
    """Clean session, user name, password, and a retained will at QoS 1 (MQTT 3.1.1, 3.1)."""
    raw = packets.connect("id", "user", "password", 30, ("topic", b"will"))
    assert raw == b"\x10\x2b\x00\x04MQTT\x04\xee\x00\x1e\x00\x02id\x00\x05topic\x00\x04will\x00\x04user\x00\x08password"
    assert packets.connect("id", "u", "p", 30)[9] == 0xC2


def test_flags_of_a_message() -> None:
    """QoS 1 with an id, QoS 0 without; retained where asked for."""
    assert packets.publish("t", b"x")[0] == 0x30
    assert packets.publish("t", b"x", 1, retained=True)[0] == 0x33


@pytest.mark.parametrize(("codes", "granted"), [(b"\x01\x00", True), (b"\x01\x80", False), (b"", False)])
def test_a_refused_filter_is_seen(codes: bytes, *, granted: bool) -> None:
    """One refused filter of several, or an answer without any, is no grant."""
    assert packets.are_granted(Packet(packets.SUBACK, b"\x00\x01" + codes)) is granted
