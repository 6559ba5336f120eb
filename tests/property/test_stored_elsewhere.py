"""Decisions on reports of several processes: each is decided once, whatever ends when, against a plain count."""

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from manager.engine.context import ReceivedReport
from manager.engine.messages import reports
from manager.engine.messages.report_decoding import decode_reports
from manager.storage.postgresql.reports import store_reports
from schemas import topics
from tests.support.engine import Bench
from tests.support.examples import examples
from tests.support.migrated_store import address_of, stores_in
from tests.support.postgresql import Postgresql
from tests.support.simulated import SimulatedAgent

pytestmark = pytest.mark.postgresql

AGENTS, WORKERS, SOURCES = 3, 2, 2

ACTIONS = st.lists(
    st.one_of(
        st.tuples(
            st.just("store"), st.integers(0, WORKERS - 1), st.integers(0, AGENTS - 1), st.integers(0, SOURCES - 1)
        ),
        st.tuples(st.sampled_from(["commit", "rollback"]), st.integers(0, WORKERS - 1), st.just(0), st.just(0)),
        st.tuples(st.just("own"), st.just(0), st.integers(0, AGENTS - 1), st.integers(0, SOURCES - 1)),
        st.tuples(st.just("again"), st.integers(0, WORKERS), st.integers(0, AGENTS - 1), st.just(0)),
        st.tuples(st.sampled_from(["look", "crash", "unavailable"]), st.just(0), st.just(0), st.just(0)),
    ),
    max_size=25,
)


class History:
    """A leader, workers whose transactions stay open, and what must have been decided."""

    def __init__(self, directory: Path) -> None:
        self.bench = Bench(directory)
        self.agents = [self.bench.enroll(f"web-{number}") for number in range(AGENTS)]
        for agent in self.agents:
            self.bench.receive(topics.HEARTBEAT, agent.agent_id, agent.heartbeat(self.bench.wall))
        url = address_of(directory / "panguard.db").url
        self.workers: list[psycopg.Connection[Any]] = [psycopg.connect(url) for _ in range(WORKERS)]
        self.open: list[list[int]] = [[] for _ in self.workers]
        self.expected: Counter[int] = Counter()
        self.last: dict[int, tuple[bytes, int, bool]] = {}

    def payload(self, agent: SimulatedAgent, source: int) -> bytes:
        return agent.threat(self.bench.wall, sourceIp=f"203.0.113.{source + 1}")

    def store(self, worker: int, number: int, source: int, payload: bytes | None = None) -> bool:
        agent = self.agents[number]
        payload = payload or self.payload(agent, source)
        known = self.bench.fleet.registry.agents[agent.agent_id]
        received: list[ReceivedReport]
        received, _ = reports.received(known, decode_reports(agent.agent_id, payload))
        found = store_reports(self.workers[worker], [reports._row(each, self.bench.wall) for each in received]).known
        if not found:
            self.open[worker].append(source)
        return not found

    def act(self, action: str, worker: int, number: int, source: int) -> None:
        match action:
            case "store":
                payload = self.payload(self.agents[number], source)
                self.store(worker, number, source, payload)
            case "commit":
                self.end(worker, commit=True)
            case "rollback":
                self.end(worker, commit=False)
            case "own":
                payload = self.payload(self.agents[number], source)
                self.bench.receive(topics.THREATS, self.agents[number].agent_id, payload)
                self.expected[source] += 1
                self.last[number] = payload, source, True
            case "again" if number in self.last:
                payload, of_source, _ = self.last[number]
                if worker < WORKERS:
                    assert not self.store(worker, number, of_source, payload)
                else:
                    self.bench.receive(topics.THREATS, self.agents[number].agent_id, payload)
            case "look":
                self.look()
            case "crash":
                self.bench.crash()
                self.bench.fleet.liveness.times  # noqa: B018 -- built again
            case "unavailable":
                self.bench.database.execute_sql("SET lock_timeout = '20ms'")
                with psycopg.connect(self.bench.database.address.url) as blocker:
                    blocker.execute("LOCK TABLE incident IN ACCESS EXCLUSIVE MODE")
                    self.look()
        self.bench.elapsed += 0.01

    def end(self, worker: int, *, commit: bool) -> None:
        if commit:
            self.workers[worker].commit()
            self.expected.update(self.open[worker])
        else:
            self.workers[worker].rollback()
        self.open[worker] = []

    def look(self) -> None:
        self.bench.engine.stored_elsewhere.notified = True
        self.bench.engine.step(self.bench.now)

    def finish(self) -> None:
        for worker in range(WORKERS):
            self.end(worker, commit=True)
        for _ in range(3):
            self.look()
            self.bench.pass_time(1)

    def close(self) -> None:
        for connection in self.workers:
            connection.close()
        self.bench.database.close()


def test_each_report_is_decided_once(postgresql_cluster: Postgresql) -> None:
    """Reports of two workers and the leader, with crashes and failed commits: incidents count each exactly once."""

    @settings(max_examples=examples(15), deadline=None, suppress_health_check=list(HealthCheck))
    @given(ACTIONS)
    def check(actions: list[tuple[str, int, int, int]]) -> None:
        with stores_in(postgresql_cluster), tempfile.TemporaryDirectory() as directory:
            history = History(Path(directory))
            try:
                for action in actions:
                    history.act(*action)
                history.finish()
                bench = history.bench
                ((stored,),) = bench.rows("SELECT count(*) FROM threat")
                assert stored == history.expected.total()
                decided = bench.rows("SELECT value FROM meta WHERE key = 'decided_sequences'")
                assert decided == [(f"[{bench.rows('SELECT low_water_mark()')[0][0]},[]]",)]
                counted = dict(bench.rows("SELECT value, report_count FROM incident WHERE kind = 'source_ip'"))
                reported: dict[str, set[int]] = {}
                for source_ip, number in bench.rows("SELECT source_ip, agent_number FROM threat"):
                    reported.setdefault(source_ip, set()).add(number)
                several = {source_ip for source_ip, numbers in reported.items() if len(numbers) > 1}
                assert set(counted) == several
                for source_ip in several:
                    source = int(source_ip.rpartition(".")[2]) - 1
                    assert counted[source_ip] == history.expected[source]
            finally:
                history.close()

    check()
