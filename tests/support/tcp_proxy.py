"""A TCP proxy on loopback that can cut, hold and delay connections, and deliver in pieces of any size."""

import contextlib
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator
from types import TracebackType
from typing import Self


class TcpProxy:
    """Forwards every connection to a port of this machine.

    Args:
        target: the port.
        piece: how many bytes towards the client go in one segment; None forwards them as they come.
    """

    def __init__(self, target: int, piece: int | None = None) -> None:
        self._target = target
        self._piece = piece
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._flows = {"server": threading.Event(), "client": threading.Event()}
        for flows in self._flows.values():
            flows.set()
        self._stranded: list[threading.Event] = []
        self._delay = 0.0

    @contextlib.contextmanager
    def holding(self, *, to_server: bool, to_client: bool) -> Iterator[None]:
        """Keep connections open within the block and carry nothing in one or both directions."""
        held = [self._flows[name] for name, wanted in (("server", to_server), ("client", to_client)) if wanted]
        for flows in held:
            flows.clear()
        try:
            yield
        finally:
            for flows in held:
                flows.set()

    @contextlib.contextmanager
    def delaying(self, seconds: float) -> Iterator[None]:
        """Deliver what arrives within the block so many seconds late, as much as arrives and in its order."""
        self._delay = seconds
        try:
            yield
        finally:
            self._delay = 0.0

    def strand(self) -> None:
        """Carry nothing more on the connections that are open, and leave them so until `cut`; new ones are served."""
        self._stranded += self._flows.values()
        self._flows = {"server": threading.Event(), "client": threading.Event()}
        for flows in self._flows.values():
            flows.set()
        for flows in self._stranded:
            flows.clear()

    @property
    def port(self) -> int:
        """Where the proxy listens."""
        return int(self._listener.getsockname()[1])

    def __enter__(self) -> Self:
        """Start accepting."""
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Cut everything and wait for the threads."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(60)

    def cut(self) -> None:
        """End every connection without a word, on both sides."""
        with self._lock:
            ends, self._open = self._open, []
        for flows in self._stranded:
            flows.set()
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _start(self, work: object, *args: object) -> None:
        thread = threading.Thread(target=work, args=args, name="tcp-proxy", daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._join(client)

    def _join(self, client: socket.socket) -> None:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            server = socket.create_connection(("127.0.0.1", self._target), timeout=60)
        except OSError:
            client.close()
            return
        server.settimeout(None)
        with self._lock:
            self._open += [client, server]
        self._start(self._pump, client, server, None, self._flows["server"])
        self._start(self._pump, server, client, self._piece, self._flows["client"])

    def _pump(self, source: socket.socket, sink: socket.socket, piece: int | None, flows: threading.Event) -> None:
        """Carry one direction until it ends; the source is closed by the thread that reads it."""
        line: deque[tuple[float, bytes]] = deque()
        with source, contextlib.suppress(OSError):
            readable = select.poll()
            readable.register(source, select.POLLIN)
            has_ended = False
            while line or not has_ended:
                if not has_ended and (not line or readable.poll(_left(line) * 1000)):
                    chunk = source.recv(65536)
                    has_ended = not chunk
                    if chunk:
                        line.append((max(time.monotonic() + self._delay, line[-1][0] if line else 0.0), chunk))
                elif has_ended:
                    # the delay is what this proxy is asked for
                    time.sleep(_left(line))
                while line and _left(line) <= 0:
                    flows.wait()
                    self._send(sink, line.popleft()[1], piece)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    @staticmethod
    def _send(sink: socket.socket, chunk: bytes, piece: int | None) -> None:
        step = piece or len(chunk)
        for start in range(0, len(chunk), step):
            sink.sendall(chunk[start : start + step])


def _left(line: deque[tuple[float, bytes]]) -> float:
    """Return the seconds until the first bytes of a delay line are due."""
    return max(0.0, line[0][0] - time.monotonic())
