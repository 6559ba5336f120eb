"""The server's port and its end."""

import gc
import socket
import ssl
import threading
from pathlib import Path

import pytest
from starlette.types import Receive, Scope, Send

from manager.api.serving import http_connection
from manager.api.serving.server import ApiServer
from manager.errors import SetupError
from manager.tls.server_certificate import CertificateFiles
from tests.support.impostor import Authority


async def _teapot(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers 418 to everything."""
    if scope["type"] == "lifespan":
        await _application(scope, receive, send)
        return
    await send({"type": "http.response.start", "status": 418, "headers": []})
    await send({"type": "http.response.body"})


async def _application(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers nothing to `/never`; everything else gets 204."""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    if scope["path"] == "/never":
        while (await receive())["type"] != "http.disconnect":
            pass
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


def _taken() -> socket.socket:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.listen()
    return listener


def test_the_port_is_open_when_start_returns() -> None:
    """Port 0 takes a free one, and the server's url names it."""
    server = ApiServer(_application, "127.0.0.1", 0)
    server.start()
    try:
        assert server.port != 0
        assert server.url == f"http://127.0.0.1:{server.port}"
        socket.create_connection(("127.0.0.1", server.port)).close()
    finally:
        server.stop()


def test_a_port_that_stays_taken_is_a_sentence() -> None:
    """The error names the port and what to do."""
    with _taken() as other:
        port = other.getsockname()[1]
        with pytest.raises(SetupError, match=f"127.0.0.1:{port} is taken"):
            ApiServer(_application, "127.0.0.1", port, port_wait=0.0).start()


def test_an_address_that_is_not_this_machines_is_a_sentence() -> None:
    """No waiting for an address that will never be here."""
    with pytest.raises(SetupError, match=r"cannot listen on 192\.0\.2\.1"):
        ApiServer(_application, "192.0.2.1", 8443).start()


def test_a_port_that_comes_free_is_taken() -> None:
    """A restart waits for the manager before it to leave."""
    other = _taken()
    server = ApiServer(_application, "127.0.0.1", other.getsockname()[1], port_wait=30.0)
    release = threading.Timer(0.2, other.close)
    release.start()
    server.start()
    server.stop()
    release.join()
    assert server.port != 0


def test_stop_ends_idle_connections_and_requests_that_hang() -> None:
    """Neither a silent connection nor a request without end keeps the server, and its port is free after it."""
    server = ApiServer(_application, "127.0.0.1", 0)
    server.start()
    idle = socket.create_connection(("127.0.0.1", server.port))
    hanging = socket.create_connection(("127.0.0.1", server.port))
    hanging.sendall(b"GET /never HTTP/1.1\r\nHost: x\r\n\r\n")
    served = socket.create_connection(("127.0.0.1", server.port))
    served.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert served.recv(100).startswith(b"HTTP/1.1 204")
    server.stop()
    assert [thread.name for thread in threading.enumerate() if thread.name == "api"] == []
    again = ApiServer(_application, "127.0.0.1", server.port, port_wait=0.0)
    again.start()
    again.stop()
    for connection in (idle, hanging, served):
        connection.close()


def test_the_next_server_has_every_new_connection() -> None:
    """A server that accepts no more goes on with its open connections; those that come later are another server's."""
    listener = _taken()
    first = ApiServer(_application, "127.0.0.1", 0, listener=listener)
    second = ApiServer(_teapot, "127.0.0.1", 0, listener=listener)
    first.start()
    kept = socket.create_connection(listener.getsockname())
    assert _status(kept) == 204
    first.stop_accepting()
    second.start()
    later = [socket.create_connection(listener.getsockname()) for _ in range(100)]
    try:
        assert {_status(each) for each in later} == {418}
        assert _status(kept) == 204
    finally:
        first.stop()
        second.stop()
        for each in (kept, *later, listener):
            each.close()


def _status(connection: socket.socket) -> int:
    connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    return int(connection.recv(100).split()[1])


def test_a_client_that_shakes_no_hands_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An open connection that never says its TLS hello does not stay."""
    monkeypatch.setattr(http_connection, "HANDSHAKE_TIMEOUT", 0.2)
    tls = CertificateFiles(*Authority(tmp_path, "ours").server("http")).context()
    server = ApiServer(_application, "127.0.0.1", 0, tls=tls)
    server.start()
    try:
        assert server.url == f"https://127.0.0.1:{server.port}"
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as silent:
            assert silent.recv(1) == b""
    finally:
        server.stop()


def test_a_silent_tls_connection_ends_with_the_server(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A client that answers no farewell is cut: the process goes on without its socket and logs nothing of it."""
    tls = CertificateFiles(*Authority(tmp_path, "ours").server("http")).context()
    server = ApiServer(_application, "127.0.0.1", 0, tls=tls)
    server.start()
    client = ssl.create_default_context()
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=60)
    with client.wrap_socket(connection) as silent:
        assert _status(silent) == 204
        server.stop()
    gc.collect()
    assert [record.getMessage() for record in caplog.records if "Cancel" in record.getMessage()] == []
