"""The proxy that tests put on a way: its delay is one of each byte, and takes nothing of the bandwidth."""

import socket
import threading
import time

from tests.support.tcp_proxy import TcpProxy

_MIB = 2**20
_DELAY = 1.0
_PIECES = 256


def test_a_delayed_large_answer_arrives_as_a_whole_after_one_delay() -> None:
    """An answer of 16 MiB comes late by the delay, and not by the delay for each piece of it."""
    answer = b"".join(number.to_bytes(2, "big") * (32 * 1024) for number in range(_PIECES))
    with socket.create_server(("127.0.0.1", 0)) as server, TcpProxy(server.getsockname()[1]) as proxy:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        with proxy.delaying(_DELAY), socket.create_connection(("127.0.0.1", proxy.port), timeout=60) as client:
            asked = time.monotonic()
            client.sendall(b"?")
            received = bytearray(client.recv(1))
            assert time.monotonic() - asked >= 2 * _DELAY
            deadline = asked + 60
            while len(received) < len(answer):
                assert time.monotonic() < deadline, f"{len(received) / _MIB:g} MiB arrived"
                received += client.recv(65536)
        thread.join(60)
    assert received == answer
