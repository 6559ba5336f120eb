"""The worker's engine beside a leader's on one database: what is stored, acknowledged, answered and handed over."""

from contextlib import ExitStack
from typing import Any

import psycopg
import pytest

from manager.domain.ingest.gathering import Gathering
from manager.domain.store_history import HISTORY
from manager.engine.batch import DeadLetter
from manager.engine.commands.http_agent_requests import LearnAgent
from manager.engine.commands.requests import RemoveAgent
from manager.engine.inbox import Command
from manager.engine.ports import PruneOrder
from manager.engine.settings import EngineSettings
from manager.ingest.known_agents import KnownAgents
from manager.ingest.report_store import INGESTED
from manager.storage import rows
from manager.storage.postgresql.backend import AGENTS_CHANGED
from manager.storage.postgresql.listener import Listener
from schemas import topics
from tests.support.engine import Bench
from tests.support.ingest_worker import a_worker
from tests.support.migrated_store import address_of
from tests.support.simulated import SimulatedAgent
from tests.support.waiting import eventually

pytestmark = pytest.mark.postgresql

SOURCE = "203.0.113.7"


def test_a_report_is_stored_acknowledged_and_answered(leader: Bench, stack: ExitStack) -> None:
    """The receipt and the acknowledgement follow the commit; a repeated report is stored once and answered again."""
    worker, agent = a_worker(leader, stack), leader.enroll("web-1")
    payload = agent.threat(leader.wall, "t-1", sourceIp=SOURCE)
    handle = worker.receive(topics.THREATS, agent, payload)
    assert worker.acknowledged == [handle]
    assert worker.receipts(agent)["stored"] == ["t-1"]
    assert leader.rows("SELECT threat_id, source_ip FROM threat") == [("t-1", SOURCE)]
    leader.elapsed += 2
    worker.receive(topics.THREATS, agent, payload)
    assert worker.receipts(agent)["stored"] == ["t-1"]
    assert leader.rows("SELECT count(*) FROM threat") == [(1,)]
    assert worker.engine.counters["reports_repeated"] == 1


@pytest.mark.parametrize("damage", ["keys = '\\x00'", "addresses = '{'"])
def test_an_agent_whose_row_cannot_be_read_holds_up_no_others(leader: Bench, stack: ExitStack, damage: str) -> None:
    """Its reports are dead letters without a receipt, so that its guard keeps them; those of others are stored."""
    worker, damaged, sound = a_worker(leader, stack), leader.enroll("web-1"), leader.enroll("web-2")
    leader.rows(f"UPDATE agent SET {damage} WHERE agent_id = '{damaged.agent_id}' RETURNING number")
    for agent in (damaged, sound):
        worker.put(topics.THREATS, agent, agent.threat(leader.wall, "t-1", sourceIp=SOURCE))
    worker.engine.step(leader.now)
    assert worker.receipts(sound)["stored"] == ["t-1"]
    assert worker.receipts(damaged) == {"stored": [], "refused": [], "deferred": []}
    assert len(worker.acknowledged) == 2
    assert leader.rows("SELECT count(*) FROM threat") == [(1,)]


