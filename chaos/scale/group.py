"""Two managers, two ingest workers, PostgreSQL and Mosquitto, with a proxy on each way between them."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any, Self

import psutil

from chaos.scale.history import History
from chaos.scale.network import Network, Way
from chaos.scale.stored import ReceiptCheck, StoredReports
from chaos.scale.usage import Usage, tree
from chaos.site import Load, SiteError, faketime_library
from simulate import Plan, Simulation
from tests.support.mosquitto import UNBOUNDED, Mosquitto
from tests.support.postgresql import Postgresql
from tests.support.processes import ManagerProcess

_POLL = 0.1
_ASKED_EVERY = 0.25
"""Seconds between two questions to members, which cost them CPU time that they need for their work."""

_ANSWER = 2.0
_READY_WITHIN = 180.0
_LONG = 0.125
_PATIENCE = 180.0
_SHARED = 100.0
"""The most reports a second about attackers that several agents report. Each incident is a message to each agent, which
costs the simulated fleet more than their reports."""

_BURST = 5
_RECEIPT_TIMEOUT = 30.0
"""As guards have it: a shorter one makes a fleet flood a group that is slow, and be suspended for it."""

_INGEST = "ingest"
_LEADER = "leader"
_IN_MEMORY = Path("/dev/shm")  # noqa: S108 -- a directory of its own is made in it
"""A file system in memory for PostgreSQL's files, if there is one: with all syncs, and without waiting for the disk of
a machine on which others work. Kills are of processes, and the kernel keeps what they wrote."""

_SETTINGS = ("max_wal_size=512MB", "shared_buffers=128MB")


class Member:
    """One manager or worker, with a proxy of its own before the database and before the broker.

    Args:
        name: its name, for the log.
        home: the directory of its files.
        database: its way to the database.
        broker: its way to the broker.
        environment: further variables.
    """

    def __init__(self, name: str, home: Path, database: Way, broker: Way, environment: dict[str, str]) -> None:
        self.name = name
        self.database = database
        self.broker = broker
        self.process = ManagerProcess(home, f"mqtt://127.0.0.1:{broker.port}", environment)

    def health(self) -> dict[str, Any]:
        """Return what `/health` answers; empty without an answer within two seconds."""
        with suppress(ValueError, AttributeError):
            return dict(json.loads(self._ask("/health")[1]).get("data", {}))
        return {}

    def is_ready(self) -> bool:
        """Return whether it reports itself as ready."""
        return self._ask("/health/ready")[0] == HTTPStatus.OK

    def _ask(self, path: str) -> tuple[int, bytes]:
        """Return status and body of an answer; 0 and an empty object without one within two seconds."""
        connection = HTTPConnection(self.process.http.removeprefix("http://"), timeout=_ANSWER)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, HTTPException):
            return 0, b"{}"
        finally:
            connection.close()

    @property
    def is_running(self) -> bool:
        """Whether its process lives."""
        return self.process.running is not None and self.process.running.process.poll() is None

    def pid(self) -> int:
        """Return its process id."""
        if self.process.running is None:
            raise SiteError(f"{self.name} does not run")
        return self.process.running.process.pid

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to it, if it lives."""
        if self.process.running is not None and self.is_running:
            self.process.running.process.send_signal(number)

    def revive(self) -> None:
        """Start it if it has ended."""
        if not self.is_running:
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
        self.stored: StoredReports
        self.receipts: ReceiptCheck
        self.usage: Usage
        self.fleet: Simulation | None = None
        self.kills = 0
        self.notes: list[str] = []
        """The targets of the present fault, in words."""

    @property
    def members(self) -> list[Member]:
        """Managers and workers."""
        return self.managers + self.workers

    def __enter__(self) -> Self:
        """Start all of them: the first manager leads."""
        with ExitStack() as stack:
            home = _IN_MEMORY if os.access(_IN_MEMORY, os.W_OK) else None
            self.cluster = stack.enter_context(Postgresql(_SETTINGS, home))
            self.mosquitto = stack.enter_context(Mosquitto(UNBOUNDED))
            network = stack.enter_context(Network())
            url = self.cluster.create_empty().url
            self._database = url.rpartition("/")[2]
            self.history = History(self.cluster, self._database)
            self.stored = StoredReports(self.cluster, self._database)
            stack.callback(self._stop_members)
            for name in ("manager-1", "manager-2", "worker-1", "worker-2"):
                self._add(name, url, network)
            self.managers[0].process.launch()
            self.until(self.managers[0].is_ready, "the first manager is ready")
            self.history.begin()
            self.settle()
            self.usage = self._usage(network)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop all of them."""
        self._stack.close()

    def _usage(self, network: Network) -> Usage:
        def of(*members: Member) -> list[psutil.Process]:
            return [process for each in members if each.is_running for process in tree(each.pid())]

        return Usage(
            {
                "managers": lambda: of(*self.managers),
                "workers": lambda: of(*self.workers),
                "PostgreSQL": lambda: tree(self.cluster.pid),
                "Mosquitto": lambda: tree(self.mosquitto.pid),
                "proxies": lambda: [network.process],
                "fleet and checks": lambda: [psutil.Process()],
            }
        )

    def _add(self, name: str, url: str, network: Network) -> None:
        database = network.way(self.cluster.port)
        broker = network.way(self.mosquitto.port)
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
            shared_attackers=min(load.shared_attackers, _SHARED / load.rate),
            burst=_BURST,
            seed=seed,
            heartbeats=True,
            repeats=0.05,
            heartbeat_interval=max(1.0, load.agents / load.heartbeats),
            reconnect_base=0.2,
            reconnect_cap=1.0,
            receipt_timeout=_RECEIPT_TIMEOUT,
            patience=_PATIENCE,
        )
        with Simulation(plan, reader=self.stored) as self.fleet:
            self.receipts = ReceiptCheck(self.cluster, self._database, self.fleet.ledger)
            yield self.fleet

    def leader(self) -> Member:
        """Return the manager that says that it leads; wait for one."""
        found: list[Member] = []

        def leads() -> bool:
            found[:] = [each for each in self.managers if each.health().get("role") == _LEADER]
            return len(found) == 1

        self.until(leads, "one manager leads", pause=_ASKED_EVERY)
        return self.struck(found[0], "which leads")

    def standby(self) -> Member:
        """Return the other manager."""
        leader = self.leader()
        return self.struck(next(each for each in self.managers if each is not leader), "which does not lead")

    def worker(self) -> Member:
        """Return a worker by the dice."""
        return self.struck(self.dice.choice(self.workers))

    def struck(self, member: Member, what: str = "") -> Member:
        """Note what the present fault strikes."""
        self.notes = [f"{member.name} {what}".strip()]
        return member

    def kill(self, *members: Member) -> None:
        """Kill members with SIGKILL, and start them again after a moment by the dice."""
        for member in members:
            member.signal(signal.SIGKILL)
            if member.process.running is not None:
                member.process.running.process.wait(60)
            self.kills += 1
        self.wait(0.0, 3.0, 8.0)
        self.revive()

    def revive(self) -> None:
        """Start the members that have ended: a process manager does so."""
        for member in self.members:
            member.revive()

    @contextmanager
    def stopped(self, *processes: psutil.Process) -> Iterator[None]:
        """Stop processes with SIGSTOP within the block; one that has ended meanwhile is left out."""
        for each in processes:
            with suppress(psutil.NoSuchProcess):
                each.suspend()
        try:
            yield
        finally:
            for each in processes:
                with suppress(psutil.NoSuchProcess):
                    each.resume()

    def database_processes(self) -> list[psutil.Process]:
        """Return the processes of PostgreSQL, the first one first; its back ends come and go."""
        if self.cluster.pid is None:
            raise SiteError("PostgreSQL does not run")
        first = psutil.Process(self.cluster.pid)
        return [first, *first.children(recursive=True)]

    def fail_over(self, seconds: int) -> None:
        """Promote PostgreSQL to a new timeline, on a clock that is so many seconds off."""
        self.cluster.environment = {
            "LD_PRELOAD": str(faketime_library()),
            "FAKETIME": f"{seconds:+d}",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }
        self.cluster.promote()
        self.kills += 1

    def clock_offset(self) -> float:
        """Return the seconds by which PostgreSQL's clock is ahead of this machine's."""
        ((now,),) = self.cluster.execute("SELECT extract(epoch FROM clock_timestamp())")
        return float(now) - time.time()

    def receipted(self) -> int:
        """Return the number of reports with a receipt."""
        return 0 if self.fleet is None else self.fleet.progress.sent - self.fleet.progress.waiting

    def wait(self, least: float, most: float, longest: float | None = None) -> None:
        """Wait for a time by the dice, in one of eight cases up to the longest one."""
        is_long = longest is not None and self.dice.random() < _LONG
        seconds = self.dice.uniform(most, longest) if longest and is_long else self.dice.uniform(least, most)
        self.notes.append(f"{seconds:.1f} s")
        ends = time.monotonic() + seconds
        while (left := ends - time.monotonic()) > 0:
            self.usage.sample()
            time.sleep(min(left, _POLL))

    def until(self, holds: Callable[[], bool], what: str, within: float = _READY_WITHIN, pause: float = _POLL) -> None:
        """Wait until a condition is true.

        Raises:
            SiteError: it does not within so many seconds.
        """
        deadline = time.monotonic() + within
        while not holds():
            if time.monotonic() > deadline:
                raise SiteError(f"not within {within:g} s: {what}")
            time.sleep(pause)

    def settle(self) -> None:
        """Start the members that have ended; wait until one manager leads and all members are ready.

        Raises:
            SiteError: they are not in time.
        """

        def all_ready() -> bool:
            self.revive()
            return all(member.is_ready() for member in self.members)

        self.until(all_ready, "all members are ready", pause=_ASKED_EVERY)
        self.leader()
