"""Reports that another process stored: the leader decides on each once, in the order of storing, across its crashes."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from manager.domain.correlation import Indicator
from manager.domain.ingest.decided_sequences import DecidedSequences
from manager.engine.batch import ThreatRow
from manager.engine.commands.requests import RemoveAgent
from manager.engine.context import ReceivedReport
from manager.engine.messages import reports
from manager.engine.messages.report_decoding import DecodedReport, decode_reports
from manager.engine.messages.stored_elsewhere import HOLD
from manager.storage.absent_values import ONE_BY_ONE
from manager.storage.postgresql.reports import store_reports
from manager.storage.statements import Statements, load_statements
from schemas import topics
from schemas.message_codes import content_digest
from tests.support.engine import Bench
from tests.support.examples import examples
from tests.support.migrated_store import address_of, stores_in
from tests.support.postgresql import Postgresql
from tests.support.simulated import SimulatedAgent

pytestmark = pytest.mark.postgresql

SOURCE = "203.0.113.7"
STORED = 12
ADDRESSES = [f"203.0.113.{number}" for number in range(1, STORED + 1)]


@pytest.fixture
def bench(tmp_path: Path, postgresql_cluster: Postgresql) -> Iterator[Bench]:
    with stores_in(postgresql_cluster):
        bench = Bench(tmp_path)
        yield bench
        bench.database.close()


class Worker:
    """Stores reports in a transaction of its own, as an ingest worker does."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self.connection: psycopg.Connection[Any] = psycopg.connect(address_of(bench.directory / "panguard.db").url)

    def rows(self, agent: SimulatedAgent, *payloads: bytes) -> list[ThreatRow]:
        known = self._bench.fleet.registry.agents[agent.agent_id]
        decoded = [each for payload in payloads for each in decode_reports(agent.agent_id, payload)]
        assert all(isinstance(each, DecodedReport) for each in decoded)
        received = [
            ReceivedReport(known, each.report, content_digest(each.body), each.document)
            for each in decoded
            if isinstance(each, DecodedReport)
        ]
        return [reports._row(each, self._bench.wall) for each in received]

    def store(self, agent: SimulatedAgent, *payloads: bytes, commit: bool = True) -> int:
        stored = store_reports(self.connection, self.rows(agent, *payloads))
        if commit:
            self.connection.commit()
        return stored.first


@pytest.fixture
def worker(bench: Bench) -> Iterator[Worker]:
    worker = Worker(bench)
    yield worker
    worker.connection.close()


def agents_with_clocks(bench: Bench, *names: str) -> list[SimulatedAgent]:
    agents = [bench.enroll(name) for name in names]
    for agent in agents:
        bench.receive(topics.HEARTBEAT, agent.agent_id, agent.heartbeat(bench.wall))
    return agents


@pytest.fixture
def stored_apart(bench: Bench, worker: Worker) -> Statements:
    """Provide the statements on a database with a report of each address."""
    (agent,) = agents_with_clocks(bench, "web-1")
    assert worker.store(agent, *(agent.threat(bench.wall, sourceIp=address) for address in ADDRESSES)) == 1
    return Statements(bench.database)


def look(bench: Bench) -> None:
    """Let the leader look for stored reports."""
    bench.engine.stored_elsewhere.notified = True
    bench.engine.step(bench.now)


def opened(bench: Bench) -> list[tuple[Any, ...]]:
    return bench.rows("SELECT value, report_count FROM incident WHERE kind = 'source_ip' ORDER BY value")


def decided(bench: Bench) -> str:
    return str(bench.rows("SELECT value FROM meta WHERE key = 'decided_sequences'")[0][0])


def test_reports_of_a_worker_open_an_incident(bench: Bench, worker: Worker) -> None:
    """The leader correlates, counts and announces reports that a worker stored, together with its own."""
    one, two = agents_with_clocks(bench, "web-1", "web-2")
    worker.store(one, one.threat(bench.wall, sourceIp=SOURCE))
    bench.receive(topics.THREATS, two.agent_id, two.threat(bench.wall, sourceIp=SOURCE))
    bench.pass_time(1.5)
    assert opened(bench) == [(SOURCE, 2)]
    assert [bench.fleet.registry.agents[each.agent_id].vitals.threats_detected for each in (one, two)] == [1, 1]
    assert bench.fleet.counters["threats_stored_elsewhere"] == 1
    assert decided(bench) == "[2,[]]"
    assert bench.rows("SELECT count(*) FROM threat") == [(2,)]
    assert bench.failures() == {}