def test_texts_that_agents_state_fill_no_memory(
    leader: Bench, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker reads an agent again and again, which may state another version or mode each time."""
    monkeypatch.setattr(rows, "_TEXTS_SHARED", 20)
    worker, agent = a_worker(leader, stack), leader.enroll("web-1")
    for number in range(60):
        leader.rows(f"UPDATE agent SET version = 'v{number}' WHERE agent_id = '{agent.agent_id}' RETURNING number")
        (found,) = worker.store.agents([agent.agent_id])
        assert found.host.version == f"v{number}"
    assert len(worker.store._rows._texts) < 40


def test_a_receipt_names_the_generation_that_its_commit_saw(leader: Bench, stack: ExitStack) -> None:
    """A receipt that arrives after a fail-over is so known to be of before; one that is pending then is not sent."""
    worker, agent, history = a_worker(leader, stack), leader.enroll("web-1"), leader.fleet.store_history

    def receipts() -> list[tuple[list[str], int]]:
        sent = worker.publisher.take(topics.RECEIPTS.address(agent.agent_id))
        read = [agent.reads(topics.RECEIPTS, each, leader.keyring) for each in sent]
        return [(each["stored"], each["generation"]) for each in read]

    history.begin_run(leader.wall)
    leader.store.set_meta(HISTORY, history.dump())
    first = history.generation.number
    for name in ("t-1", "t-2"):
        worker.receive(topics.THREATS, agent, agent.threat(leader.wall, name))
    assert receipts() == [(["t-1"], first)]
    history.ask(leader.wall, leader.wall)
    leader.store.set_meta(HISTORY, history.dump())
    worker.receive(topics.THREATS, agent, agent.threat(leader.wall, "t-3"))
    leader.elapsed += 2
    worker.engine.step(leader.now)
    assert receipts() == [(["t-3"], history.generation.number)]
    assert history.generation.number > first


def test_the_same_id_with_other_content_is_refused(leader: Bench, stack: ExitStack) -> None:
    """Whether the first report was stored by another worker, by the leader, or stands in the same batch."""
    worker, other, agent = a_worker(leader, stack), a_worker(leader, stack, 2), leader.enroll("web-1")
    other.receive(topics.THREATS, agent, agent.threat(leader.wall, "t-1", sourceIp=SOURCE))
    leader.receive(topics.THREATS, agent.agent_id, agent.threat(leader.wall, "t-2", sourceIp=SOURCE))
    for name in ("t-1", "t-2", "t-3"):
        worker.put(topics.THREATS, agent, agent.threat(leader.wall, name, sourceIp="203.0.113.9"))
    worker.put(topics.THREATS, agent, agent.threat(leader.wall, "t-3", sourceIp="203.0.113.10"))
    worker.engine.step(leader.now)
    told = worker.receipts(agent)
    assert told["stored"] == ["t-3"]
    assert sorted(each["id"] for each in told["refused"]) == ["t-1", "t-2", "t-3"]
    assert leader.rows("SELECT count(*) FROM threat") == [(3,)]


def test_forged_and_foreign_reports_are_dead_letters(leader: Bench, stack: ExitStack) -> None:
    """A report with a wrong code, of an unknown agent, or that names another agent is not stored."""
    worker, agent, other = a_worker(leader, stack), leader.enroll("web-1"), leader.enroll("web-2")
    worker.receive(topics.THREATS, agent, agent.threat(leader.wall)[:-4] + b'xx"}')
    foreign = SimulatedAgent("x", agent.token, agent.seal_key, agent_id="ag-" + "0" * 16)
    worker.receive(topics.THREATS, foreign, foreign.threat(leader.wall))
    agent.agent_id, own = other.agent_id, agent.agent_id
    body = agent.threat(leader.wall, "t-9")[: -len(',"mac":"') - 45] + b"}"
    agent.agent_id = own
    worker.receive(topics.THREATS, agent, agent.coded(topics.THREATS, body))
    reasons = [reason for (reason,) in leader.rows("SELECT reason FROM dead_letter ORDER BY id")]
    assert reasons == ["no right code", "no such agent", "agentId is not the one of its topic"]
    assert leader.rows("SELECT count(*) FROM threat") == [(0,)]
    assert [each["id"] for each in worker.receipts(agent)["refused"]] == ["t-9"]


def test_what_cannot_be_stored_is_not_acknowledged(leader: Bench, stack: ExitStack) -> None:
    """While the database refuses, a report is neither acknowledged nor answered; afterwards it is, once."""
    worker, agent = a_worker(leader, stack), leader.enroll("web-1")
    worker.receive(topics.HEARTBEAT, agent, agent.heartbeat(leader.wall))
    worker.acknowledged.clear()
    with psycopg.connect(address_of(leader.directory / "panguard.db").url) as blocker:
        blocker.execute("LOCK TABLE stored_id IN ACCESS EXCLUSIVE MODE")
        worker.database.execute_sql("SET lock_timeout = '50ms'")
        worker.receive(topics.THREATS, agent, agent.threat(leader.wall, "t-1"))
        assert worker.engine.problem is not None
        assert not worker.engine.step(leader.now)
        assert worker.acknowledged == []
        assert worker.receipts(agent)["stored"] == []
        blocker.rollback()
    assert worker.engine.step(leader.now)
    assert len(worker.acknowledged) == 1
    assert worker.receipts(agent)["stored"] == ["t-1"]


def test_two_workers_and_a_leader_open_one_incident(leader: Bench, stack: ExitStack) -> None:
    """An attacker whose reports come through two workers and the leader is one incident with every agent."""
    agents = [leader.enroll(f"web-{number}") for number in range(3)]
    for agent in agents:
        leader.receive(topics.HEARTBEAT, agent.agent_id, agent.heartbeat(leader.wall))
    for number, agent in enumerate(agents[:2], 1):
        worker = a_worker(leader, stack, number)
        worker.receive(topics.THREATS, agent, agent.threat(leader.wall, sourceIp=SOURCE))
    leader.receive(topics.THREATS, agents[2].agent_id, agents[2].threat(leader.wall, sourceIp=SOURCE))
    leader.pass_time(2)
    assert leader.rows("SELECT value, report_count FROM incident WHERE kind = 'source_ip'") == [(SOURCE, 3)]
    assert leader.rows(
        "SELECT count(*) FROM incident_member JOIN incident ON id = incident_id WHERE kind = 'source_ip'"
    ) == [(3,)]


def test_heartbeats_reach_the_leader_each_second(leader: Bench, stack: ExitStack) -> None:
    """The leader learns vitals and clock offset of a heartbeat that a worker verified; a forged one goes no further."""
    worker, agent = a_worker(leader, stack), leader.enroll("web-1")
    worker.engine.step(leader.now)
    worker.deliver_life()
    leader.elapsed += 0.5
    worker.receive(topics.HEARTBEAT, agent, agent.heartbeat(leader.wall + 300, cpu=71.0))
    worker.receive(topics.HEARTBEAT, agent, agent.heartbeat(leader.wall, cpu=99.0)[:-3] + b'x"}')
    leader.elapsed += 0.5
    worker.engine.step(leader.now)
    worker.deliver_life()
    record = leader.fleet.registry.agents[agent.agent_id]
    assert record.vitals.cpu == 71.0
    assert record.clock.seconds is not None
    assert abs(record.clock.seconds + 300) < 0.01
    assert leader.fleet.ingest_workers.live(leader.now) == [worker.worker_id]


def test_a_worker_without_a_broker_waits(leader: Bench, stack: ExitStack) -> None:
    """A hand-over that is due and impossible asks for no step at once: the loop would take a core."""
    worker = a_worker(leader, stack)
    worker.publisher.ready = False
    leader.pass_time(5.0)
    worker.engine.step(leader.now)
    assert worker.engine.idle_for(leader.now.monotonic) > 0


def test_a_removed_agent_is_refused_once_the_worker_is_told(leader: Bench, stack: ExitStack) -> None:
    """The removal's notification has the worker ask the database, which has the agent no more."""
    worker, agent = a_worker(leader, stack), leader.enroll("web-1")
    worker.receive(topics.THREATS, agent, agent.threat(leader.wall, "t-1"))
    leader.ask(RemoveAgent(agent.agent_id, "test"))
    worker.agents.outdate(agent.agent_id)
    worker.receive(topics.THREATS, agent, agent.threat(leader.wall, "t-2"))
    assert leader.rows("SELECT threat_id FROM threat") == [("t-1",)]


def test_budgets_are_divided_among_the_workers(leader: Bench, stack: ExitStack) -> None:
    """With four processes an agent has a quarter of its budget at each: what is over it is deferred by receipt."""
    settings = EngineSettings(agent_messages=8.0, burst=1.0)
    worker, agent = a_worker(leader, stack, settings=settings), leader.enroll("web-1")
    worker.engine.share(4)
    for number in range(3):
        worker.put(topics.THREATS, agent, agent.threat(leader.wall, f"t-{number}"))
    worker.engine.step(leader.now)
    told = worker.receipts(agent)
    assert told["stored"] == ["t-0", "t-1"]
    assert [each["ids"] for each in told["deferred"]] == [["t-2"]]
    assert len(worker.acknowledged) == 3


def test_the_leader_is_notified_after_a_commit(leader: Bench, stack: ExitStack) -> None:
    """A worker that has stored something says so on the channel."""
    worker, agent = a_worker(leader, stack), leader.enroll("web-1")
    with psycopg.connect(address_of(leader.directory / "panguard.db").url, autocommit=True) as listening:
        listening.execute(f"LISTEN {INGESTED}".encode())
        worker.receive(topics.THREATS, agent, agent.threat(leader.wall))
        assert [each.channel for each in listening.notifies(timeout=60, stop_after=1)] == [INGESTED]


def test_more_agents_than_the_cache_holds_are_loaded_again(leader: Bench) -> None:
    """The cache drops the agents that were loaded first, and asks for them again when they are heard."""
    agents = [leader.enroll(f"web-{number}") for number in range(3)]
    asked: list[list[str]] = []

    def load(agent_ids: Any) -> list[Any]:
        asked.append(sorted(agent_ids))
        return [leader.fleet.registry.agents[each] for each in agent_ids]

    known = KnownAgents(load, most=2)
    first, second, third = (agent.agent_id for agent in agents)
    for each in (first, second, third, second, first):
        known.complete([each])
        assert known.find(each) is not None
    assert asked == [[first], [second], [third], [first]]
    assert len(known) == 2


def test_dead_letters_of_workers_are_bounded(leader: Bench, stack: ExitStack) -> None:
    """The leader's housekeeping keeps the newest dead letters, whoever stored them."""
    worker, now = a_worker(leader, stack), leader.wall
    worker.store.store([], [DeadLetter(now, "agents/x/threats", f"reason {n}", 1, b"x") for n in range(1200)])
    leader.store.prune(PruneOrder(now, 0, 0, 0, 0, 0, 0, threats=1, ids=1, rows=1))
    assert leader.rows("SELECT count(*) FROM dead_letter") == [(1000,)]


def test_batches_are_gathered_among_several_processes(leader: Bench, stack: ExitStack) -> None:
    """A report after a pause is stored at once; those behind it wait, the longer the more processes share them."""
    worker, agent = a_worker(leader, stack), leader.enroll("web-1")
    worker.engine.gathering = Gathering(0.05)
    worker.engine.share(2)
    worker.receive(topics.THREATS, agent, agent.threat(leader.wall))
    assert leader.rows("SELECT count(*) FROM threat") == [(1,)]
    worker.receive(topics.THREATS, agent, agent.threat(leader.wall))
    assert 0.05 < worker.engine.idle_for(leader.now.monotonic) < 0.11
    assert worker.engine.gathers_for(leader.now.monotonic) == worker.engine.idle_for(leader.now.monotonic)
    leader.elapsed += 0.09
    worker.engine.step(leader.now)
    assert leader.rows("SELECT count(*) FROM threat") == [(1,)]
    leader.elapsed += 0.02
    assert worker.engine.idle_for(leader.now.monotonic) == worker.engine.gathers_for(leader.now.monotonic) == 0
    worker.engine.step(leader.now)
    assert leader.rows("SELECT count(*) FROM threat") == [(2,)]
    assert worker.engine.counters["batches"] == 2
    assert worker.engine.gathers_for(leader.now.monotonic) > 0
    worker.engine.inbox.submit(Command(LearnAgent(agent.agent_id), lambda _value, _error: None))
    assert worker.engine.gathers_for(leader.now.monotonic) == 0


def test_a_new_connection_takes_reports_as_the_first_one_did(leader: Bench, stack: ExitStack) -> None:
    """What a session has once for all its batches, its temporary table, each connection gets anew."""
    worker, agent = a_worker(leader, stack), leader.enroll("web-1")
    for number in range(3):
        worker.receive(topics.THREATS, agent, agent.threat(leader.wall, f"t-{number}"))
        worker.database.connection().close()
    assert (worker.engine.problem, leader.rows("SELECT count(*) FROM threat")) == (None, [(3,)])
    assert len(worker.acknowledged) == 3


def test_workers_hear_of_changed_keys_and_removals(leader: Bench, stack: ExitStack) -> None:
    """The commit of a registration with another key, or of a removal, names the agent to who listens; others do not."""
    heard: list[tuple[str, str]] = []
    address = address_of(leader.directory / "panguard.db")
    listener = Listener(address, (AGENTS_CHANGED,), lambda channel, text: heard.append((channel, text)), interval=1.0)
    stack.callback(listener.stop)
    listener.start()
    eventually(lambda: heard == [("", "")], 60, "it listens")
    agent = leader.enroll("web-1")
    eventually(lambda: (AGENTS_CHANGED, agent.agent_id) in heard, 60, "a new agent")
    heard.clear()
    leader.receive(topics.HEARTBEAT, agent.agent_id, agent.heartbeat(leader.wall))
    leader.pass_time(6)
    other = SimulatedAgent("web-1", agent.token, agent.seal_key, uptime_from=leader.wall)
    leader.elapsed += 60
    leader.register(other)
    eventually(lambda: heard, 60, "another key")
    assert heard == [(AGENTS_CHANGED, agent.agent_id)]
    leader.ask(RemoveAgent(agent.agent_id, "test"))
    eventually(lambda: len(heard) == 2, 60, "the removal")
    assert heard[1] == (AGENTS_CHANGED, agent.agent_id)
