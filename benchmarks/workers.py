"""Measures ingest workers: CPU for each report in worker, leader and PostgreSQL, with one worker and with two.

Run as ``python -m benchmarks.workers [--rate N] [--seconds S] [--rounds R] [--quick] [-o json]``. Simulated agents
report at a fixed rate; one worker and two take turns on one leader, one PostgreSQL and one Mosquitto. The use without
reports is measured before each turn, once it falls no more, and left out. `worker` is for each report of the fleet, of
which the leader takes a share, too; `worker, of its own` is for each report that the workers store. Locks that sessions
wait for are sampled from `pg_stat_activity`. Heartbeats of 100,000 agents are handed over to an engine in this process.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import httpx2
import psycopg

from benchmarks import interpreter
from benchmarks.fleet import INTERVAL, heartbeat_body, make_store, times_of
from manager.domain.ingest.topics import WORKER_LIFE
from manager.domain.instant import Instant
from manager.engine.engine import Engine
from manager.engine.fleet import Fleet
from manager.engine.inbox import Inbound
from manager.engine.messages.gathered_life import GatheredLife
from manager.engine.settings import EngineSettings
from manager.runtime import clock
from manager.storage import tables
from manager.storage.connection import open_store
from manager.storage.store import PeeweeStore
from schemas.fast_heartbeats import fast_heartbeat
from schemas.keys import ManagerKeyring, new_secret
from schemas.message_codes import with_mac, without_mac
from schemas.topics import HEARTBEAT
from tests.support.engine import RecordingBrokerAccess, RecordingPublisher
from tests.support.mosquitto import Mosquitto
from tests.support.postgresql import Postgresql
from tests.support.processes import ManagerProcess
from tests.support.several_managers import DatabaseManagers, leads, role
from tests.support.waiting import eventually

_OF_A_PROCESS = 2
"""Names the CPU clock of a process, in the low bits of a clock's id on Linux."""

_TICK = os.sysconf("SC_CLK_TCK")
_AGENTS = 50
_MILLION = 1_000_000
_IDLE = 4.0
"""Seconds for which the use without reports is measured."""

_STILL = 0.9
_MOST_WAITS = 10
"""It is measured again while it is less than 0.9 of that before, at most so many times."""

_SAMPLE_EVERY = 0.005
_KINDS = ("worker", "leader", "postgresql")
_WHOLE = 10.0
"""A figure from which on digits behind the point mean nothing."""

_COUNTED = re.compile(r'^panguard_ingest_total\{kind="(threats_stored|batches)"\} (\S+)$', re.MULTILINE)
_WAITING = """
SELECT wait_event_type || ' ' || wait_event || ': ' || left(query, 60) FROM pg_stat_activity
WHERE datname = current_database() AND state <> 'idle' AND pid <> pg_backend_pid() AND wait_event_type = 'Lock'
"""


def cpu_of(pid: int, *, children: bool = False) -> float:
    """Return the seconds of CPU that a process has used; with those of its children, living and ended.

    The process's clock counts nanoseconds; ended children are counted in ticks.
    """
    used = time.clock_gettime(~pid << 3 | _OF_A_PROCESS)
    if children:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        used += sum(map(int, fields[13:15])) / _TICK
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            try:
                used += cpu_of(int(child))
            except OSError:
                continue  # ended meanwhile
    return used


class LockSampler:
    """Counts what sessions of a database wait for, sampled by a thread.

    Args:
        url: the database.
    """

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)
        self._stopping = threading.Event()
        self.samples = 0
        self.waits: Counter[str] = Counter()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopping.wait(_SAMPLE_EVERY):
            self.samples += 1
            self.waits.update(event for (event,) in self._connection.execute(_WAITING))

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        self._thread.join()
        self._connection.close()


