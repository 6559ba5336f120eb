"""The supervisor of the embedded broker with real processes: killed, frozen, and without its port."""

import os
import signal
import socket
from collections.abc import Iterator

import psutil
import pytest

from manager.backoff import Backoff
from manager.broker.errors import BrokerStartError
from manager.broker.supervisor import BrokerSupervisor
from tests.integration.broker.broker_clients import RawClient
from tests.integration.broker.test_broker_process import AGENT, configuration
from tests.support.ports import free_port
from tests.support.waiting import eventually


def processes() -> list[psutil.Process]:
    """Return the broker processes that this test's process has started."""
    return [
        child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE and _is_broker(child)
    ]


def _is_broker(process: psutil.Process) -> bool:
    try:
        return "manager.broker.process" in process.cmdline()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return False


def process() -> psutil.Process:
    (one,) = eventually(processes, what="a broker process")
    return one


def serves(port: int) -> bool:
    """Return whether a broker accepts the manager's login at a port."""
    try:
        with RawClient(port) as client:
            return client.connect("manager-1", username="manager") == 0
    except (OSError, RuntimeError):
        return False


def made(port: int, silence: float = 2.0) -> BrokerSupervisor:
    config = configuration(port=port, portWaitSeconds=0.3, aliveSeconds=0.1)
    return BrokerSupervisor(config, module="manager.broker.process", backoff=Backoff(0.05, 0.2), silence=silence)


@pytest.fixture
def supervisor() -> Iterator[BrokerSupervisor]:
    """Give a supervisor whose broker runs and is declared frozen after two seconds of silence."""
    supervisor = made(free_port())
    supervisor.start()
    yield supervisor
    supervisor.stop()
    assert processes() == []


def test_a_broker_that_is_killed_again_while_it_restarts_comes_back(supervisor: BrokerSupervisor) -> None:
    """Each of five processes is killed as soon as it exists, ready or not; the sixth serves the same port."""
    port = supervisor.port
    killed: set[int] = set()
    while len(killed) < 5:
        new = eventually(lambda: [each for each in processes() if each.pid not in killed], what="a new process")
        for each in new:
            each.kill()
            killed.add(each.pid)
    eventually(lambda: serves(port), what="the broker at its port")
    eventually(lambda: supervisor.problem is None, what="no problem")
    assert supervisor.port == port


@pytest.mark.parametrize(
    ("lasting", "pauses"),
    [
        pytest.param(600.0, [0.2, 0.4, 0.8, 1.0, 1.0], id="soon"),
        pytest.param(0.0, [0.2] * 3, id="after-a-long-run"),
    ],
)
def test_the_longest_pause_before_a_restart_grows_until_a_broker_has_lasted(
    lasting: float, pauses: list[float]
) -> None:
    """Ends in quick succession double it up to the cap; after a broker that lasted it is the shortest again."""
    longest: list[float] = []

    def drawn(_least: float, most: float) -> float:
        longest.append(most)
        return 0.0

    config = configuration(port=free_port(), portWaitSeconds=20.0, aliveSeconds=0.1)
    backoff = Backoff(0.2, 1.0, uniform=drawn)
    supervisor = BrokerSupervisor(config, module="manager.broker.process", backoff=backoff, lasting=lasting)
    supervisor.start()
    try:
        for ends in range(1, len(pauses) + 1):
            eventually(lambda: supervisor.problem is None, what="a broker that runs")
            process().kill()
            eventually(lambda ends=ends: len(longest) >= ends, what="the pause after it")
        assert longest == pauses
    finally:
        supervisor.stop()


