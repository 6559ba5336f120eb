"""Measures a large fleet that beats: memory, time of a start, lag of heartbeats, longest wait for an acknowledgement.

Run as ``python -m benchmarks.fleet [--agents N] [--minutes M] [--quick] [--trace] [-o json]``. The engine and a real
store are in this process and are fed in memory, since a broker would take a core for itself; the messages are made in
the same thread, and their CPU time is measured apart. Each agent beats every 30 s, and a report arrives every 10 ms. A
run has what a manager does once: after a minute it judges its clock, after 90 s it looks at all agents for silence.
"""

import argparse
import gc
import json
import multiprocessing
import os
import sys
import tempfile
import time
import tracemalloc
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from manager.domain.agents.agent import Agent, Credential, Door, InForce, State, Vitals
from manager.domain.agents.clock_offset import ClockOffset
from manager.domain.agents.condition import Condition, EnforcedMeasures
from manager.domain.agents.host import Host
from manager.domain.instant import Instant
from manager.domain.policies.fleet_policies import Policies
from manager.domain.policies.groups import Placement
from manager.domain.response.response_record import REMEMBERED
from manager.engine.batch import Changes, Publication
from manager.engine.engine import Engine
from manager.engine.fleet import Fleet
from manager.engine.inbox import Inbound, Inbox
from manager.engine.settings import EngineSettings
from manager.runtime import clock, gc_tuning
from manager.storage import tables
from manager.storage.connection import open_store
from manager.storage.migrate import migrate
from manager.storage.store import PeeweeStore
from schemas import message_codes, topics
from schemas.keys import ManagerKeyring, new_secret
from schemas.model import iso
from schemas.presence import Enforced

INTERVAL = 30.0
_PROBE_EVERY = 0.01
_AT_ONCE = 10_000
_ORGANIZATIONS = 20
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(slots=True)
class Figures:
    """One run. Memory is in bytes for each agent, waits are in milliseconds, CPU time is in µs for each heartbeat."""

    agents: int
    start_seconds: float = 0.0
    start_cpu: float = 0.0
    memory: float = 0.0
    traced: float | None = None
    memory_beating: float = 0.0
    traced_beating: float | None = None
    seconds: float = 0.0
    heartbeats: int = 0
    rate: float = 0.0
    engine_cpu: float = 0.0
    generator_cpu: float = 0.0
    longest_lag: float = 0.0
    probes: int = 0
    wait_p50: float = 0.0
    wait_p99: float = 0.0
    wait_longest: float = 0.0
    longest_step: float = 0.0
    longest_step_cpu: float = 0.0
    stale: int = 0
    wal_mib: float = 0.0


class _Publisher:
    """Confirms what is published at once; it goes nowhere."""

    ready = True
    backlog = 0

    def publish(self, publication: Publication) -> None:
        if publication.confirm is not None:
            publication.confirm()


class _OpenBroker:
    """Access control that lets everybody in."""

    room: int | None = None

    def admit(self, agent: Agent, *, replaced: bool) -> None: ...
    def expel(self, agent_id: str) -> None: ...
    def suspend(self, agent_id: str) -> None: ...
    def resume(self, agent_id: str) -> None: ...
    def connected(self) -> None: ...


def make_store(path: Path, store_key: bytes, count: int) -> None:
    """Write a fleet into a new store."""
    database = open_store(path)
    tables.database.initialize(database)
    migrate(database, path)
    store, now = PeeweeStore(database, store_key), clock.read().wall
    for first in range(1, count + 1, _AT_ONCE):
        changes, policies = Changes(), Policies()
        for number in range(first, min(first + _AT_ONCE, count + 1)):
            agent_id, organization_id = f"ag-{number:016x}", f"org-{number % _ORGANIZATIONS}"
            policy = policies.assign(agent_id, Placement(organization_id), now)
            policy.published = True
            enforced = EnforcedMeasures.of(Enforced(policy_version=policy.version, blocklist_sequence=0, set=3))
            changes.policies[agent_id] = policy
            changes.agents[agent_id] = Agent(
                number, agent_id, organization_id, Host.of(f"srv-{number}", "Debian 12", "x64", "1.4", tags=("db",)),
                Credential(os.urandom(96)), None, Door.MQTT, now - number, State.ONLINE, now - number,
                session=1, clock=ClockOffset(0.0, now, 1),
                vitals=Vitals(12.5, 40.1, 1.0, "protection", 17, 17, outbox_size=0, outbox_dropped=0),
                in_force=InForce.of(policy.version, policy.resolved.digest, "applied"),
                condition=Condition("ok", enforcement="nftables", enforced=enforced),
            )  # fmt: skip
        store.commit(changes)
    store.close()