def test_each_report_is_decided_once_across_crashes(bench: Bench, worker: Worker) -> None:
    """A leader that starts again decides on what was stored meanwhile, and on nothing twice."""
    one, two, three = agents_with_clocks(bench, "web-1", "web-2", "web-3")
    for agent in (one, two):
        worker.store(agent, agent.threat(bench.wall, sourceIp=SOURCE))
    look(bench)
    assert opened(bench) == [(SOURCE, 2)]
    worker.store(three, three.threat(bench.wall, sourceIp=SOURCE))
    for _ in range(3):
        bench.crash()
        look(bench)
        bench.pass_time(2)
        assert opened(bench) == [(SOURCE, 3)]
    assert bench.rows("SELECT count(*) FROM agent_vitals WHERE threats_detected > 1") == [(0,)]
    assert decided(bench) == "[3,[]]"


def test_a_commit_that_fails_decides_nothing(bench: Bench, worker: Worker) -> None:
    """While the leader's commit fails its decisions wait; after it every report is decided once."""
    one, two = agents_with_clocks(bench, "web-1", "web-2")
    for agent in (one, two):
        worker.store(agent, agent.threat(bench.wall, sourceIp=SOURCE))
    with psycopg.connect(address_of(bench.directory / "panguard.db").url) as blocker:
        blocker.execute("LOCK TABLE incident IN ACCESS EXCLUSIVE MODE")
        bench.database.execute_sql("SET lock_timeout = '50ms'")
        bench.engine.step(bench.now)
        look(bench)
        assert not bench.engine.can_commit
        blocker.rollback()
    assert decided(bench) == "[0,[]]"
    bench.pass_time(3)
    assert opened(bench) == [(SOURCE, 2)]
    assert decided(bench) == "[2,[]]"


def test_reports_that_are_not_decided_are_no_history(bench: Bench, worker: Worker) -> None:
    """A restarted leader that loads an address's older reports counts none that it has yet to decide on."""
    one, two, three = agents_with_clocks(bench, "web-1", "web-2", "web-3")
    bench.receive(topics.THREATS, one.agent_id, one.threat(bench.wall - 400, sourceIp=SOURCE))
    worker.store(two, two.threat(bench.wall - 350, sourceIp=SOURCE))
    bench.crash()
    bench.receive(topics.HEARTBEAT, three.agent_id, three.heartbeat(bench.wall))
    bench.receive(topics.THREATS, three.agent_id, three.threat(bench.wall - 380, sourceIp=SOURCE))
    bench.pass_time(2)
    assert opened(bench) == [(SOURCE, 3)]


def test_the_leader_decides_behind_a_slow_writer(bench: Bench, worker: Worker) -> None:
    """A block that is not committed holds later ones back, and none of them is passed over."""
    one, two = agents_with_clocks(bench, "web-1", "web-2")
    other = Worker(bench)
    worker.store(one, one.threat(bench.wall, sourceIp=SOURCE), commit=False)
    other.store(two, two.threat(bench.wall, sourceIp=SOURCE))
    look(bench)
    assert decided(bench) == "[0,[]]"
    bench.receive(topics.THREATS, two.agent_id, two.threat(bench.wall, sourceIp="203.0.113.8"))
    assert decided(bench) == "[0,[[3,3]]]"
    worker.connection.commit()
    look(bench)
    assert decided(bench) == "[3,[]]"
    assert opened(bench) == [(SOURCE, 2)]
    other.connection.close()