def test_the_longest_pause_grows_while_the_broker_does_not_start() -> None:
    """A module that ends at once doubles the pause at each attempt; once it starts the broker serves again."""
    longest: list[float] = []

    def drawn(_least: float, most: float) -> float:
        longest.append(most)
        return 0.0

    config = configuration(port=free_port(), portWaitSeconds=20.0, aliveSeconds=0.1)
    backoff = Backoff(0.2, 1.0, uniform=drawn)
    supervisor = BrokerSupervisor(config, module="manager.broker.process", backoff=backoff)
    port = supervisor.start()
    try:
        supervisor._broker._module = "manager.no_such_module"
        process().kill()
        eventually(lambda: len(longest) >= 5, what="five attempts")
        assert "ended at once" in (supervisor.problem or "")
        supervisor._broker._module = "manager.broker.process"
        eventually(lambda: serves(port), what="the broker at its port")
    finally:
        supervisor.stop()
    assert longest[:5] == [0.2, 0.4, 0.8, 1.0, 1.0]


def test_a_port_that_is_taken_meanwhile_is_waited_for(supervisor: BrokerSupervisor) -> None:
    """While another program holds the port the problem names it; the broker takes the port once it is free."""
    port = supervisor.port
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        process().send_signal(signal.SIGSTOP)  # so that it cannot come back before the port is taken
        process().kill()
        eventually(lambda: _bound(other, port), what="the port taken")
        other.listen()
        eventually(lambda: f"port {port} on 127.0.0.1 was still taken" in (supervisor.problem or ""))
    eventually(lambda: serves(port), what="the broker at its port again")
    assert supervisor.problem is None


def _bound(probe: socket.socket, port: int) -> bool:
    try:
        probe.bind(("127.0.0.1", port))
    except OSError:
        return False
    return True


def test_a_frozen_broker_is_replaced(supervisor: BrokerSupervisor) -> None:
    """A process that is stopped by a signal is killed after its silence, and another one serves the port."""
    frozen = process()
    frozen.send_signal(signal.SIGSTOP)
    eventually(lambda: not frozen.is_running() and serves(supervisor.port), what="another process")


def test_a_broker_that_takes_no_command_is_replaced() -> None:
    """Commands fill the pipe of a stopped process without blocking the caller; then it is killed at once."""
    supervisor = made(free_port(), silence=3600.0)
    supervisor.start()
    try:
        frozen = process()
        frozen.send_signal(signal.SIGSTOP)
        for _ in range(5000):
            supervisor.disconnect(AGENT)
        eventually(lambda: not frozen.is_running() and serves(supervisor.port), what="another process")
    finally:
        supervisor.stop()


def test_a_late_notice_of_an_end_changes_nothing(supervisor: BrokerSupervisor) -> None:
    """A restart while the next broker runs already leaves that one alone, and is no problem."""
    running = process()
    assert supervisor._restart()
    assert (process().pid, supervisor.problem) == (running.pid, None)


def test_a_first_start_that_fails_is_an_error() -> None:
    """At the first start a taken port is the operator's to solve: nothing is tried again."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        supervisor = made(held.getsockname()[1])
        with pytest.raises(BrokerStartError, match="still taken"):
            supervisor.start()
        supervisor.stop()
    assert processes() == []


def test_stopping_ends_a_broker_that_restarts(supervisor: BrokerSupervisor) -> None:
    """A stop during a restart leaves no process behind, now or later."""
    process().kill()
    supervisor.stop()
    assert processes() == []
    assert not serves(supervisor.port)


def test_a_stopped_process_ends_with_its_parent() -> None:
    """The kernel kills a broker that is stopped by a signal when its parent dies: the next one needs the port."""
    port = free_port()
    reader, writer = os.pipe()
    parent = os.fork()
    if parent == 0:
        supervisor = made(port, silence=3600.0)
        supervisor.start()
        os.write(writer, f"{supervisor._broker._process.pid}\n".encode())
        signal.pause()
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pids:
        broker = psutil.Process(int(pids.readline()))
    broker.send_signal(signal.SIGSTOP)
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    eventually(lambda: not broker.is_running() or broker.status() == psutil.STATUS_ZOMBIE, what="its end")
    assert not serves(port)
