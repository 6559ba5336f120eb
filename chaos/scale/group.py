"""Two managers, two ingest workers, PostgreSQL and Mosquitto, with a proxy on each way between them."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any, Self

import httpx2
import psutil

from chaos.scale.history import History
from chaos.site import Load, SiteError, shifted_clock
from simulate import Plan, Simulation
from tests.support.mosquitto import UNBOUNDED, Mosquitto
from tests.support.postgresql import Postgresql
from tests.support.processes import ManagerProcess
from tests.support.tcp_proxy import TcpProxy

_POLL = 0.1
_ANSWER = 2.0
_READY_WITHIN = 120.0
_PATIENCE = 180.0
_INGEST = "ingest"
_LEADER = "leader"


class Member:
    """One manager or worker, with a proxy of its own before the database and before the broker.

    Args:
        name: its name, for the log.
        home: the directory of its files.
        database: its way to the database.
        broker: its way to the broker.
        environment: further variables.
    """

    def __init__(
        self, name: str, home: Path, database: TcpProxy, broker: TcpProxy, environment: dict[str, str]
    ) -> None:
        self.name = name
        self.database = database
        self.broker = broker
        self.process = ManagerProcess(home, f"mqtt://127.0.0.1:{broker.port}", environment)

    def health(self) -> dict[str, Any]:
        """Return what `/health` answers; empty without an answer within two seconds."""
        with suppress(httpx2.HTTPError, ValueError):
            answer = httpx2.get(f"{self.process.http}/health", timeout=_ANSWER, trust_env=False)
            return dict(answer.json().get("data", {}))
        return {}

    def is_ready(self) -> bool:
        """Return whether it reports itself as ready."""
        with suppress(httpx2.HTTPError):
            answer = httpx2.get(f"{self.process.http}/health/ready", timeout=_ANSWER, trust_env=False)
            return answer.status_code == httpx2.codes.OK
        return False

    def pid(self) -> int:
        """Return its process id."""
        if self.process.running is None:
            raise SiteError(f"{self.name} does not run")
        return self.process.running.process.pid

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to it, if it lives."""
        if self.process.running is not None and self.process.running.process.poll() is None:
            self.process.running.process.send_signal(number)

    def revive(self) -> None:
        """Start it if it has ended."""
        if self.process.running is None or self.process.running.process.poll() is not None:
            self.process.launch()