def test_what_a_worker_stored_meanwhile_is_not_decided_again(bench: Bench, worker: Worker) -> None:
    """A report that a worker stores between the leader's look-up and its commit is decided by the leader alone."""
    one, two = agents_with_clocks(bench, "web-1", "web-2")
    payload = one.threat(bench.wall, sourceIp=SOURCE)
    known_reports = bench.store.known_reports

    def overtaken(keys: Any) -> dict[tuple[int, str], bytes]:
        found = known_reports(keys)
        worker.store(one, payload)
        bench.store.known_reports = known_reports  # type: ignore[method-assign]
        return found

    bench.store.known_reports = overtaken  # type: ignore[method-assign]
    bench.receive(topics.THREATS, one.agent_id, payload)
    bench.receive(topics.THREATS, two.agent_id, two.threat(bench.wall, sourceIp=SOURCE))
    bench.pass_time(2)
    assert bench.receipts(one)["stored"]
    assert opened(bench) == [(SOURCE, 2)]
    assert bench.fleet.counters["threats_stored_elsewhere"] == 0
    assert bench.rows("SELECT count(*) FROM threat") == [(2,)]


def test_what_a_worker_stored_meanwhile_is_counted_once_by_a_successor(bench: Bench, worker: Worker) -> None:
    """The worker's row gets the event time by which the leader decided: the next one finds it inside the incident."""
    one, two, three = agents_with_clocks(bench, "web-1", "web-2", "web-3")
    payload = one.threat(bench.wall + 1, sourceIp=SOURCE)  # its event counts at the receipt, by each process's own
    rows = worker.rows(one, payload)
    bench.elapsed += 0.05
    known_reports = bench.store.known_reports

    def overtaken(keys: Any) -> dict[tuple[int, str], bytes]:
        found = known_reports(keys)
        store_reports(worker.connection, rows)
        worker.connection.commit()
        bench.store.known_reports = known_reports  # type: ignore[method-assign]
        return found

    bench.store.known_reports = overtaken  # type: ignore[method-assign]
    bench.receive(topics.THREATS, one.agent_id, payload)
    bench.receive(topics.THREATS, two.agent_id, two.threat(bench.wall, sourceIp=SOURCE))
    assert opened(bench) == [(SOURCE, 2)]
    bench.crash()
    bench.receive(topics.THREATS, three.agent_id, three.threat(bench.wall - 1, sourceIp=SOURCE))
    bench.pass_time(2)
    assert opened(bench) == [(SOURCE, 3)]


def test_other_content_that_a_worker_stored_meanwhile_is_refused(bench: Bench, worker: Worker) -> None:
    """The receipt of a report whose id was just stored with another content refuses it."""
    (agent,) = agents_with_clocks(bench, "web-1")
    known_reports = bench.store.known_reports

    def overtaken(keys: Any) -> dict[tuple[int, str], bytes]:
        found = known_reports(keys)
        worker.store(agent, agent.threat(bench.wall, "t-1", sourceIp=SOURCE))
        bench.store.known_reports = known_reports  # type: ignore[method-assign]
        return found

    bench.store.known_reports = overtaken  # type: ignore[method-assign]
    bench.receive(topics.THREATS, agent.agent_id, agent.threat(bench.wall, "t-1", sourceIp="203.0.113.8"))
    bench.pass_time(2)
    told = bench.receipts(agent)
    assert told["stored"] == []
    assert [refused["id"] for refused in told["refused"]] == ["t-1"]
    assert bench.rows("SELECT source_ip FROM threat") == [(SOURCE,)]


def test_a_removed_agents_reports_are_dead_letters(bench: Bench, worker: Worker) -> None:
    """What a worker stored of an agent that is removed by now is not decided on, and not taken again."""
    (agent,) = agents_with_clocks(bench, "web-1")
    rows = worker.rows(agent, agent.threat(bench.wall, sourceIp=SOURCE))
    store_reports(worker.connection, rows)
    worker.connection.commit()
    bench.engine.stored_elsewhere._next = 1e9
    bench.ask(RemoveAgent(agent.agent_id, "test"))
    look(bench)
    assert bench.rows("SELECT reason FROM dead_letter") == [("its agent was removed",)]
    assert decided(bench) == "[1,[]]"
    look(bench)
    assert bench.fleet.counters["reports_of_removed_agents"] == 1


