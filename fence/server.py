"""The fence's socket: one JSON object per line in each direction; only root and the guard's user may connect."""

import json
import os
import selectors
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from fence.host import release_memory
from fence.manifest import ManifestError
from fence.nft import KernelError
from fence.service import Fence, Peer

LINE_LIMIT = 5 * 1024 * 1024
_CLIENTS = 16
_LARGE = 64 * 1024
_MEND_DELAY = 0.2
_MARK_EVERY = 60.0
_VERIFY_EVERY = 600.0
_PEERCRED = struct.Struct("3i")


def listen(path: Path, guard_gid: int | None) -> socket.socket:
    """Return the listening socket: the one passed by systemd, else a new one at the path (mode 0660).

    Raises:
        OSError: the socket cannot be created.
    """
    if os.environ.get("LISTEN_PID") == str(os.getpid()) and os.environ.get("LISTEN_FDS") == "1":
        return socket.socket(fileno=3)
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    with suppress(FileNotFoundError):
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o117)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    if guard_gid is not None:
        os.chown(path, 0, guard_gid)
    listener.listen(_CLIENTS)
    return listener


class Client:
    """One connection, with the received part of its next line."""

    def __init__(self, connection: socket.socket, peer: Peer) -> None:
        self.connection = connection
        self.peer = peer
        self.received = bytearray()


class Server:
    """Serves the fence until `stop`, or until the idle timeout without measures and clients.

    Args:
        fence: answers the requests.
        listener: the listening socket.
        guard_uid: the only user besides root that gets answers.
        check_interval: seconds between two checks of the kernel's table.
        idle_exit: seconds without a measure or a client after which the server ends; 0 for never.
        changes: a socket that becomes readable when the kernel's tables change; None if not available.
        alive: called at least every check interval, to notify the service manager.
        log: called with each event.
    """

    def __init__(
        self,
        fence: Fence,
        listener: socket.socket,
        *,
        guard_uid: int | None,
        check_interval: float,
        idle_exit: float,
        changes: socket.socket | None,
        alive: Callable[[], None],
        log: Callable[[dict[str, Any]], None],
    ) -> None:
        self._fence = fence
        self._listener = listener
        self._guard_uid = guard_uid
        self._check_interval = check_interval
        self._idle_exit = idle_exit
        self._changes = changes
        self._alive = alive
        self._log = log
        self._clients: set[Client] = set()
        self._selector = selectors.DefaultSelector()
        self._stopping = False
        listener.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ, None)
        if changes is not None:
            self._selector.register(changes, selectors.EVENT_READ, changes)

    def stop(self) -> None:
        """Make `serve` return after its current step."""
        self._stopping = True

    def serve(self) -> None:
        """Answer requests and keep the kernel's table equal to the manifest."""
        now = time.monotonic()
        next_check, next_mark, next_verify = now + self._check_interval, now + _MARK_EVERY, now + _VERIFY_EVERY
        busy_at = now
        while not self._stopping:
            for key, _ in self._selector.select(max(0.0, min(next_check - time.monotonic(), 5.0))):
                if key.data is None:
                    self._accept()
                elif isinstance(key.data, Client):
                    self._read(key.data)
                else:
                    self._drain_changes()
                    next_check = min(next_check, time.monotonic() + _MEND_DELAY)
            now = time.monotonic()
            if now >= next_check:
                next_check = now + self._check_interval
                self._guarded(self._fence.check)
                self._alive()
            if now >= next_mark:
                next_mark = now + _MARK_EVERY
                self._guarded(self._fence.mark_time)
            if now >= next_verify:
                next_verify = now + _VERIFY_EVERY
                self._guarded(self._fence.enforcement.verify)
            if self._fence.measures or self._clients:
                busy_at = now
            if self._idle_exit and now - busy_at >= self._idle_exit:
                self._log({"event": "idle_exit"})
                return

    def _guarded(self, work: Callable[[], object]) -> None:
        try:
            work()
        except (KernelError, ManifestError) as error:
            self._log({"event": "check_failed", "reason": str(error)})

    def _drain_changes(self) -> None:
        """Read and drop the kernel's notifications of changed tables."""
        assert self._changes is not None  # noqa: S101 -- registered only where there is one
        with suppress(OSError):  # also ENOBUFS: more changes than the socket holds
            while self._changes.recv(65_536):
                pass

    def _accept(self) -> None:
        with suppress(OSError):
            connection, _ = self._listener.accept()
            pid, uid, _gid = _PEERCRED.unpack(
                connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size)
            )
            if (uid not in {0, self._guard_uid}) or len(self._clients) >= _CLIENTS:
                self._log({"event": "peer_refused", "uid": uid, "pid": pid})
                connection.close()
                return
            connection.settimeout(10)
            client = Client(connection, Peer(uid, pid))
            self._clients.add(client)
            self._selector.register(connection, selectors.EVENT_READ, client)

    def _read(self, client: Client) -> None:
        try:
            chunk = client.connection.recv(262_144)
        except OSError:
            chunk = b""
        client.received += chunk
        if not chunk or len(client.received) > LINE_LIMIT:
            self._drop(client)
            return
        while (end := client.received.find(b"\n")) >= 0:
            line = bytes(client.received[:end])
            del client.received[: end + 1]
            try:
                request = json.loads(line)
            except (ValueError, RecursionError):
                request = None
            answer = self._fence.answer(client.peer, request)
            try:
                client.connection.sendall(json.dumps(answer, separators=(",", ":")).encode() + b"\n")
            except OSError:
                self._drop(client)
                return
            if len(line) > _LARGE:
                del line, request
                release_memory()

    def _drop(self, client: Client) -> None:
        self._clients.discard(client)
        with suppress(KeyError, ValueError):
            self._selector.unregister(client.connection)
        client.connection.close()