def make_store_apart(path: Path, store_key: bytes, count: int) -> None:
    """Write a fleet into a new store in a process of its own: the heap that it leaves would be filled uncounted."""
    maker = multiprocessing.get_context("spawn").Process(target=make_store, args=(path, store_key, count))
    maker.start()
    maker.join()
    if maker.exitcode != 0:
        raise RuntimeError("the store was not made")


class BeatingFleet:
    """An engine over a stored fleet, and the messages of its agents.

    Args:
        path: the store.
        keyring: the manager's keys.
        trace: whether to measure what Python allocates; it slows everything down.
    """

    def __init__(self, path: Path, keyring: ManagerKeyring, *, trace: bool) -> None:
        self._path, self._trace = path, trace
        self._acknowledged: list[float] = []
        self._put: dict[int, float] = {}
        gc.collect()
        self._resident = _resident()
        if trace:
            tracemalloc.start(1)
        began, cpu = time.perf_counter(), time.process_time()
        with gc_tuning.paused():
            database = open_store(path)
            tables.database.initialize(database)
            self._store = PeeweeStore(database, keyring.store_key)
            now = clock.read()
            self._fleet = Fleet(keyring, EngineSettings())
            snapshot = self._store.load()
            self._fleet.restore(snapshot, self._store.archive.responding(now.wall - REMEMBERED), now.wall)
            del snapshot
            self.engine = Engine(self._fleet, self._store, _Publisher(), self._acknowledge, _OpenBroker())
            self.engine.restore_correlation(now)
        gc_tuning.freeze_and_relax()
        count = len(self._fleet.registry)
        self.figures = Figures(count, time.perf_counter() - began, time.process_time() - cpu)
        self.figures.memory, self.figures.traced = self._memory()
        self.agents = list(self._fleet.registry.agents.values())
        opened = clock.read()
        self.engine.http_door_opened(opened)
        self.engine.connected(opened, fresh=False)

    def beat(self, seconds: float, feed: "Feed | None" = None) -> None:
        """Have every agent beat each 30 s in real time, as fast as the engine takes it, and measure.

        Args:
            seconds: how long.
            feed: puts heartbeats into the inbox; None makes them in this thread.
        """
        figures, agents, count = self.figures, self.agents, len(self.agents)
        feed = feed or self._put_due
        began = time.monotonic()
        sent = probes = 0
        generated = worked = 0.0
        while (elapsed := time.monotonic() - began) < seconds:
            cpu = time.thread_time()
            now = clock.read()
            figures.longest_lag = max(figures.longest_lag, elapsed - sent * INTERVAL / count)
            sent += feed(elapsed, sent, self.engine.inbox, now)
            if elapsed >= probes * _PROBE_EVERY:
                probes = int(elapsed / _PROBE_EVERY) + 1
                self._put_probe(agents[probes * 7919 % count], probes, now)
            generated += time.thread_time() - cpu
            cpu, stepped = time.process_time(), time.perf_counter()
            self.engine.step(clock.read())
            step_cpu = time.process_time() - cpu
            worked += step_cpu
            figures.longest_step_cpu = max(figures.longest_step_cpu, step_cpu * 1e3)
            figures.longest_step = max(figures.longest_step, (time.perf_counter() - stepped) * 1e3)
            if not self.engine.has_work:
                time.sleep(0.001)
        figures.seconds, figures.heartbeats = time.monotonic() - began, sent
        figures.rate = sent / figures.seconds
        figures.engine_cpu, figures.generator_cpu = worked / sent * 1e6, generated / sent * 1e6
        figures.stale = sum(agent.state is not State.ONLINE for agent in agents)
        waits = sorted(self._acknowledged)
        figures.probes = len(waits)
        if waits:
            figures.wait_p50, figures.wait_p99 = waits[len(waits) // 2] * 1e3, waits[len(waits) * 99 // 100] * 1e3
            figures.wait_longest = waits[-1] * 1e3
        figures.memory_beating, figures.traced_beating = self._memory()
        figures.wal_mib = Path(f"{self._path}-wal").stat().st_size / 2**20

    def close(self) -> None:
        """Write what waits, and close the store."""
        self.engine.stop(clock.read())
        self._store.close()

    def _put_due(self, elapsed: float, sent: int, _inbox: Inbox, now: Instant) -> int:
        """Make and put the heartbeats that are due, at most a batch; return their number."""
        count = len(self.agents)
        due = min(int(elapsed / INTERVAL * count), sent + self._fleet.settings.batch_limit)
        times = times_of(elapsed, now)
        for number in range(sent, due):
            agent = self.agents[number % count]
            policy = agent.in_force.version, agent.in_force.digest
            self._inbound(topics.HEARTBEAT, agent, heartbeat_body(policy, 2 + number // count, times), None, now)
        return max(0, due - sent)

    def _put_probe(self, agent: Agent, number: int, now: Instant) -> None:
        body = (
            f'{{"id":"{now.wall:.6f}-{number}","agentId":"{agent.agent_id}","threat":{{"type":"brute_force",'
            f'"confidence":80.0,"evidence":{{"sourceIp":"198.51.{number // 256 % 256}.{number % 256}"}},'
            f'"severity":"medium"}},"response":"block_ip","timestamp":"{iso(now.wall)}"}}'
        )
        self._put[number] = time.perf_counter()
        self._inbound(topics.THREATS, agent, body, number, now)

    def _inbound(self, row: topics.Topic, agent: Agent, body: str, handle: int | None, now: Instant) -> None:
        below = row.below_root(agent.agent_id)
        payload = message_codes.with_mac(agent.credential.mac_key, below, body.encode())
        self.engine.inbox.put(Inbound(row, agent.agent_id, below, payload, handle), now.monotonic)

    def _acknowledge(self, handles: list[Any]) -> None:
        at = time.perf_counter()
        self._acknowledged += [at - self._put.pop(handle) for handle in handles]

    def _memory(self) -> tuple[float, float | None]:
        gc.collect()
        count = self.figures.agents
        traced = tracemalloc.get_traced_memory()[0] / count if self._trace else None
        return (_resident() - self._resident) / count, traced


class Feed(Protocol):
    """A source of heartbeats."""

    def __call__(self, elapsed: float, sent: int, inbox: Inbox, now: Instant, /) -> int:
        """Put heartbeats that are due into the inbox; return their number."""
        ...


def times_of(elapsed: float, now: Instant) -> str:
    """Return the members of a heartbeat that state times."""
    return f'"uptime":{elapsed:.3f},"sentAt":"{iso(now.wall)}"'


def heartbeat_body(policy: tuple[int, str | None], sequence: int, times: str) -> str:
    """Return a guard's heartbeat.

    Args:
        policy: version and digest of the policy in force.
        sequence: its number.
        times: what `times_of` returns.
    """
    version, digest = policy
    return (
        f'{{"cpu":12.5,"memory":40.1,"eventsProcessed":17,"eventsTotal":{sequence * 17},"mode":"protection",'
        f'{times},"session":1,"sequence":{sequence},"policyVersion":{version},"policyDigest":"{digest}",'
        f'"policyState":"applied","blocklistSequence":0,"outboxSize":0,"outboxDropped":0,"health":"ok",'
        f'"enforcement":"nftables","sources":[{{"name":"journal","state":"ok","records":{sequence},'
        f'"understood":{sequence}}}],"enforced":{{"policyVersion":{version},"blocklistSequence":0,"set":3}}}}'
    )


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * _PAGE


def measure(agents: int, minutes: float, *, trace: bool) -> Figures:
    """Return the figures of one fleet."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        path, keyring = Path(name) / "panguard.db", ManagerKeyring(new_secret())
        make_store_apart(path, keyring.store_key, agents)
        fleet = BeatingFleet(path, keyring, trace=trace)
        fleet.beat(minutes * 60)
        fleet.close()
        return fleet.figures


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agents", type=int, default=100_000)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--quick", action="store_true", help="2,000 agents for seconds; the figures mean little")
    parser.add_argument("--trace", action="store_true", help="measure Python's allocations; the times mean nothing")
    parser.add_argument("-o", "--output", choices=["table", "json"], default="table")
    options = parser.parse_args(arguments)
    agents, minutes = (2_000, 0.1) if options.quick else (options.agents, options.minutes)
    show(measure(agents, minutes, trace=options.trace), options.output)
    return 0


def show(figures: Figures, output: str) -> None:
    """Print figures as a table or as JSON."""
    members = asdict(figures)
    if output == "json":
        sys.stdout.write(json.dumps(members, indent=2) + "\n")
        return
    for name, value in members.items():
        print(f"{name:>16}  {round(value, 2) if isinstance(value, float) else value!s:>12}")


if __name__ == "__main__":
    sys.exit(main())