def test_a_report_waits_for_the_clock_of_its_agent(bench: Bench, worker: Worker) -> None:
    """A report of a host whose clock is two hours ahead gets its event time from the first heartbeat, also if late."""
    known, new = agents_with_clocks(bench, "web-1")[0], bench.enroll("web-2")
    bench.fleet.registry.agents[new.agent_id].clock.seconds = None
    worker.store(new, new.threat(bench.wall + 7200 - 60, sourceIp=SOURCE))
    worker.store(known, known.threat(bench.wall, sourceIp="203.0.113.8"))
    look(bench)
    assert decided(bench) == "[0,[[2,2]]]"
    new.session += 1
    bench.receive(topics.HEARTBEAT, new.agent_id, new.heartbeat(bench.wall + 7200))
    look(bench)
    assert decided(bench) == "[2,[]]"
    ((event_time, received_at, time_known),) = bench.rows(
        "SELECT event_time, received_at, time_known FROM threat WHERE sequence = 1"
    )
    assert time_known
    assert abs(received_at - 60 - event_time) < 0.01


def test_a_report_without_a_clock_is_decided_after_three_seconds(bench: Bench, worker: Worker) -> None:
    """Without a sign of life within 3 s a report counts at its receipt, and is marked so."""
    agent = bench.enroll("web-1")
    bench.fleet.registry.agents[agent.agent_id].clock.seconds = None
    worker.store(agent, agent.threat(bench.wall - 50, sourceIp=SOURCE))
    look(bench)
    assert decided(bench) == "[0,[]]"
    bench.pass_time(HOLD + 1)
    assert decided(bench) == "[1,[]]"
    assert bench.rows("SELECT event_time = received_at, time_known FROM threat") == [(True, False)]


def test_a_clock_that_stepped_is_corrected_by_the_leader(bench: Bench, worker: Worker) -> None:
    """A worker that still has the offset of before a step misdates nothing: the leader corrects the stored row."""
    (agent,) = agents_with_clocks(bench, "web-1")
    payload = agent.threat(bench.wall + 3600 - 30, sourceIp=SOURCE)
    rows = worker.rows(agent, payload)
    assert rows[0].event_time == rows[0].received_at
    bench.receive(topics.HEARTBEAT, agent.agent_id, agent.heartbeat(bench.wall + 3600))
    store_reports(worker.connection, rows)
    worker.connection.commit()
    look(bench)
    ((event_time, received_at),) = bench.rows("SELECT event_time, received_at FROM threat")
    assert abs(received_at - 30 - event_time) < 0.01


def test_a_load_of_history_is_one_query_whatever_waits(bench: Bench, worker: Worker) -> None:
    """With many decided ranges behind reports that wait, an indicator's older reports are read by one statement."""
    one, two = agents_with_clocks(bench, "web-1", "web-2")
    worker.store(one, one.threat(bench.wall, sourceIp=SOURCE), commit=False)
    other = Worker(bench)
    for _ in range(20):
        other.store(two, two.threat(bench.wall, sourceIp="203.0.113.8"))
        bench.receive(topics.THREATS, one.agent_id, one.threat(bench.wall, sourceIp=SOURCE))
    look(bench)
    assert decided(bench).count("],[") == 19
    asked: list[str] = []
    rows = bench.store.archive._rows

    def counted(name: str, params: Any = ()) -> list[tuple[Any, ...]]:
        asked.append(name)
        return rows(name, params)

    bench.store.archive._rows = counted  # type: ignore[method-assign]
    found = list(bench.store.archive.reports(Indicator("source_ip", SOURCE, "default", None), 0.0, bench.wall + 1))
    assert len(found) == 20
    assert asked == ["threats.of_source_ip"]
    assert (
        list(bench.store.archive.reports(Indicator("source_ip", "203.0.113.8", "default", None), 0.0, bench.wall + 1))
        == []
    )
    other.connection.close()