class Group:
    """The processes, and a fleet that reports continuously. A context manager.

    Args:
        home: a directory for data and logs.
        dice: the seeded source of every random choice.
    """

    def __init__(self, home: Path, dice: Random) -> None:
        self.home = home
        self.dice = dice
        self._stack = ExitStack()
        self.managers: list[Member] = []
        self.workers: list[Member] = []
        self.cluster: Postgresql
        self.mosquitto: Mosquitto
        self.history: History
        self.fleet: Simulation | None = None
        self.kills = 0

    @property
    def members(self) -> list[Member]:
        """Managers and workers."""
        return self.managers + self.workers

    def __enter__(self) -> Self:
        """Start all of them: the first manager leads."""
        with ExitStack() as stack:
            self.cluster = stack.enter_context(Postgresql())
            self.mosquitto = stack.enter_context(Mosquitto(UNBOUNDED))
            url = self.cluster.create_empty().url
            self.history = History(self.cluster, url.rpartition("/")[2])
            stack.callback(self._stop_members)
            for name in ("manager-1", "manager-2", "worker-1", "worker-2"):
                self._add(name, url, stack)
            self.managers[0].process.launch()
            self.until(self.managers[0].is_ready, "the first manager is ready")
            self.history.begin()
            self.settle()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop all of them."""
        self._stack.close()

    def _add(self, name: str, url: str, stack: ExitStack) -> None:
        database = stack.enter_context(TcpProxy(self.cluster.port))
        broker = stack.enter_context(TcpProxy(self.mosquitto.port))
        environment = {
            "PANGUARD_DATABASE": url.replace(f":{self.cluster.port}/", f":{database.port}/"),
            "PANGUARD_KEY_FILE": str(self.home / "manager.key"),
        }
        if name.startswith("worker"):
            environment["PANGUARD_ROLE"] = _INGEST
        member = Member(name, self.home / name, database, broker, environment)
        (self.workers if name.startswith("worker") else self.managers).append(member)

    def _stop_members(self) -> None:
        for member in self.members:
            if member.process.running is not None:
                member.signal(signal.SIGCONT)
                member.process.stop()

    @contextmanager
    def reporting(self, seed: int, load: Load) -> Iterator[Simulation]:
        """Run a reporting fleet within the block, connected to the broker without a proxy."""
        data = self.managers[0].process.data
        plan = Plan(
            manager=self.mosquitto.url,
            admin=self.managers[0].process.http,
            enroll_token=(data / "enroll.token").read_text(),
            auth_token=(data / "admin.token").read_text().strip(),
            agents=load.agents,
            threats=int(load.rate * load.seconds),
            rate=load.rate,
            shared_attackers=load.shared_attackers,
            seed=seed,
            heartbeats=True,
            repeats=0.05,
            heartbeat_interval=max(1.0, load.agents / load.heartbeats),
            reconnect_base=0.2,
            reconnect_cap=1.0,
            receipt_timeout=load.receipt_timeout,
            patience=_PATIENCE,
        )
        with Simulation(plan) as self.fleet:
            yield self.fleet

    def leader(self) -> Member:
        """Return the manager that says that it leads; wait for one."""
        found: list[Member] = []

        def leads() -> bool:
            found[:] = [each for each in self.managers if each.health().get("role") == _LEADER]
            return len(found) == 1

        self.until(leads, "one manager leads")
        return found[0]

    def standby(self) -> Member:
        """Return the other manager."""
        leader = self.leader()
        return next(each for each in self.managers if each is not leader)

    def worker(self) -> Member:
        """Return a worker by the dice."""
        return self.dice.choice(self.workers)

    def kill(self, *members: Member) -> None:
        """Kill members with SIGKILL, and start them again after a moment by the dice."""
        for member in members:
            member.signal(signal.SIGKILL)
            if member.process.running is not None:
                member.process.running.process.wait(60)
            self.kills += 1
        self.wait(0.0, 8.0)
        self.revive()

    def revive(self) -> None:
        """Start the members that have ended: a process manager does so."""
        for member in self.members:
            member.revive()

    @contextmanager
    def stopped(self, *pids: int) -> Iterator[None]:
        """Stop processes with SIGSTOP within the block."""
        found = [psutil.Process(pid) for pid in pids]
        for each in found:
            with suppress(psutil.NoSuchProcess):
                each.suspend()
        try:
            yield
        finally:
            for each in found:
                with suppress(psutil.NoSuchProcess):
                    each.resume()

    def database_pids(self) -> list[int]:
        """Return the processes of PostgreSQL, the first one first."""
        if self.cluster.pid is None:
            raise SiteError("PostgreSQL does not run")
        return [self.cluster.pid, *(each.pid for each in psutil.Process(self.cluster.pid).children(recursive=True))]

    def fail_over(self, seconds: int) -> None:
        """Promote PostgreSQL to a new timeline, on a clock that is so many seconds off."""
        clock = self.cluster.directory / "clock"
        environment = shifted_clock(clock)
        clock.write_text(f"{seconds:+d}")
        clock.chmod(0o644)
        self.cluster.environment = environment
        self.cluster.promote()
        self.kills += 1

    def receipted(self) -> int:
        """Return the number of reports with a receipt."""
        return 0 if self.fleet is None else self.fleet.progress.sent - self.fleet.progress.waiting

    def wait(self, least: float, most: float) -> None:
        """Wait for a time by the dice."""
        ends = time.monotonic() + self.dice.uniform(least, most)
        while (left := ends - time.monotonic()) > 0:
            time.sleep(min(left, _POLL))

    def until(self, holds: Callable[[], bool], what: str, within: float = _READY_WITHIN) -> None:
        """Wait until a condition is true.

        Raises:
            SiteError: it does not within so many seconds.
        """
        deadline = time.monotonic() + within
        while not holds():
            if time.monotonic() > deadline:
                raise SiteError(f"not within {within:g} s: {what}")
            time.sleep(_POLL)

    def settle(self) -> None:
        """Start the members that have ended; wait until one manager leads and all members are ready.

        Raises:
            SiteError: they are not in time.
        """

        def all_ready() -> bool:
            self.revive()
            return all(member.is_ready() for member in self.members)

        self.until(all_ready, "all members are ready")
        self.leader()