class Group:
    """A leader, two workers of which one or both run, PostgreSQL and Mosquitto."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.cluster = stack.enter_context(Postgresql())
        self.broker = stack.enter_context(Mosquitto())
        self.url = self.cluster.create_empty().url
        self.managers = DatabaseManagers(directory, self.url, self.broker.url)
        stack.callback(self.managers.stop)
        self.leader = self.managers.add()
        self.leader.start()
        leads(self.leader)
        self.workers = [self.managers.add(PANGUARD_ROLE="ingest") for _ in range(2)]
        self.state = directory / "agents"

    def use(self, count: int) -> None:
        """Have a number of workers run."""
        for number, worker in enumerate(self.workers):
            runs = worker.running is not None and worker.running.process.poll() is None
            if number < count and not runs:
                worker.start()
            elif number >= count and runs:
                worker.stop()
        for worker in self.workers[:count]:
            eventually(lambda worker=worker: role(worker) == "ingest" and worker.not_ready() is None, 120, "a worker")

    def report(self, threats: int, rate: int, seed: int) -> dict[str, float]:
        """Have simulated agents report; return the seconds to their receipts, by percentage."""
        token, admin = (self.leader.data / name for name in ("enroll.token", "admin.token"))
        line = [
            sys.executable, "-m", "panguard", "simulate", "--manager", self.broker.url, "--agents", str(_AGENTS),
            "--threats", str(threats), "--rate", str(rate), "--seed", str(seed), "--state", str(self.state / str(seed)),
            "--enroll-token-file", str(token), "--auth-token-file", str(admin), "-o", "json",
        ]  # fmt: skip
        done = subprocess.run(  # noqa: S603 -- our own command
            line, check=True, stdout=subprocess.PIPE, env={**os.environ, "MANAGER_URL": self.leader.http}
        )
        return dict(json.loads(done.stdout)["timeToReceipt"])

    def used(self, count: int) -> dict[str, float]:
        """Return the CPU seconds of each kind of process."""
        postmaster = self.cluster.pid
        if postmaster is None:
            raise RuntimeError("PostgreSQL has ended")
        return {
            "worker": sum(cpu_of(_pid(worker)) for worker in self.workers[:count]),
            "leader": cpu_of(_pid(self.leader)),
            "postgresql": cpu_of(postmaster, children=True),
        }

    def counted(self, count: int) -> Counter[str]:
        """Return what the workers have counted: the reports that they stored, and their batches."""
        counted: Counter[str] = Counter()
        header = {"Authorization": f"Bearer {(self.leader.data / 'admin.token').read_text().strip()}"}
        for worker in self.workers[:count]:
            text = httpx2.get(f"{worker.http}/metrics", headers=header, timeout=60, trust_env=False).text
            counted.update({kind: int(float(value)) for kind, value in _COUNTED.findall(text)})
        return counted


def _pid(manager: ManagerProcess) -> int:
    if manager.running is None:
        raise RuntimeError("a manager has ended")
    return manager.running.process.pid


def measure_workers(rate: int, seconds: float, rounds: int) -> dict[str, object]:
    """Return the CPU for each report with one worker and with two, best and median of rounds; ratios of the medians."""
    figures: dict[int, list[dict[str, float]]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory(prefix="bench-") as name, ExitStack() as stack:
        group = Group(Path(name), stack)
        threats = max(_AGENTS, int(rate * seconds))
        sampler = LockSampler(group.url)
        for number in range(rounds * 2):
            count = 1 + number % 2
            figures[count].append(_turn(group, count, threats, rate))
        sampler.stop()
        waits, samples = dict(sampler.waits), sampler.samples
    best = {count: {kind: min(each[kind] for each in rows) for kind in rows[0]} for count, rows in figures.items()}
    median = {
        count: {kind: statistics.median(each[kind] for each in rows) for kind in rows[0]}
        for count, rows in figures.items()
    }
    return {
        "rate": rate,
        "reports": threats,
        "best": {f"{count} workers": _rounded(best[count]) for count in best},
        "median": {f"{count} workers": _rounded(median[count]) for count in median},
        "ratio": {kind: round(median[2][kind] / median[1][kind], 2) for kind in (*_KINDS, "all", "worker, of its own")},
        "samples": samples,
        "waits": waits,
    }


def _turn(group: Group, count: int, threats: int, rate: int) -> dict[str, float]:
    """Return the figures of one turn: microseconds of CPU, counts, and the seconds to receipts."""
    group.use(count)
    group.report(_AGENTS, rate, seed=count)  # registers the agents, and warms up
    idle = _use_at_rest(lambda: group.used(count))
    before, counted = (time.monotonic(), group.used(count)), group.counted(count)
    to_receipt = group.report(threats, rate, seed=count)
    after = time.monotonic(), group.used(count)
    counted = group.counted(count) - counted
    lasted = after[0] - before[0]
    used = {kind: (used - before[1][kind] - idle[kind] * lasted) * 1e6 for kind, used in after[1].items()}
    stored = counted["threats_stored"]
    return {
        **{kind: used[kind] / threats for kind in _KINDS},
        "all": sum(used.values()) / threats,
        "worker, of its own": used["worker"] / stored,
        "share of the workers": stored / threats,
        "reports in a batch": stored / counted["batches"],
        **{f"seconds to receipt, {share} %": value for share, value in to_receipt.items()},
    }


def _use_at_rest(used: Callable[[], dict[str, float]]) -> dict[str, float]:
    """Return the CPU seconds a second without reports, once it falls no more: what has just started has work left."""
    found, falls = _use(used), True
    for _ in range(_MOST_WAITS):
        if not falls:
            break
        previous, found = found, _use(used)
        falls = sum(found.values()) < _STILL * sum(previous.values())
    return found


def _use(used: Callable[[], dict[str, float]]) -> dict[str, float]:
    """Return the CPU seconds a second of the next `_IDLE` seconds, by kind of process."""
    began, before = time.monotonic(), used()
    time.sleep(_IDLE)
    after, lasted = used(), time.monotonic() - began
    return {kind: (after[kind] - before[kind]) / lasted for kind in after}


def _rounded(figures: dict[str, float]) -> dict[str, float]:
    return {kind: round(value) if value >= _WHOLE else round(value, 2) for kind, value in figures.items()}


def measure_heartbeats(agents: int) -> dict[str, object]:
    """Return the leader's CPU for each heartbeat that is handed over, and the share of a core for a million agents."""
    key = new_secret()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        path, keyring = Path(name) / "panguard.db", ManagerKeyring(new_secret())
        make_store(path, keyring.store_key, agents)
        database = open_store(path)
        tables.database.initialize(database)
        store = PeeweeStore(database, keyring.store_key)
        fleet = Fleet(keyring, EngineSettings())
        fleet.restore(store.load(), (), clock.read().wall)
        fleet.life_key = key
        engine = Engine(fleet, store, RecordingPublisher(), lambda _handles: None, RecordingBrokerAccess())
        engine.connected(clock.read(), fresh=False)
        known = list(fleet.registry.agents.values())
        lives = [GatheredLife(f"{number:032x}", key) for number in (1, 2)]
        used: list[float] = []
        for round_ in range(3):
            messages = _messages(known, lives, round_, clock.read())
            began = time.process_time()
            for message in messages:
                engine.inbox.put(message, clock.read().monotonic)
                engine.step(clock.read())
            used.append((time.process_time() - began) / agents * 1e6)
        heard = sum(agent.last_heartbeat is not None for agent in known)
        database.close()
    each = min(used)
    return {
        "agents": agents,
        "heard": heard,
        "microseconds": round(each, 1),
        "coreForMillion": round(each * _MILLION / INTERVAL / 1e6, 2),
    }


