"""The fence's socket: whose connections are kept, how many, how long, and how much they may send."""

import os
import select
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from io import TextIOWrapper
from pathlib import Path

import pytest

from fence.cli import lock_state, log
from fence.manifest import ManifestError
from fence.server import LINE_LIMIT, Client, Server, listen
from fence.service import Peer
from tests.unit.fence.conftest import GUARD_UID, Bench

LINE = b'{"request":"nonsense"}\n'
WITHIN = 60.0


def _server(bench: Bench, listener: socket.socket) -> Server:
    return Server(
        bench.fence,
        listener,
        guard_uid=GUARD_UID if os.geteuid() == 0 else os.geteuid(),
        check_interval=0.05,
        idle_exit=0.0,
        changes=None,
        alive=lambda: None,
        log=bench.events.append,
    )


def _served(bench: Bench, home: Path, visit: Callable[[Path], None]) -> None:
    """Serve a socket that every user may open while a visit of it runs in a thread; raise what that raises."""
    path = home / "fence.sock"
    listener = listen(path, None)
    path.chmod(0o666)
    server = _server(bench, listener)
    with ThreadPoolExecutor(1) as visitor:
        visiting = visitor.submit(visit, path)
        visiting.add_done_callback(lambda _done: server.stop())
        server.serve()
        for client in list(server._clients):
            server._drop(client)
        listener.close()
        visiting.result()


def _connected(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(WITHIN)
    connection.connect(str(path))
    return connection


def _is_answered(connection: socket.socket, line: bytes = LINE) -> bool:
    try:
        connection.sendall(line)
        return b"outcome" in connection.recv(65_536)
    except OSError:
        return False


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can hold more than the guard")
def test_a_seventeenth_connection_is_closed(bench: Bench, tmp_path: Path) -> None:
    """Those before it are answered."""

    def visit(path: Path) -> None:
        with ExitStack() as stack:
            held = [stack.enter_context(_connected(path)) for _ in range(17)]
            assert [_is_answered(each) for each in held] == [True] * 16 + [False]

    _served(bench, tmp_path, visit)


_HOLD = """
import os, socket, sys
os.setgroups([])
os.setgid(int(sys.argv[2]))
os.setuid(int(sys.argv[2]))
answered, held = 0, []
for _ in range(9):
    each = socket.socket(socket.AF_UNIX)
    held.append(each)
    each.settimeout(60)
    try:
        each.connect(sys.argv[1])
        each.sendall(b'{"request":"nonsense"}\\n')
        answered += b"outcome" in each.recv(65536)
    except OSError:
        pass
print(answered)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
@pytest.mark.parametrize(("uid", "answered"), [(GUARD_UID, 8), (GUARD_UID + 1, 0)])
def test_the_guard_holds_eight_connections_and_any_other_user_none(
    bench: Bench, tmp_path: Path, uid: int, answered: int
) -> None:
    """Also where the mode of the socket lets it connect."""
    for parent in tmp_path.parents[:-1]:
        if not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o011)
    tmp_path.chmod(0o711)

    def visit(path: Path) -> None:
        words = [sys.executable, "-I", "-S", "-c", _HOLD, str(path), str(uid)]
        done = subprocess.run(words, capture_output=True, text=True, check=True)  # noqa: S603 -- ours
        assert int(done.stdout) == answered

    _served(bench, tmp_path, visit)


def test_a_line_that_is_too_long_ends_the_connection(bench: Bench, tmp_path: Path) -> None:
    """It would be kept in memory until its end comes."""

    def visit(path: Path) -> None:
        with _connected(path) as connection:
            sent = 0
            with suppress(OSError):
                while sent < 4 * LINE_LIMIT:
                    sent += connection.send(b"x" * 65_536)
            assert sent < 2 * LINE_LIMIT
        with _connected(path) as connection:
            assert _is_answered(connection)

    _served(bench, tmp_path, visit)


def test_an_idle_connection_is_closed(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A guard that opens connections and says nothing, or half a line, holds none of them for long."""
    monkeypatch.setattr("fence.server._IDLE", 0.3)

    def visit(path: Path) -> None:
        with _connected(path) as idle, _connected(path) as half:
            half.sendall(LINE[:10])
            assert (idle.recv(1), half.recv(1)) == (b"", b"")

    _served(bench, tmp_path, visit)


def test_of_the_guards_lines_one_is_answered_in_each_round(bench: Bench) -> None:
    """Root waits for one of its requests at most, whatever it sends."""
    with ExitStack() as stack:
        server = _server(bench, stack.enter_context(socket.socket()))
        asking: dict[Client, socket.socket] = {}
        for uid in (GUARD_UID, GUARD_UID, 0, 0):
            ours, theirs = socket.socketpair()
            client = Client(stack.enter_context(ours), Peer(uid), 0.0)
            client.received += LINE * 2
            asking[client] = stack.enter_context(theirs)
        server._clients |= set(asking)
        server._answer_next()
        left = sorted((client.peer.uid, client.received.count(b"\n")) for client in asking)
        assert left == [(0, 1), (0, 1), (GUARD_UID, 1), (GUARD_UID, 2)]


def test_a_client_that_takes_no_answer_is_dropped(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are answered all the same."""
    monkeypatch.setattr("fence.server._SEND_WITHIN", 0.2)

    def visit(path: Path) -> None:
        with _connected(path) as deaf, _connected(path) as other:
            deaf.setblocking(False)
            sent = 0
            with suppress(BlockingIOError):
                while sent < 2**20:
                    sent += deaf.send(LINE * 200)
            assert _is_closed(deaf)
            assert _is_answered(other)

    _served(bench, tmp_path, visit)


def _is_closed(connection: socket.socket) -> bool:
    """Wait until the other side has ended a connection, of which nothing is read."""
    poll = select.poll()
    poll.register(connection, 0)
    return any(event & select.POLLHUP for _, event in poll.poll(WITHIN * 1000))


def test_a_state_is_one_fences(tmp_path: Path) -> None:
    """Two would write different measures into one table; the lock ends with its holder."""
    held = lock_state(tmp_path / "state")
    with pytest.raises(ManifestError, match="another fence"):
        lock_state(tmp_path / "state")
    os.close(held)
    os.close(lock_state(tmp_path / "state"))


def test_a_journal_that_is_gone_ends_no_fence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its requests and checks log, `panic` too."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb", buffering=0) as raw:
        gone = TextIOWrapper(raw, write_through=True)  # as Python's own standard error
        with monkeypatch.context() as patched:
            patched.setattr(sys, "stderr", gone)
            log({"event": "request"})
            log({"event": "request"})
        gone.detach()


def test_the_table_is_checked_at_once_at_the_start(bench: Bench) -> None:
    """What the host has come to need since the last fence is lifted, and systemd told that this one lives."""
    with socket.socket() as listener:
        server = _server(bench, listener)
        server._check_interval, server._alive = 3600.0, server.stop
        server.serve()
