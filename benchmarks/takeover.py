"""Measures a take-over: two managers on one PostgreSQL and one Mosquitto, and the leader is killed.

Run as ``python -m benchmarks.takeover [--quick] [-o json]``: 100,000 agents and 100,000 threats of a day. The time
counts from SIGKILL of the leader: the lease is taken, the store loaded, the doors opened, the broker connected, and a
report that an agent has sent meanwhile is stored and receipted. Before the kill the vitals of all agents are written
anew, as the heartbeats of half a minute do: nothing that the stand-by has in memory of them is right.
"""

import argparse
import contextlib
import json
import re
import signal
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Self

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks import interpreter
from benchmarks.large_store import LargeStore
from manager.key_file import KeyFile
from manager.storage.opening import open_migrated_store
from manager.storage.sealed_values import open_secrets
from schemas import topics
from tests.integration.mqtt.door_bench import Peer, peer
from tests.support.enrolled import Sender
from tests.support.mosquitto import Mosquitto
from tests.support.postgresql import Postgresql
from tests.support.processes import ManagerProcess
from tests.support.several_managers import DatabaseManagers, health, role

_TAKEN = re.compile(r"timestamp=(\S+) .*event=leadership_begins")
_READY = re.compile(r"event=manager_ready (.*)")
_PHASE = re.compile(r"([a-z_]+)=([0-9.]+)")
_READ = re.compile(r"event=agents_read .*cpu_seconds=([0-9.]+)")
_LIMIT = 10.0
_WITHIN = 300.0
_REPORT_EVERY = 0.05
_MIB = 1024 * 1024
_NEVER_STALE = {"PANGUARD_STALE_AFTER": "3600", "PANGUARD_OFFLINE_AFTER": "7200"}
"""The agents send nothing, and a fleet that becomes stale within the run would be measured, too."""

_ADDRESSES = """
UPDATE agent SET
    addresses = format('["10.%s.%s.%s/24"]', number >> 16, (number >> 8) & 255, number & 255),
    gateways = format('["10.%s.%s.1"]', number >> 16, (number >> 8) & 255)
"""
_BEAT = "UPDATE agent_vitals SET heartbeat_sequence = heartbeat_sequence + 1, uptime = 1, cpu = 12.5"


@dataclass(frozen=True, slots=True)
class Figure:
    """One take-over, in seconds after SIGKILL; `cpu_seconds` are the successor's from then until it is ready.

    At `door_answers` the store is loaded and the leader's own door answers, at `ready` the broker is connected, too, at
    `report_stored` the receipt of a report that was sent after the kill has arrived. `phases` are the successor's own
    from the lease on. `standby_cpu` are its CPU seconds for reading all agents the first time, and `standby_memory` its
    memory in MiB while it stood by.
    """

    agents: int
    threats: int
    lease_taken: float
    door_answers: float
    ready: float
    report_stored: float
    from_lease_to_ready: float
    cpu_seconds: float
    standby_cpu: float
    standby_memory: float
    phases: dict[str, float] = field(default_factory=dict)


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke run; its figures mean little")
    parser.add_argument("--agents", type=int, default=100_000)
    parser.add_argument("--threats", type=int, default=100_000)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("-o", "--output", choices=["table", "json"], default="table")
    options = parser.parse_args(arguments)
    interpreter.announce()
    agents, threats, times = (1_000, 1_000, 1) if options.quick else (options.agents, options.threats, options.times)
    figures = measure(agents, threats, times)
    if options.output == "json":
        sys.stdout.write(json.dumps([asdict(figure) for figure in figures], indent=2) + "\n")
    else:
        Console().print(table(figures))
        Console().print(phase_table(figures))
    return 0


