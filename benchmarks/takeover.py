"""Measures a take-over: two managers on one PostgreSQL and one Mosquitto, and the leader is killed.

Run as ``python -m benchmarks.takeover [--quick] [-o json]``: 100,000 agents and 100,000 threats of a day. The time
counts from SIGKILL of the leader; the lease is taken, the store loaded, the doors opened and the broker connected.
"""

import argparse
import contextlib
import json
import re
import signal
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks import interpreter
from benchmarks.large_store import LargeStore
from manager.key_file import KeyFile
from manager.storage.opening import open_migrated_store
from manager.storage.sealed_values import open_secrets
from tests.support.mosquitto import Mosquitto
from tests.support.postgresql import Postgresql
from tests.support.processes import ManagerProcess
from tests.support.several_managers import DatabaseManagers, health, role

_TAKEN = re.compile(r"timestamp=(\S+) .*event=leadership_begins")
_LIMIT = 10.0
_WITHIN = 300.0


@dataclass(frozen=True, slots=True)
class Figure:
    """One take-over, in seconds after SIGKILL; `cpu_seconds` are the successor's from then until it is ready.

    At `door_answers` the store is loaded and the leader's own door answers, at `ready` the broker is connected, too.
    """

    agents: int
    threats: int
    lease_taken: float
    door_answers: float
    ready: float
    from_lease_to_ready: float
    cpu_seconds: float


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
    return 0


def measure(agents: int, threats: int, times: int) -> list[Figure]:
    """Return the figures of several take-overs, in each of which the leader of the one before is killed."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name, Postgresql() as cluster, Mosquitto() as broker:
        home, address = Path(name), cluster.create_empty()
        group = DatabaseManagers(home, address.url, broker.url)
        database = open_migrated_store(address)
        store_key = open_secrets(database, KeyFile(home / "manager.key"), address).store_key
        database.close()
        LargeStore(address, store_key, agents, threats)
        leader, standby = group.add(), group.add()
        try:
            leader.start()
            _wait(lambda: leader.not_ready() is None)
            figures = []
            for _ in range(times):
                standby.start()
                _wait(lambda follower=standby: role(follower) == "standby" and follower.not_ready() is None)
                figures.append(_take_over(leader, standby, agents, threats))
                leader, standby = standby, leader
            return figures
        finally:
            group.stop()


def _take_over(leader: ManagerProcess, standby: ManagerProcess, agents: int, threats: int) -> Figure:
    if leader.running is None or standby.running is None:
        raise RuntimeError("a manager does not run")
    process = psutil.Process(standby.running.process.pid)
    used = process.cpu_times()
    killed_at = time.time()
    leader.running.process.send_signal(signal.SIGKILL)
    log = standby.running.log
    _wait(lambda: _taken_at(log) > killed_at)
    taken = _taken_at(log) - killed_at
    answers = ready = None
    while ready is None:
        reason = standby.not_ready()
        if answers is None and "agents" in health(standby):  # which the door of one that stands by does not say
            answers = time.time() - killed_at
        if reason is None and answers is not None:
            ready = time.time() - killed_at
        time.sleep(0.02)
    after = process.cpu_times()
    leader.kill()
    spent = after.user + after.system - used.user - used.system
    figures = (taken, answers or ready, ready, ready - taken, spent)
    return Figure(agents, threats, *(round(each, 1) for each in figures))


def _taken_at(log: Path) -> float:
    stamps = _TAKEN.findall(log.read_text(errors="replace"))
    return datetime.fromisoformat(stamps[-1]).timestamp() if stamps else 0.0


def _wait(done: object) -> None:
    deadline = time.monotonic() + _WITHIN
    while not done():  # type: ignore[operator]
        if time.monotonic() > deadline:
            raise RuntimeError("the managers did not come up")
        time.sleep(0.02)


def table(figures: list[Figure]) -> Table:
    """Return the figures as a table."""
    shown = Table(title=f"take-over after SIGKILL of the leader, to reach: {_LIMIT:g} s from the lease to readiness")
    for name in ("agents", "threats", "lease taken", "door answers", "ready", "from lease to ready", "CPU s"):
        shown.add_column(name, justify="right")
    for figure in figures:
        shown.add_row(*(f"{value:,}" for value in asdict(figure).values()))
    return shown


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
