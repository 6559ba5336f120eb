"""The engine while the store is unavailable: nothing is decided, nothing grows without end, deferrals are sent."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from manager.domain.agents.agent import Door
from manager.domain.agents.host import Host
from manager.domain.policies.fleet_policies import GLOBAL
from manager.engine.batch import Changes
from manager.engine.commands.http_agent_requests import RecordHeartbeat, RegisterAgent
from manager.engine.commands.requests import DeregisterAgent, SetPolicy
from manager.engine.inbox import Command
from manager.errors import StoreUnavailable
from schemas import topics
from schemas.http_agents import HttpHeartbeat
from tests.support.engine import Bench

DOCUMENT = {"thresholds": {"autoRespond": 70}}


@contextmanager
def locked(bench: Bench) -> Iterator[None]:
    """Hold the store's write lock, as another program would."""
    bench.database.execute_sql("PRAGMA busy_timeout = 1")
    other = sqlite3.connect(bench.directory / "panguard.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


def full(_changes: Changes) -> None:
    raise StoreUnavailable("the disk is full")


def test_no_command_is_carried_out_that_could_not_be_committed(bench: Bench) -> None:
    """During a lock commands stay in the inbox and change nothing in memory; a withdrawn one is never carried out."""
    agent = bench.enroll("web-1")
    commands = [Command(SetPolicy(GLOBAL, DOCUMENT, "test"), lambda *_: None) for _ in range(3)]
    with locked(bench):
        for command in commands:
            bench.engine.inbox.submit(command)
        waiting = bench.submit(DeregisterAgent(agent.agent_id))
        bench.pass_time(60)
        assert not bench.engine.can_commit
        assert bench.fleet.policies.document(GLOBAL) is None
        assert (bench.state(agent), waiting) == ("online", [])
        assert all(command.claim() for command in commands)
    bench.pass_time(1)
    assert bench.engine.can_commit
    assert bench.fleet.policies.document(GLOBAL) is None
    assert waiting == [(agent.agent_id, None)]
    assert bench.rows("SELECT count(*) FROM policy_revision") == [(0,)]
    assert bench.fleet.counters["commits_failed"] == 1


def test_an_idle_engine_does_not_take_a_locked_store_for_available(bench: Bench) -> None:
    """The command that found the lock is withdrawn, and nothing is to be written: only a transaction shows the end."""
    bench.pass_time(1)  # what a start writes is written
    command = Command(SetPolicy(GLOBAL, DOCUMENT, "test"), lambda *_: None)
    with locked(bench):
        bench.engine.inbox.submit(command)
        bench.engine.step(bench.now)
        assert command.claim()
        for _ in range(3):
            bench.pass_time(1)
            assert not bench.engine.can_commit
    bench.pass_time(1)
    assert bench.engine.can_commit


def test_a_command_that_the_engine_has_claimed_cannot_be_withdrawn(bench: Bench) -> None:
    """A sender that gives up after the engine took its command is told so, for the change waits for its commit."""
    bench.store.commit = full  # type: ignore[method-assign]
    command = Command(SetPolicy(GLOBAL, DOCUMENT, "test"), lambda *_: None)
    bench.engine.inbox.submit(command)
    bench.engine.step(bench.now)
    assert command.is_claimed
    assert not command.claim()
    del bench.store.commit
    bench.engine.step(bench.now)
    assert bench.rows("SELECT count(*) FROM policy_revision") == [(1,)]


def test_no_withdrawn_command_stays_in_the_inbox(bench: Bench) -> None:
    """An hour of requests that give up leaves the inbox empty."""
    with locked(bench):
        for _ in range(200):
            command = Command(SetPolicy(GLOBAL, DOCUMENT, "test"), lambda *_: None)
            bench.engine.inbox.submit(command)
            bench.pass_time(1)
            assert command.claim()
            assert len(bench.engine.inbox) == 1
    bench.pass_time(1)
    assert bench.failures() == {"commits_failed": 1}


def test_deferrals_are_sent_while_the_store_is_unavailable(bench: Bench) -> None:
    """A report over its agent's budget is acknowledged and deferred by receipt at once, and nothing of it is kept."""
    agent = bench.enroll("web-1")
    bench.store.commit = full  # type: ignore[method-assign]
    kept = bench.receive(topics.THREATS, agent.agent_id, agent.threat(bench.wall, "kept"))
    assert not bench.engine.can_commit
    reports = [agent.threat(bench.wall, f"f-{number}") for number in range(2500)]
    handles = [bench.put(topics.THREATS, agent.agent_id, report) for report in reports]
    bench.pass_time(2)
    told = bench.receipts(agent)
    deferred = [one for entry in told["deferred"] for one in entry["ids"]]
    assert len(deferred) >= 450
    assert told["stored"] == []
    assert set(bench.acknowledged) & {kept, *handles} == set(handles[-len(deferred) :])
    assert bench.engine.inbox.take_deferred() == []


def test_a_suspension_ends_while_the_store_is_unavailable(bench: Bench) -> None:
    """The broker accepts a suspended agent again after a minute, whatever the store does."""
    agent = bench.enroll("web-1")
    for number in range(3500):
        bench.put(topics.THREATS, agent.agent_id, agent.threat(bench.wall, f"f-{number}"))
    bench.engine.step(bench.now)
    assert bench.broker_access.suspended == [agent.agent_id]
    bench.store.commit = full  # type: ignore[method-assign]
    bench.pass_time(61)
    assert not bench.engine.can_commit
    assert bench.broker_access.resumed == [agent.agent_id]


def test_the_mqtt_door_stays_closed_while_the_store_is_unavailable(bench: Bench) -> None:
    """A broker that connects meanwhile opens no door: agents whose messages cannot be taken do not age."""
    agent = bench.enroll("web-1")
    with locked(bench):
        bench.submit(DeregisterAgent("ag-0000000000000000"))
        bench.pass_time(5)
        bench.engine.disconnected()
        bench.engine.connected(bench.now, fresh=False)
        bench.pass_time(300, step=5)
        bench.engine._sweep.run_next()
    bench.pass_time(1)
    assert bench.engine.can_commit
    assert bench.state(agent) == "online"
    bench.pass_time(80, step=5)
    assert bench.state(agent) == "online"
    bench.pass_time(40, step=5)
    assert bench.state(agent) == "stale silence"


def test_a_store_that_is_back_opens_no_door_to_a_broker_that_is_not(bench: Bench) -> None:
    """MQTT agents age again once the broker is connected, not before."""
    bench.enroll("web-1")
    with locked(bench):
        bench.submit(SetPolicy(GLOBAL, DOCUMENT, "test"))
        bench.engine.step(bench.now)
        assert not bench.engine.can_commit
        bench.publisher.ready = False
        bench.engine.disconnected()
    bench.pass_time(1)
    assert bench.engine.can_commit
    assert [bench.fleet.liveness.is_open(door) for door in (Door.HTTP, Door.MQTT)] == [True, False]
    bench.publisher.ready = True
    bench.engine.connected(bench.now, fresh=False)
    assert bench.fleet.liveness.is_open(Door.MQTT)


def test_http_agents_age_again_after_an_outage_of_the_store(bench: Bench) -> None:
    """Each has its full grace from the end of the outage, and is stale after it."""
    host = Host.of("web-1", "Debian 12", "x64", "1.0")
    agent_id = bench.ask(RegisterAgent(host, None, by_admin=True)).record["agentId"]
    agent = bench.fleet.registry.agents[agent_id]
    with locked(bench):
        bench.submit(DeregisterAgent("ag-0000000000000000"))
        bench.pass_time(300, step=5)
    bench.pass_time(80, step=5)
    assert (bench.engine.can_commit, str(agent.state)) == (True, "online")
    bench.pass_time(45, step=5)
    assert (str(agent.state), str(agent.reason)) == ("stale", "silence")


def test_wills_wait_again_after_an_outage_of_the_store(bench: Bench) -> None:
    """A will from before an outage counts only after the settling time that follows it."""
    agent = bench.enroll("web-1")
    bench.receive(topics.PRESENCE, agent.agent_id, agent.presence("lost", bench.wall))
    with locked(bench):
        bench.submit(DeregisterAgent("ag-0000000000000000"))
        bench.pass_time(60)
    bench.pass_time(4)
    assert bench.state(agent) == "online"
    agent.session += 1
    bench.receive(topics.PRESENCE, agent.agent_id, agent.presence("online", bench.wall))
    bench.pass_time(30)
    assert bench.state(agent) == "online"
    assert bench.rows("SELECT count(*) FROM agent_history WHERE event = 'agent_stale'") == [(0,)]


def test_wills_wait_again_after_an_outage_of_the_broker(bench: Bench) -> None:
    """The birth that a restarted broker delivers after an old will keeps the agent online."""
    agent = bench.enroll("web-1")
    bench.receive(topics.PRESENCE, agent.agent_id, agent.presence("lost", bench.wall))
    bench.engine.disconnected()
    bench.pass_time(60)
    bench.engine.connected(bench.now, fresh=False)
    bench.pass_time(4)
    assert bench.state(agent) == "online"
    bench.pass_time(2)
    assert bench.state(agent) == "stale connection_lost"


def test_an_idle_engine_ends_every_transaction_that_it_begins(bench: Bench) -> None:
    """A command without a change leaves no lock behind."""
    agent = bench.enroll("web-1")
    bench.pass_time(20)
    for _ in range(3):
        bench.ask(DeregisterAgent(agent.agent_id))
        with locked(bench):
            pass
    assert bench.failures() == {}


@pytest.mark.parametrize(
    ("table", "noticed"),
    [("agent_history", True), ("threat", True), ("agent", True), ("dead_letter", True), ("incident", False)],
)
def test_damage_is_never_the_reports_fault(bench: Bench, table: str, *, noticed: bool) -> None:
    """A damaged root page: no step raises, nothing is refused, and nothing is told where the batch needs the page."""
    agent = bench.enroll("web-1")
    bench.receive(topics.THREATS, agent.agent_id, agent.threat(bench.wall, "before", sourceIp="203.0.113.1"))
    bench.pass_time(10)
    bench.receipts(agent)
    path = bench.directory / "panguard.db"
    ((page,),) = bench.rows(f"SELECT rootpage FROM sqlite_master WHERE name = '{table}'")
    ((size,),) = bench.rows("PRAGMA page_size")
    bench.database.execute_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    bench.database.close()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xa5" * size)
    bench.database.connect()
    handle = bench.put(topics.THREATS, agent.agent_id, agent.threat(bench.wall, "after", sourceIp="203.0.113.1"))
    bench.put(topics.PRESENCE, agent.agent_id, agent.presence("offline", bench.wall))
    answers = bench.submit(SetPolicy(GLOBAL, DOCUMENT, "test"))
    bench.put(topics.HEARTBEAT, agent.agent_id, b"{}")
    bench.pass_time(20)
    told = bench.receipts(agent)
    assert told["refused"] == []
    assert bench.engine.can_commit != noticed
    expected = ([], False, []) if noticed else (["after"], True, [None])
    assert (told["stored"], handle in bench.acknowledged, [error for _, error in answers]) == expected


def test_heartbeats_over_http_begin_no_transaction(bench: Bench) -> None:
    """A batch of heartbeats takes no write lock; any other command in the batch does."""
    agent = bench.enroll("web-1")
    bench.pass_time(60)
    begun: list[None] = []
    begin = bench.store.begin
    bench.store.begin = lambda: (begun.append(None), begin())[1]  # type: ignore[method-assign]
    answers = bench.submit(RecordHeartbeat(agent.agent_id, HttpHeartbeat()))
    bench.engine.step(bench.now)
    assert [error for _, error in answers] == [None]
    assert begun == []
    bench.submit(SetPolicy(GLOBAL, DOCUMENT, "test"))
    bench.engine.step(bench.now)
    assert begun == [None]
