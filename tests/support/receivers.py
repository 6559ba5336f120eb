"""Receivers of notifications on loopback: HTTP, syslog over UDP, TCP and TLS, and some that misbehave."""

import json
import socket
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from manager.tls.authority import issue, new_authority


@dataclass
class Certificates:
    """A server's context for 127.0.0.1, and the file of its authority."""

    server: ssl.SSLContext
    ca_file: Path


def certificates(folder: Path, hosts: tuple[str, ...] = ("127.0.0.1", "localhost")) -> Certificates:
    """Make an authority and a server's certificate."""
    authority = new_authority(datetime.now(UTC))
    issued = issue(authority, hosts, datetime.now(UTC))
    (folder / "ca.crt").write_bytes(authority.certificate_pem)
    (folder / "server.crt").write_bytes(issued.certificate_pem)
    (folder / "server.key").write_bytes(issued.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.crt", folder / "server.key")
    return Certificates(context, folder / "ca.crt")


@dataclass
class Request:
    """One request that an HTTP receiver got."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class HttpReceiver:
    """What an HTTP receiver got, and what it answers."""

    port: int = 0
    requests: list[Request] = field(default_factory=list)
    answer: Callable[[Request], tuple[int, dict[str, str]]] = lambda _request: (204, {})
    text: bytes = b""

    def ids(self) -> list[str]:
        """Return the ids of the events."""
        return [json.loads(request.body)["id"] for request in tuple(self.requests)]


@contextmanager
def http_receiver(tls: ssl.SSLContext | None = None) -> Iterator[HttpReceiver]:
    """Run an HTTP receiver."""
    receiver = HttpReceiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(self.path, headers, self.rfile.read(length))
            receiver.requests.append(request)
            status, answered = receiver.answer(request)
            self.send_response(status)
            for name, value in answered.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(receiver.text)))
            self.end_headers()
            self.wfile.write(receiver.text)

        do_GET = do_POST  # noqa: N815 -- the name that http.server calls

        def log_message(self, *_: Any) -> None:
            """Print nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """Print nothing: clients that distrust the certificate leave."""

    server = Server(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    receiver.port = server.server_port
    with _serving(server):
        yield receiver


@contextmanager
def _serving(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass
class SyslogReceiver:
    """The messages that a syslog receiver got."""

    port: int = 0
    messages: list[bytes] = field(default_factory=list)

    def ids(self) -> list[str]:
        """Return the ids of the events."""
        return [json.loads(message[message.index(b"{") :])["event"]["id"] for message in tuple(self.messages)]


def ids_in_file(path: Path) -> list[str]:
    """Return the ids of the events in the file of a channel."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line)["event"]["id"] for line in lines]


@contextmanager
def syslog_datagrams() -> Iterator[SyslogReceiver]:
    """Run a syslog receiver over UDP."""
    receiver = SyslogReceiver()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            receiver.messages.append(self.request[0])

    server = socketserver.UDPServer(("127.0.0.1", 0), Handler)
    receiver.port = server.server_address[1]
    with _serving(server):
        yield receiver


@contextmanager
def syslog_stream(tls: ssl.SSLContext | None = None) -> Iterator[SyslogReceiver]:
    """Run a syslog receiver over TCP or TLS that counts octets; like usual ones it closes when its client has."""
    receiver = SyslogReceiver()

    class Handler(socketserver.StreamRequestHandler):
        def setup(self) -> None:
            if tls is not None:
                self.request = tls.wrap_socket(self.request, server_side=True)
            super().setup()

        def handle(self) -> None:
            while (digits := _until_space(self.rfile)) is not None:
                receiver.messages.append(self.rfile.read(int(digits)))

        def finish(self) -> None:
            super().finish()
            if tls is not None:
                self.request.close()

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True

        def handle_error(self, *_: Any) -> None:
            """Print nothing: clients that distrust the certificate leave."""

    server = Server(("127.0.0.1", 0), Handler)
    receiver.port = server.server_address[1]
    with _serving(server):
        yield receiver


def _until_space(stream: Any) -> bytes | None:
    digits = b""
    while (byte := stream.read(1)) not in (b" ", b""):
        digits += byte
    return digits if byte else None


@contextmanager
def silent_receiver() -> Iterator[int]:
    """Listen on a port, accept connections and never say or read anything; yields the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@contextmanager
def dripping_receiver(drops: bytes) -> Iterator[int]:
    """Answer each connection with these bytes again and again, slowly and without an end; yields the port."""
    ended = threading.Event()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            try:
                while not ended.wait(0.1):
                    self.request.sendall(drops)
            except OSError:
                return

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    server = Server(("127.0.0.1", 0), Handler)
    with _serving(server):
        try:
            yield server.server_address[1]
        finally:
            ended.set()


def closed_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
