"""A site under test: a manager with one door, its broker, a proxy before the door, and a simulated fleet."""

import os
import platform
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Literal, Protocol, Self

import httpx2
import psutil

from simulate import Plan, Simulation
from tests.support.processes import GuardProcess, ManagerProcess
from tests.support.production_mosquitto import ProductionMosquitto
from tests.support.tcp_proxy import TcpProxy

DoorName = Literal["embedded", "mosquitto", "http"]
DOORS: tuple[DoorName, ...] = ("embedded", "mosquitto", "http")

_READY_WITHIN = 60.0
_POLL = 0.05
_START_WITHIN = 180.0
_BETWEEN_HEARTBEATS: Mapping[DoorName, float] = {"embedded": 1.0, "mosquitto": 1.0, "http": 3.0}
"""The minimum seconds between two heartbeats of an agent; over HTTP an agent has 60 requests a minute."""

_SMALL_DISK = "48m"
_FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")


class Killed(Protocol):
    """The interface of a process's owner, which can kill the process."""

    def kill(self) -> None:
        """Send SIGKILL."""


class SiteError(Exception):
    """An expectation was not met; the message says what was observed."""


@dataclass(frozen=True, slots=True)
class Load:
    """The simulated fleet that reports during the faults.

    Attributes:
        agents: the number of agents.
        rate: reports per second, total over all agents.
        is_direct: whether the agents connect without the proxy, which needs two threads for each connection.
        seconds: the length of the schedule; the fleet can be stopped earlier.
        heartbeats: maximum heartbeats per second, total over all agents. One agent sends at most one per second; over
            HTTP one in three seconds.
        shared_attackers: the share of reports about an attacker that several agents report. Five such reports open an
            incident, and its block is sent to all agents.
        receipt_timeout: seconds after which an agent sends a report without a receipt again; doubled each time.
    """

    agents: int = 20
    rate: float = 60.0
    is_direct: bool = False
    seconds: float = 7200.0
    heartbeats: float = 100.0
    shared_attackers: float = 0.3
    receipt_timeout: float = 3.0


