"""Hostile clients by the hundred against a real manager: it serves the others meanwhile, and its memory is bounded."""

import contextlib
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import httpx2
import psutil
import pytest

from tests.support.processes import ManagerProcess
from tests.support.waiting import eventually

MIB = 1024 * 1024
_FILES = 2048


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ManagerProcess]:
    with ManagerProcess(tmp_path_factory.mktemp("hostile"), environment={"PANGUARD_RATE_LIMIT": "0"}) as manager:
        with manager.client() as client:
            for _ in range(200):  # what is allocated once, at first use, counts for nobody
                client.post("/api/tokens", content=b"[" * 1000, headers={"Content-Type": "application/json"})
        yield manager


@pytest.fixture
def many_files() -> Iterator[None]:
    """This process may open as many connections as the test needs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, _FILES)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def open_stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def _process(manager: ManagerProcess) -> psutil.Process:
    assert manager.running is not None
    return psutil.Process(manager.running.process.pid)


def _grown(manager: ManagerProcess, since: int) -> float:
    """Return by how many MiB the manager's memory has grown."""
    return float(_process(manager).memory_info().rss - since) / MIB


def _connect(manager: ManagerProcess, stack: ExitStack) -> socket.socket:
    port = int(manager.http.rpartition(":")[2])
    return stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60))


def _head(manager: ManagerProcess, length: int) -> bytes:
    token = (manager.data / "admin.token").read_text().strip()
    return (
        f"POST /api/tokens HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


@pytest.mark.usefixtures("many_files")
def test_a_thousand_silent_connections_and_two_hundred_slow_bodies(manager: ManagerProcess) -> None:
    """Others are served while they are open; they cost less than 40 MiB, and nothing of them is left when they go."""
    before = _process(manager).memory_info().rss
    files = _process(manager).num_fds()
    with manager.client() as client, ExitStack() as stack:
        assert client.get("/health").status_code == 200
        for _ in range(1000):
            _connect(manager, stack)
        for _ in range(200):
            slow = _connect(manager, stack)
            slow.sendall(_head(manager, 1_000_000) + b"[" + b" " * 60_000)
        eventually(lambda: _process(manager).num_fds() >= files + 1200, what="all of them are connected")
        for _ in range(20):
            assert client.get("/health").status_code == 200
            assert client.get("/api/overview").status_code == 200
        assert _grown(manager, before) < 40
    eventually(lambda: _process(manager).num_fds() <= files + 2, what="all of them are gone")


def test_heads_without_end(manager: ManagerProcess) -> None:
    """A hundred clients that would send 10 MB of headers each: cut off after 64 KiB, at less than 30 MiB in all."""
    before = _process(manager).memory_info().rss
    with ExitStack() as stack:
        for _ in range(100):
            client = _connect(manager, stack)
            client.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n")
            sent = 0
            with contextlib.suppress(ConnectionError):
                while sent < 10_000_000:
                    client.sendall(b"X-Long: " + b"a" * 100_000)
                    sent += 100_000
            assert sent < 10_000_000
        assert _grown(manager, before) < 30


@pytest.mark.parametrize(
    "body",
    [
        b" " * 2 * MIB,
        b"[" * MIB,
        b'{"a":' * (MIB // 5),
        b'{"site":"a",' + b'"site":"b",' * 90_000 + b'"site":"c"}',
        b"9" * MIB,
    ],
    ids=["2 MB", "deep lists", "deep objects", "one key 90,000 times", "a number without end"],
)
def test_large_bodies_leave_nothing_behind(manager: ManagerProcess, body: bytes) -> None:
    """Each asked forty times is refused or taken cleanly, and costs less than 40 MiB that stay."""
    before = _process(manager).memory_info().rss
    headers = {"Content-Type": "application/json"}
    with manager.client() as client:
        statuses = {client.post("/api/tokens", content=body, headers=headers).status_code for _ in range(40)}
    assert statuses <= {201, 400, 413}
    assert _grown(manager, before) < 40


def test_sockets_that_are_closed_by_half(manager: ManagerProcess, open_stack: ExitStack) -> None:
    """Two hundred clients close their half in the middle of a head or a body: all of them are let go."""
    files = _process(manager).num_fds()
    for number in range(200):
        client = _connect(manager, open_stack)
        client.sendall(_head(manager, 1000) + b"[" if number % 2 else b"GET /hea")
        client.shutdown(socket.SHUT_WR)
    eventually(lambda: _process(manager).num_fds() <= files + 2, what="all of them are gone")
    with manager.client() as client:
        assert client.get("/health").status_code == 200
    assert httpx2.get(f"{manager.http}/health/live", trust_env=False, verify=False, timeout=60).status_code == 200
