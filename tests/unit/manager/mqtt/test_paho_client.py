"""Packet ids and confirmations of the manager's client, against a broker that is a list."""

import socket
import time
from collections.abc import Iterator
from functools import partial

import pytest
from paho.mqtt.enums import _ConnectionState as ConnectionState

from manager import mqtt_packets as packets
from manager.mqtt.paho_client import BufferedClient
from manager.mqtt_packets import find_packet, puback_packets, read_publish

INFLIGHT = 2000
MANY = 100_000


class Peer:
    """The other end: knows which packet ids wait for its acknowledgement."""

    def __init__(self) -> None:
        ours, self.socket = socket.socketpair()
        ours.setblocking(False)
        self.socket.setblocking(False)
        self.client = BufferedClient("publisher")
        self.client._sock = ours
        self.waiting: dict[int, bytes] = {}
        self._buffer = b""

    def take(self) -> None:
        """Read what was published; an id that still waits must not come again."""
        while self.client._outbound:
            self.client.flush()
            self._buffer += self.socket.recv(1 << 20)
        at = 0
        while found := find_packet(self._buffer, at):
            body, end = found
            _, payload, number = read_publish(self._buffer, self._buffer[at], body, end)
            assert number not in self.waiting, f"packet id {number} is in use for {self.waiting[number]!r}"
            self.waiting[number] = payload
            at = end
        self._buffer = self._buffer[at:]

    def acknowledge(self, numbers: list[int]) -> None:
        for number in numbers:
            del self.waiting[number]
        self.socket.sendall(puback_packets(numbers))
        self.client.receive()
        self.client.process(lambda *_: None, MANY)

    def close(self) -> None:
        ours, self.client._sock = self.client._sock, None
        if ours is not None:
            ours.close()
        self.socket.close()


@pytest.fixture
def peer() -> Iterator[Peer]:
    peer = Peer()
    yield peer
    peer.close()


def test_a_packet_id_is_not_used_twice_while_one_waits(peer: Peer) -> None:
    """With one message never acknowledged, 70,000 later ones wrap around its id, and each confirms its own message."""
    confirmed: list[int] = []
    for number in range(70_000):
        peer.client.send("a", b"%d" % number, 1, confirm=partial(confirmed.append, number))
        if number % 500 == 499:
            peer.take()
            oldest = min(peer.waiting, key=lambda each: int(peer.waiting[each]))
            done = [each for each in peer.waiting if each != oldest]
            expected = [int(peer.waiting[each]) for each in done]
            before = len(confirmed)
            peer.acknowledge(done)
            assert confirmed[before:] == expected
    assert [int(payload) for payload in peer.waiting.values()] == [0]
    assert peer.client.unconfirmed == 1


def test_messages_beyond_the_window_wait_for_their_turn(peer: Peer) -> None:
    """No more than the window is in flight; an acknowledgement of an unknown id opens no place in it."""
    for number in range(INFLIGHT + 10):
        peer.client.send("a", b"%d" % number, 1)
    peer.take()
    assert len(peer.waiting) == INFLIGHT
    unknown = next(number for number in range(1, 0x100) if number not in peer.waiting)
    peer.socket.sendall(puback_packets([unknown]))
    peer.client.receive()
    peer.client.process(lambda *_: None, MANY)
    peer.take()
    assert len(peer.waiting) == INFLIGHT
    peer.acknowledge(sorted(peer.waiting)[:3])
    peer.take()
    assert len(peer.waiting) == INFLIGHT
    assert int(max(peer.waiting.values(), key=int)) == INFLIGHT + 2


def overdue(peer: Peer) -> None:
    """Make the client's last ping older than its keep-alive."""
    peer.client._last_bytes_received = peer.client._last_msg_out = time.monotonic() - 2


@pytest.fixture
def pinged(peer: Peer) -> Peer:
    """Give a connected client with a keep-alive of a second that has sent a ping."""
    client = peer.client
    client._keepalive = 1
    client._state = ConnectionState.MQTT_CS_CONNECTED
    overdue(peer)
    client.check_keep_alive(reading=True)
    assert client._ping_t
    overdue(peer)
    return peer


def test_messages_that_arrive_before_the_answer_to_a_ping_keep_the_connection(pinged: Peer) -> None:
    """A broker that delivers a backlog is alive, though its answer is behind it; later it must answer again."""
    pinged.socket.sendall(packets.publish_packet("a", b"1"))
    pinged.client.receive()
    pinged.client.process(lambda *_: None, MANY)
    pinged.client.check_keep_alive(reading=True)
    assert pinged.client._sock is not None
    overdue(pinged)
    with pytest.raises(TimeoutError, match="the broker has not answered for 1 s"):
        pinged.client.check_keep_alive(reading=True)


def test_a_ping_without_any_answer_ends_the_connection(pinged: Peer) -> None:
    """Nothing at all within the keep-alive is the broker's silence."""
    with pytest.raises(TimeoutError, match="the broker has not answered for 1 s"):
        pinged.client.check_keep_alive(reading=True)