def _messages(known: list, lives: list[GatheredLife], round_: int, now: Instant) -> list[Inbound]:  # type: ignore[type-arg]
    """Return one heartbeat of each agent, gathered by the workers in turn."""
    messages, times = [], times_of(float(round_ * INTERVAL), now)
    for number, agent in enumerate(known):
        body = heartbeat_body((agent.in_force.version, agent.in_force.digest), 2 + round_, times).encode()
        payload = with_mac(agent.credential.mac_key, HEARTBEAT.below_root(agent.agent_id), body)
        heartbeat = fast_heartbeat(without_mac(payload))
        if heartbeat is None:
            raise RuntimeError("the benchmark's heartbeat is not plain")
        worker = number % len(lives)
        lives[worker].add(agent.agent_id, heartbeat, payload, now.monotonic)
        if lives[worker].is_full or number >= len(known) - len(lives):
            worker_id = f"{worker + 1:032x}"
            message = lives[worker].message(now, set())
            messages.append(Inbound(WORKER_LIFE, worker_id, WORKER_LIFE.below_root(worker_id), message, None))
    return messages


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--agents", type=int, default=100_000, help="agents whose heartbeats are handed over")
    parser.add_argument("--quick", action="store_true", help="seconds; the figures mean little")
    parser.add_argument("-o", "--output", choices=["table", "json"], default="table")
    options = parser.parse_args(arguments)
    interpreter.announce()
    if options.quick:
        options.seconds, options.rounds, options.agents = 2.0, 1, 2_000
    found = {
        "heartbeats": measure_heartbeats(options.agents),
        "reports": measure_workers(options.rate, options.seconds, options.rounds),
    }
    print(json.dumps(found, indent=None if options.output == "json" else 2))
    sys.stderr.write(f"load {os.getloadavg()[0]:.1f}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
