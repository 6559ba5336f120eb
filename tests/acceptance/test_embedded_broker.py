"""A manager whose embedded broker freezes, dies again and again, or loses its port: it stays, and serves again.

Not with two managers: those that share a database are refused the embedded broker.
"""

import os
import signal
import socket
from pathlib import Path

import psutil
import pytest

from tests.support.processes import GuardProcess, ManagerProcess, spooled
from tests.support.waiting import eventually

pytestmark = pytest.mark.long("tests/integration/broker/test_supervisor.py")


def broker_of(manager: ManagerProcess) -> psutil.Process | None:
    """Return the broker's process; None between two of them."""
    assert manager.running is not None
    for child in psutil.Process(manager.running.process.pid).children():
        try:
            if "manager.broker_process" in child.cmdline():
                return child
        except psutil.Error:
            continue
    return None


def test_a_frozen_broker_is_replaced(tmp_path: Path) -> None:
    """With the product's own times: the manager is ready with another broker, and a report that waited is stored."""
    with ManagerProcess(tmp_path) as manager:
        guard = GuardProcess(manager, "srv-01")
        guard.start()
        frozen = broker_of(manager)
        assert frozen is not None
        frozen.send_signal(signal.SIGSTOP)
        guard.attacked_by("203.0.113.9")
        try:
            eventually(lambda: not frozen.is_running(), what="the frozen process gone")
            eventually(lambda: broker_of(manager) and manager.not_ready() is None, what="ready with another broker")
            eventually(lambda: manager.get("/api/threats"), what="the threat stored")
            eventually(lambda: spooled(guard) == 0, what="the receipt")
        finally:
            guard.stop()


def test_a_manager_outlives_its_brokers_and_a_taken_port(tmp_path: Path) -> None:
    """Killed while it restarts, then kept from its port: the manager says so, serves HTTP, and is ready again."""
    with ManagerProcess(tmp_path) as manager:
        port = int(manager.mqtt.rpartition(":")[2])
        killed: set[int] = set()
        while len(killed) < 3:
            process = eventually(lambda: broker_of(manager), what="a broker process")
            if process is not None and process.pid not in killed:
                killed.add(process.pid)
                process.kill()
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)

            def take_the_port() -> bool:
                process = broker_of(manager)
                if process is not None:
                    process.kill()
                try:
                    other.bind(("127.0.0.1", port))
                except OSError:
                    return False
                return True

            eventually(take_the_port, what="the port taken", pause=0.01)
            other.listen()
            eventually(lambda: "the embedded broker" in str(manager.not_ready()), what="the reason")
            with manager.client() as client:
                assert client.get("/health/live").status_code == 200
            eventually(lambda: f"port {port}" in str(manager.not_ready()), what="the port in the reason")
        eventually(lambda: manager.not_ready() is None, what="a ready manager")


def test_the_next_manager_starts_after_one_whose_broker_was_frozen(tmp_path: Path) -> None:
    """A frozen broker ends with its manager, killed or stopped, and leaves the port to the next one."""
    with ManagerProcess(tmp_path) as manager:
        for end in (manager.kill, manager.stop):
            frozen = broker_of(manager)
            assert frozen is not None
            os.kill(frozen.pid, signal.SIGSTOP)
            end()
            manager.start()