def measure(agents: int, threats: int, times: int) -> list[Figure]:
    """Return the figures of several take-overs, in each of which the leader of the one before is killed."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name, Postgresql() as cluster, Mosquitto() as broker:
        home, address = Path(name), cluster.create_empty()
        group = DatabaseManagers(home, address.url, broker.url)
        database = open_migrated_store(address)
        store_key = open_secrets(database, KeyFile(home / "manager.key"), address).store_key
        database.close()
        large = LargeStore(address, store_key, agents, threats)
        database_name = address.url.rsplit("/", 1)[1]
        cluster.execute(_ADDRESSES, database_name)
        cluster.execute("VACUUM ANALYZE", database_name)  # as autovacuum does within a minute
        leader, standby = group.add(**_NEVER_STALE), group.add(**_NEVER_STALE)
        try:
            leader.start()
            _wait(lambda: leader.not_ready() is None)
            figures = []
            for _ in range(times):
                log = _Log(standby.home / "manager.log")
                standby.start()
                _wait(lambda follower=standby: role(follower) == "standby" and follower.not_ready() is None)
                _wait(lambda log=log: log.find(_READ) is not None)
                cluster.execute(_BEAT, database_name)
                with peer(broker.port) as agent, _Reports(agent, large.senders[0]) as reports:
                    figures.append(_take_over(leader, standby, log, reports, (agents, threats)))
                leader, standby = standby, leader
            return figures
        finally:
            group.stop()


class _Log:
    """The lines that a manager logs from now on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._start = path.stat().st_size if path.exists() else 0

    def find(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        with self._path.open("rb") as file:
            file.seek(self._start)
            return pattern.search(file.read().decode(errors="replace"))


class _Reports:
    """An agent that sends a report each `_REPORT_EVERY` seconds, and notes the receipts; a context manager."""

    def __init__(self, agent: Peer, sender: Sender) -> None:
        self._agent = agent
        self._sender = sender
        self._sent_at: dict[str, float] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)

    def __enter__(self) -> Self:
        self._agent.subscribe(topics.RECEIPTS.address(self._sender.agent_id))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _send(self) -> None:
        while not self._stopping.wait(_REPORT_EVERY):
            threat_id = str(uuid.uuid4())
            self._sent_at[threat_id] = time.time()
            self._agent.publish(topics.THREATS.address(self._sender.agent_id), self._sender.report(threat_id))

    def stored_at(self, killed_at: float) -> float:
        """Return when the first receipt arrived of a report that was sent after a time."""
        deadline = time.monotonic() + _WITHIN
        while time.monotonic() < deadline:
            _, payload = self._agent.heard.get(timeout=_WITHIN)
            if any(self._sent_at.get(each, 0.0) > killed_at for each in json.loads(payload).get("stored", ())):
                return time.time()
        raise RuntimeError("no report is stored")


def _take_over(
    leader: ManagerProcess, standby: ManagerProcess, log: _Log, reports: _Reports, size: tuple[int, int]
) -> Figure:
    if leader.running is None or standby.running is None:
        raise RuntimeError("a manager does not run")
    process = psutil.Process(standby.running.process.pid)
    used, memory = process.cpu_times(), process.memory_info().rss / _MIB
    killed_at = time.time()
    leader.running.process.send_signal(signal.SIGKILL)
    stored: list[float] = []
    waiting = threading.Thread(target=lambda: stored.append(reports.stored_at(killed_at)), daemon=True)
    waiting.start()
    _wait(lambda: log.find(_TAKEN) is not None)
    taken = datetime.fromisoformat(_found(log, _TAKEN)[1]).timestamp() - killed_at
    answers = ready = None
    while ready is None:
        reason = standby.not_ready()
        if answers is None and "agents" in health(standby):  # which the door of one that stands by does not say
            answers = time.time() - killed_at
        if reason is None and answers is not None:
            ready = time.time() - killed_at
        time.sleep(0.02)
    after = process.cpu_times()
    waiting.join(_WITHIN)
    leader.kill()
    times = (taken, answers or ready, ready, stored[0] - killed_at, ready - taken)
    spent = after.user + after.system - used.user - used.system
    phases = {name: float(seconds) for name, seconds in _PHASE.findall(_found(log, _READY)[1])}
    first = float(_found(log, _READ)[1])
    return Figure(*size, *(round(each, 1) for each in (*times, spent, first)), round(memory), phases)


def _found(log: _Log, pattern: re.Pattern[str]) -> re.Match[str]:
    _wait(lambda: log.find(pattern) is not None)
    found = log.find(pattern)
    if found is None:
        raise RuntimeError(f"the log has no {pattern.pattern}")
    return found


def _wait(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _WITHIN
    while not done():
        if time.monotonic() > deadline:
            raise RuntimeError("the managers did not come up")
        time.sleep(0.02)


def table(figures: list[Figure]) -> Table:
    """Return the figures as a table."""
    shown = Table(title=f"take-over after SIGKILL of the leader; to reach: all within {_LIMIT:g} s")
    names = ("agents", "threats", "lease taken", "door answers", "ready", "report stored", "from lease to ready")
    for name in (*names, "CPU s", "first reading, CPU s", "stand-by, MiB"):
        shown.add_column(name, justify="right")
    for figure in figures:
        shown.add_row(*(f"{value:,}" for value in asdict(figure).values() if not isinstance(value, dict)))
    return shown


def phase_table(figures: list[Figure]) -> Table:
    """Return the successor's phases from the lease on, in seconds."""
    shown = Table(title="phases of the successor, s; the rest to readiness is before the first")
    names = list(figures[0].phases)
    for name in names:
        shown.add_column(name.replace("_", " "), justify="right")
    for figure in figures:
        shown.add_row(*(f"{figure.phases.get(name, 0.0):.2f}" for name in names))
    return shown


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