def test_reports_of_new_addresses_are_not_asked_for_one_by_one(bench: Bench, worker: Worker) -> None:
    """After a restart the leader looks the addresses of a worker's reports up together; its own rows are no history."""
    agents = agents_with_clocks(bench, "web-1", "web-2")
    bench.crash()
    for agent in agents:
        bench.receive(topics.HEARTBEAT, agent.agent_id, agent.heartbeat(bench.wall))
        agent.session += 1
    for number in range(40):
        worker.store(agents[number % 2], agents[number % 2].threat(bench.wall - 30, sourceIp=f"203.0.113.{number}"))
    asked: list[str] = []
    rows = bench.store.archive._rows

    def counted(name: str, params: Any = ()) -> list[tuple[Any, ...]]:
        asked.append(name)
        return rows(name, params)

    bench.store.archive._rows = counted  # type: ignore[method-assign]
    look(bench)
    assert decided(bench) == "[40,[]]"
    assert asked.count("threats.of_source_ip") <= ONE_BY_ONE


@settings(max_examples=examples(80), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    up_to=st.integers(0, STORED + 2),
    others=st.lists(st.tuples(st.integers(1, STORED), st.integers(0, 3)).map(lambda each: (each[0], sum(each)))),
)
def test_values_count_where_their_report_was_decided(
    stored_apart: Statements, up_to: int, others: list[tuple[int, int]]
) -> None:
    """Of addresses that one report each has, those are found whose report lies in one of the decided ranges."""
    decided = DecidedSequences(up_to, others)
    firsts, lasts = map(list, zip(*decided, strict=True))
    params = {"values": json.dumps(ADDRESSES), "since": 0.0, "firsts": firsts, "lasts": lasts}
    found = {value for (value,) in stored_apart.rows("threats.stored_values_of_source_ip", params)}
    assert found == {address for sequence, address in enumerate(ADDRESSES, 1) if sequence in decided}


@pytest.mark.parametrize("kind", ["source_ip", "file_hash", "technique"])
def test_the_newest_reports_are_read_without_the_others(bench: Bench, worker: Worker, kind: str) -> None:
    """Of very many reports of an indicator only those that are asked for are touched, also in a small fleet.

    PostgreSQL gathers no statistics of a table that so few rows changed in. It read all reports for each agent, which
    stood a leader still for minutes after it took over.
    """
    agents = agents_with_clocks(bench, *(f"web-{number}" for number in range(8)))
    numbers = [bench.fleet.registry.agents[each.agent_id].number for each in agents]
    with worker.connection as connection:
        for day in range(2):
            first = bench.wall + (day - 1) * 86_400
            connection.execute(
                f"CREATE TABLE day_{day} PARTITION OF threat FOR VALUES FROM ({first}) TO ({first + 86_400})"
            )
        connection.execute(
            "INSERT INTO threat (sequence, agent_number, threat_id, digest, event_time, received_at, time_known, type,"
            " severity, confidence, document, ignored, vouched, source_ip, file_hash, technique)"
            " SELECT number, (%s::bigint[])[1 + number %% 8], 't-' || number, '', %s - number, %s - number, true, 'x',"
            " 'low', 1, '', 0, 0, 'a', 'b', 'c' FROM generate_series(1, 20000) AS number",
            (numbers, bench.wall, bench.wall),
        )
    values = {
        "value": {"source_ip": "a", "file_hash": "b", "technique": "c"}[kind],
        "organization_id": "default",
        "bit": 1,
        "start": bench.wall - 20_000,
        "end": bench.wall,
        "before": 0,
        "after": 0,
        "last": 2**62,
        "limit": 64,
    }
    statement = load_statements("postgresql")[f"threats.of_{kind}"]
    names = list(values)
    for name in names:
        statement = statement.replace(f"%({name})s", f"${names.index(name) + 1}")
    with psycopg.connect(address_of(bench.directory / "panguard.db").url, autocommit=True) as connection:
        connection.execute("ANALYZE threat")
        connection.execute("SET plan_cache_mode = force_generic_plan; SET max_parallel_workers_per_gather = 0")
        types = "text, text, bigint, float8, float8, bigint, bigint, bigint, bigint"
        connection.execute(f"PREPARE history ({types}) AS {statement}".encode())
        ask = sql.SQL("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE history ({})").format(
            sql.SQL(", ").join(map(sql.Literal, values.values()))
        )
        for _ in range(2):
            ((plan,),) = connection.execute(ask).fetchall()
    assert plan[0]["Plan"]["Actual Rows"] == 64
    assert plan[0]["Plan"]["Shared Hit Blocks"] + plan[0]["Plan"]["Shared Read Blocks"] < 500
