"""The network between a group's members and their servers: what it holds, delays and cuts."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from chaos.scale.network import Network, Way
from tests.support.waiting import eventually

_MIB = 2**20


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(60)
        yield listening


@pytest.fixture
def way(server: socket.socket) -> Iterator[Way]:
    with Network() as network:
        yield network.way(server.getsockname()[1])


def _connected(way: Way, server: socket.socket) -> tuple[socket.socket, socket.socket]:
    client = socket.create_connection(("127.0.0.1", way.port), timeout=60)
    accepted, _ = server.accept()
    accepted.settimeout(60)
    return client, accepted


def _has_bytes(end: socket.socket) -> bool:
    end.setblocking(False)
    try:
        return bool(end.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False
    finally:
        end.settimeout(60)


def test_a_held_direction_carries_nothing_until_it_is_released(way: Way, server: socket.socket) -> None:
    """Bytes for the server wait and bytes for the client arrive; later all arrives, and the end behind it."""
    client, accepted = _connected(way, server)
    with client, accepted:
        with way.holding("server"):
            client.sendall(b"one")
            accepted.sendall(b"answer")
            assert client.recv(6) == b"answer"
            client.sendall(b"two")
            client.shutdown(socket.SHUT_WR)
            assert not _has_bytes(accepted)
        eventually(lambda: _has_bytes(accepted), what="the held bytes arrive")
        received = b""
        while data := accepted.recv(100):
            received += data
        assert received == b"onetwo"


def test_a_large_answer_is_late_by_one_delay(way: Way, server: socket.socket) -> None:
    """The delay is one of each byte: 16 MiB arrive a second late, not a second late for each piece; none is lost."""
    client, accepted = _connected(way, server)
    answer = bytes(range(256)) * (_MIB // 16)
    with client, accepted:
        with way.delaying(1.0):
            began = time.monotonic()
            accepted.setblocking(True)
            client.settimeout(60)
            sent = accepted.send(answer)
            received = bytearray(client.recv(1))
            assert time.monotonic() - began >= 1.0
        while len(received) < sent:
            assert time.monotonic() - began < 60
            received += client.recv(65536)
    assert received == answer[:sent]


def test_a_cut_ends_both_sides_and_new_connections_are_served(way: Way, server: socket.socket) -> None:
    """A cut takes what is on its way with it."""
    client, accepted = _connected(way, server)
    with client, accepted:
        way.cut()
        for end in (client, accepted):
            try:
                assert end.recv(1) == b""
            except ConnectionError:
                continue
    client, accepted = _connected(way, server)
    with client, accepted:
        client.sendall(b"again")
        assert accepted.recv(5) == b"again"


_DROPPED = """
import socket
from chaos.scale import firewall
from chaos.scale.network import Network
from tests.support.waiting import eventually

firewall.open_loopback()
with socket.create_server(("127.0.0.1", 0)) as server, Network() as network:
    way = network.way(server.getsockname()[1])
    with socket.create_connection(("127.0.0.1", way.port), timeout=60) as client:
        accepted, _ = server.accept()
        accepted.settimeout(60)
        with way.dropping("server"):
            client.sendall(b"one")
            accepted.sendall(b"answer")
            assert client.recv(6) == b"answer"
            accepted.setblocking(False)
            try:
                print("arrived", accepted.recv(3))
            except BlockingIOError:
                print("dropped")
            accepted.settimeout(60)
        print(accepted.recv(3).decode())
        accepted.close()
"""


@pytest.mark.namespaces
def test_the_kernel_drops_one_direction_in_a_namespace_of_its_own() -> None:
    """Packets to the server are dropped and those to the client arrive; TCP sends them again later."""
    done = subprocess.run(  # noqa: S603 -- the test's own words
        ["unshare", "--net", sys.executable, "-c", _DROPPED],  # noqa: S607
        env={**os.environ, "PANGUARD_CHAOS_NAMESPACE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stdout.split()) == (0, ["dropped", "one"]), done.stderr
