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

from fence.manifest import ManifestError
from fence.memory import release_memory
from fence.nft import KernelError
from fence.service import Fence, Peer

LINE_LIMIT = 5 * 1024 * 1024
_CLIENTS = 16
_LARGE = 64 * 1024
_BACKLOG = 128
"""Connections that may wait to be accepted; all of them are, before the next request is answered."""

_GUARD_CLIENTS = 8
"""Connections that the guard's user may hold, so that it cannot keep root out."""

_IDLE = 30.0
"""Seconds without a complete request after which a connection is closed."""

_SEND_WITHIN = 2.0
"""Seconds within which a client must take an answer."""

_MEND_DELAY = 0.2
_MARK_EVERY = 60.0
_VERIFY_EVERY = 600.0
_PEERCRED = struct.Struct("3i")


def listen(path: Path, guard_gid: int | None) -> socket.socket:
    """Return the listening socket: the one passed by systemd, else a new one at the path (mode 0660).

    Missing directories are made for root and the guard's group only.

    Raises:
        OSError: the socket cannot be created.
    """
    if os.environ.get("LISTEN_PID") == str(os.getpid()) and os.environ.get("LISTEN_FDS") == "1":
        return socket.socket(fileno=3)
    _make_directory(path.parent, guard_gid)
    with suppress(FileNotFoundError):
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o117)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    if guard_gid is not None:
        os.chown(path, 0, guard_gid, follow_symlinks=False)
    listener.listen(_BACKLOG)
    return listener


def _make_directory(directory: Path, guard_gid: int | None) -> None:
    """Create a directory and its missing parents, whatever the umask is: mode 0750, for root and the guard's group."""
    missing = [each for each in (directory, *directory.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(mode=0o700)
        if guard_gid is not None:
            os.chown(each, 0, guard_gid)
            each.chmod(0o750)


class Client:
    """One connection, with the received part of its next lines.

    Args:
        connection: the socket.
        peer: its user and process.
        now: the monotonic time, from which it counts as idle.
    """

    def __init__(self, connection: socket.socket, peer: Peer, now: float) -> None:
        self.connection = connection
        self.peer = peer
        self.received = bytearray()
        self.idle_since = now

    @property
    def has_line(self) -> bool:
        """Whether a complete line waits for its answer."""
        return b"\n" in self.received


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
        release_memory()  # the table was built from the manifest
        now = time.monotonic()
        next_check, next_mark, next_verify = now, now + _MARK_EVERY, now + _VERIFY_EVERY
        busy_at = now
        while not self._stopping:
            waiting = any(client.has_line for client in self._clients)
            for key, _ in self._selector.select(0.0 if waiting else max(0.0, min(next_check - time.monotonic(), 5.0))):
                if key.data is None:
                    self._accept_waiting()
                elif isinstance(key.data, Client):
                    self._read(key.data)
                else:
                    self._drain_changes()
                    next_check = min(next_check, time.monotonic() + _MEND_DELAY)
            self._answer_next()
            now = time.monotonic()
            self._drop_idle(now)
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
                release_memory()
            if self._fence.is_needed or self._clients:
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

    def _accept_waiting(self) -> None:
        for _ in range(_BACKLOG):
            if not self._accept():
                return

    def _accept(self) -> bool:
        """Take one waiting connection; return whether there was one."""
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return False
        with suppress(OSError):
            pid, uid, _gid = _PEERCRED.unpack(
                connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size)
            )
            of_guard = sum(1 for client in self._clients if client.peer.uid != 0)
            full = len(self._clients) >= _CLIENTS or (uid != 0 and of_guard >= _GUARD_CLIENTS)
            if uid not in {0, self._guard_uid} or full:
                self._log({"event": "peer_refused", "uid": uid, "pid": pid})
                connection.close()
                return True
            connection.settimeout(_SEND_WITHIN)
            client = Client(connection, Peer(uid, pid), time.monotonic())
            self._clients.add(client)
            self._selector.register(connection, selectors.EVENT_READ, client)
        return True

    def _read(self, client: Client) -> None:
        if client.has_line:  # the kernel holds the rest until that is answered
            return
        try:
            chunk = client.connection.recv(262_144)
        except OSError:
            chunk = b""
        client.received += chunk
        if not chunk or len(client.received) > LINE_LIMIT:
            self._drop(client)

    def _answer_next(self) -> None:
        """Answer one line of each of root's connections, then one line of the guard's that has waited longest."""
        waiting = sorted((client for client in self._clients if client.has_line), key=lambda each: each.idle_since)
        for client in [each for each in waiting if each.peer.uid == 0]:
            self._answer(client)
        for client in [each for each in waiting if each.peer.uid != 0][:1]:
            self._answer(client)

    def _answer(self, client: Client) -> None:
        end = client.received.find(b"\n")
        line = bytes(client.received[:end])
        del client.received[: end + 1]
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            request = None
        answer = self._fence.answer(client.peer, request)
        client.idle_since = time.monotonic()
        try:
            client.connection.sendall(json.dumps(answer, separators=(",", ":")).encode() + b"\n")
        except OSError:
            self._drop(client)
        if len(line) > _LARGE:
            del line, request
            release_memory()

    def _drop_idle(self, now: float) -> None:
        for client in [each for each in self._clients if not each.has_line and now - each.idle_since >= _IDLE]:
            self._drop(client)

    def _drop(self, client: Client) -> None:
        self._clients.discard(client)
        with suppress(KeyError, ValueError):
            self._selector.unregister(client.connection)
        client.connection.close()
