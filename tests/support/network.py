"""Hosts as network namespaces, joined by a bridge: each with addresses of its own, real TCP between them."""

import ctypes
import os
import secrets
import socket
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

T = TypeVar("T")

_CLONE_NEWNET = 0x40000000


def ip(*words: str) -> None:
    """Run `ip`; a failure is an error with what it said."""
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)  # noqa: S603, S607 -- tests
    if done.returncode:
        raise OSError(f"ip {' '.join(words)}: {done.stderr.strip()}")


def missing() -> str | None:
    """Return why namespaces cannot be made here; None if they can."""
    probe = f"probe-{secrets.token_hex(3)}"
    try:
        ip("netns", "add", probe)
        ip("netns", "delete", probe)
    except OSError as error:
        return str(error)
    return None


class NetworkHost:
    """One namespace with its addresses.

    Args:
        name: of the namespace.
        addresses: with prefix lengths; the first is its usual one.
    """

    def __init__(self, name: str, addresses: tuple[str, ...]) -> None:
        self.name = name
        self.addresses = addresses

    def run(self, *words: str, input_: str | None = None) -> str:
        """Run a command in the namespace and return what it printed."""
        command = ["ip", "netns", "exec", self.name, *words]
        done = subprocess.run(command, input=input_, capture_output=True, text=True, check=False)  # noqa: S603 -- tests
        assert done.returncode == 0, (words, done.stderr)
        return done.stdout

    def start(self, *words: str, log: Path, directory: Path | None = None) -> subprocess.Popen[bytes]:
        """Start a process in the namespace; its output goes to a file."""
        with log.open("ab") as output:
            command = ["ip", "netns", "exec", self.name, *words]
            return subprocess.Popen(command, stdout=output, stderr=output, cwd=directory)  # noqa: S603 -- tests

    def within(self, work: Callable[[], T]) -> T:
        """Return what a function returns that runs in the namespace; sockets that it opens stay there."""
        result: list[T] = []
        failed: list[BaseException] = []

        def enter() -> None:
            try:
                libc = ctypes.CDLL(None, use_errno=True)
                with Path(f"/run/netns/{self.name}").open("rb") as namespace:
                    if libc.setns(namespace.fileno(), _CLONE_NEWNET):
                        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))  # noqa: TRY301
                result.append(work())
            except BaseException as error:  # noqa: BLE001 -- handed to the caller
                failed.append(error)

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        if failed:
            raise failed[0]
        return result[0]

    def connect(self, address: str, port: int, source: str = "", within: float = 1.0) -> socket.socket:
        """Return a TCP connection to another host, from one of this host's addresses."""
        return self.within(
            lambda: socket.create_connection(
                (address, port), timeout=within, source_address=(source, 0) if source else None
            )
        )

    def reaches(self, address: str, port: int, source: str = "", within: float = 0.6) -> bool:
        """Return whether a request is answered: a connection that carries payload both ways."""
        try:
            with self.connect(address, port, source, within) as connection:
                return exchanges(connection, within)
        except OSError:
            return False


def exchanges(connection: socket.socket, within: float = 0.6) -> bool:
    """Return whether an echo service still answers on a connection."""
    connection.settimeout(within)
    try:
        connection.sendall(b"ping")
        return connection.recv(16) == b"ping"
    except OSError:
        return False


class EchoService:
    """Answers each connection with what it sends, on a port of a namespace; a context manager."""

    def __init__(self, host: NetworkHost, port: int, family: socket.AddressFamily = socket.AF_INET6) -> None:
        self._listener = host.within(lambda: socket.create_server(("", port), family=family, dualstack_ipv6=True))
        self._threads: list[threading.Thread] = []
        self._open: list[socket.socket] = []

    def __enter__(self) -> Self:
        """Start accepting."""
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End every connection and wait for the threads."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(60)

    def _start(self, work: Callable[..., None], *given: object) -> None:
        thread = threading.Thread(target=work, args=given, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._open.append(connection)
                self._start(self._echo, connection)

    @staticmethod
    def _echo(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            while chunk := connection.recv(4096):
                connection.sendall(chunk)


class Network:
    """Namespaces on one bridge; a context manager that takes them away again."""

    def __init__(self) -> None:
        self._tag = secrets.token_hex(3)
        self._bridge = f"pg{self._tag}"
        self.hosts: list[NetworkHost] = []

    def __enter__(self) -> Self:
        """Make the bridge, in a namespace of its own."""
        ip("netns", "add", self._bridge)
        ip("-n", self._bridge, "link", "add", "hub", "type", "bridge")
        ip("-n", self._bridge, "link", "set", "hub", "up")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the namespaces away."""
        for name in [*(host.name for host in self.hosts), self._bridge]:
            ip("netns", "delete", name)

    def host(self, *addresses: str, gateway: str | None = None) -> NetworkHost:
        """Add a host with addresses such as `203.0.113.5/24` and `2001:db8::5/64`."""
        number = len(self.hosts)
        host = NetworkHost(f"pg{self._tag}-{number}", addresses)
        ip("netns", "add", host.name)
        self.hosts.append(host)
        ip("-n", host.name, "link", "add", "eth0", "type", "veth", "peer", "name", f"p{number}", "netns", self._bridge)
        ip("-n", self._bridge, "link", "set", f"p{number}", "master", "hub", "up")
        for address in addresses:
            beside = ("nodad",) if ":" in address else ()
            ip("-n", host.name, "address", "add", address, "dev", "eth0", *beside)
        ip("-n", host.name, "link", "set", "lo", "up")
        ip("-n", host.name, "link", "set", "eth0", "up")
        if gateway is not None:
            ip("-n", host.name, "route", "add", "default", "via", gateway)
        return host