class Site:
    """One manager with its broker and a fleet that reports continuously. A context manager.

    Args:
        door: how the fleet reports.
        home: a directory for data and logs.
        dice: the seeded source of every random choice.
        environment: variables of the manager beside the usual ones.
    """

    def __init__(self, door: DoorName, home: Path, dice: Random, environment: Mapping[str, str] | None = None) -> None:
        self.door = door
        self.home = home
        self.dice = dice
        self.environment = dict(environment or {})
        self._stack = ExitStack()
        self._pause = threading.Event()
        self.mosquitto: ProductionMosquitto | None = None
        self.manager: ManagerProcess
        self.proxy: TcpProxy
        self.copied_at: float | None = None
        self.fleet: Simulation | None = None
        self.kills = 0
        """The number of processes that the strikes have killed."""

    def __enter__(self) -> Self:
        """Start broker, manager and proxy."""
        with ExitStack() as stack:
            environment = dict(self.environment)
            if environment.pop("CHAOS_SMALL_DISK", None):
                stack.enter_context(_small_disk(self.home / "manager"))
            if environment.pop("CHAOS_CLOCK", None):
                environment |= shifted_clock(self.home / "clock")
            broker = "embedded"
            if self.door == "mosquitto":
                self.mosquitto = stack.enter_context(ProductionMosquitto(self.home / "manager", self.home / "broker"))
                environment["PANGUARD_BROKER_PASSWORD"] = self.mosquitto.credential("manager")[1]
                broker = self.mosquitto.url
            self.manager = ManagerProcess(self.home, broker, environment)
            stack.push(self.manager)
            self.start_manager()
            url = self.manager.http if self.door == "http" else self.manager.mqtt
            self.proxy = stack.enter_context(TcpProxy(int(url.rpartition(":")[2])))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop broker, manager and proxy."""
        self._stack.close()

    @contextmanager
    def reporting(self, seed: int, load: Load, patience: float = 90.0) -> Iterator[Simulation]:
        """Run a reporting fleet within the block."""
        scheme = "http" if self.door == "http" else "mqtt"
        direct = self.manager.http if self.door == "http" else self.manager.mqtt
        plan = Plan(
            manager=direct if load.is_direct else f"{scheme}://127.0.0.1:{self.proxy.port}",
            admin=self.manager.http,
            enroll_token=(self.manager.data / "enroll.token").read_text(),
            auth_token=(self.manager.data / "admin.token").read_text().strip(),
            agents=load.agents,
            threats=int(load.rate * load.seconds),
            rate=load.rate,
            shared_attackers=load.shared_attackers,
            seed=seed,
            heartbeats=True,
            repeats=0.05,
            heartbeat_interval=max(_BETWEEN_HEARTBEATS[self.door], load.agents / load.heartbeats),
            reconnect_base=0.2,
            reconnect_cap=1.0,
            receipt_timeout=load.receipt_timeout,
            patience=patience,
        )
        with Simulation(plan) as self.fleet:
            yield self.fleet

    def kill(self, process: Killed | int | None) -> None:
        """Kill a process, given by its owner or its id, and count the kill."""
        if process is None:
            return
        with suppress(ProcessLookupError):
            if isinstance(process, int):
                os.kill(process, signal.SIGKILL)
            else:
                process.kill()
            self.kills += 1

    def start_manager(self) -> None:
        """Start the manager and wait until its doors are open; the deadline is long enough for a busy machine."""
        self.manager.launch().line("ready ", _START_WITHIN)

    def start_guard(self, guard: GuardProcess) -> str:
        """Start a guard, wait until it is connected, and return its agent id."""
        guard.start(wait=False)
        return guard.agent_id(_START_WITHIN)

    def connected(self) -> int:
        """Return the number of connected agents of the fleet."""
        return 0 if self.fleet is None else self.fleet.progress.connected

    def receipted(self) -> int:
        """Return the number of the fleet's reports with a receipt."""
        return 0 if self.fleet is None else self.fleet.progress.sent - self.fleet.progress.waiting

    def wait(self, least: float, most: float) -> None:
        """Wait for a random time from the seeded generator."""
        self._pause.wait(self.dice.uniform(least, most))

    def until(self, holds: Callable[[], bool], what: str, within: float = _READY_WITHIN) -> None:
        """Wait until a condition is true.

        Raises:
            SiteError: it does not within so many seconds.
        """
        deadline = time.monotonic() + within
        while not holds():
            if time.monotonic() > deadline:
                raise SiteError(f"not within {within:g} s: {what}; {self.log()[-1500:]}")
            self._pause.wait(_POLL)

    def is_ready(self) -> bool:
        """Return whether the manager reports itself as ready."""
        with suppress(httpx2.HTTPError):
            return httpx2.get(f"{self.manager.http}/health/ready", timeout=2, verify=False).status_code == 200  # noqa: PLR2004
        return False

    def wait_ready(self) -> None:
        """Wait until the manager is ready."""
        self.until(self.is_ready, "the manager is ready")

    def manager_pid(self) -> int:
        """Return the manager's process id."""
        if self.manager.running is None:
            raise SiteError("the manager does not run")
        return self.manager.running.process.pid

    def embedded_pid(self) -> int | None:
        """Return the process id of the embedded broker; None while there is none."""
        with suppress(psutil.Error):
            for child in psutil.Process(self.manager_pid()).children():
                if "manager.broker_process" in child.cmdline():
                    return child.pid
        return None

    def log(self) -> str:
        """Return the manager's log."""
        with suppress(OSError):
            return (self.home / "manager.log").read_text(errors="replace")
        return ""

    @contextmanager
    def stopped(self, pid: int) -> Iterator[None]:
        """Stop a process within the block, and let it go on after it."""
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@contextmanager
def _small_disk(directory: Path) -> Iterator[None]:
    """Mount a small file system of its own at a directory within the block; as root."""
    directory.mkdir(exist_ok=True)
    _run("mount", "-t", "tmpfs", "-o", f"size={_SMALL_DISK},mode=0700", "tmpfs", str(directory))
    try:
        yield
    finally:
        _run("umount", "--lazy", str(directory))


def machine() -> str:
    """Return what this machine is: cores, memory, interpreter."""
    memory = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
    return f"{os.cpu_count()} cores, {memory} GiB, {platform.python_implementation()} {platform.python_version()}"


def faketime_library() -> Path:
    """Return the library that shifts a process's wall clock.

    Raises:
        SiteError: it is not installed.
    """
    libraries = [_FAKETIME, *Path("/usr/lib").glob("*/faketime/libfaketime.so.1")]
    library = next((path for path in libraries if path.exists()), None)
    if library is None:
        raise SiteError("libfaketime is not installed: apt-get install faketime")
    return library


def shifted_clock(file: Path) -> dict[str, str]:
    """Return the variables under which a process's wall clock is shifted by what a file says."""
    file.write_text("+0")
    return {
        "LD_PRELOAD": str(faketime_library()),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }


def _run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603 -- our own words
    if done.returncode:
        raise SiteError(f"{' '.join(words)}: {done.stderr.strip()}")
