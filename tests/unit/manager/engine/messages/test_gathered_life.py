"""Gathered heartbeats of ingest workers: what the leader takes from them, in which order, and whom silence harms."""

import json
from pathlib import Path
from typing import Any

import pytest

from manager.domain.agents.agent import State
from manager.domain.ingest.topics import WORKER_LIFE, resolve_received
from manager.domain.instant import Instant
from manager.engine.messages.gathered_life import FULL, GatheredLife
from schemas import topics
from schemas.decoding import decode
from schemas.errors import TopicError
from schemas.fast_heartbeats import fast_heartbeat
from schemas.message_codes import with_mac, without_mac
from schemas.presence import Heartbeat
from schemas.topics import PREFIX
from tests.support.engine import Bench
from tests.support.simulated import SimulatedAgent

KEY = bytes(range(32))
FIRST, SECOND = "1" * 32, "2" * 32


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path)
    bench.fleet.life_key = KEY
    return bench


def add(life: GatheredLife, agent: SimulatedAgent, payload: bytes, at: float) -> None:
    body = without_mac(payload)
    life.add(agent.agent_id, fast_heartbeat(body) or decode(Heartbeat, payload, 16 * 1024), payload, at)


def hand_over(bench: Bench, life: GatheredLife, worker: str, flooding: set[str] | None = None) -> None:
    bench.put(WORKER_LIFE, worker, life.message(bench.now, flooding or set()))


def test_a_heartbeat_handed_over_is_as_one_received(bench: Bench) -> None:
    """Vitals and state are those of a heartbeat over MQTT; the clock offset is measured at the worker's receipt."""
    agent, life = bench.enroll("web-1"), GatheredLife(FIRST, KEY)
    bench.pass_time(40, step=5)
    sent = agent.heartbeat(bench.wall + 7200, cpu=33.0, events_processed=5)
    add(life, agent, sent, bench.now.monotonic)
    bench.pass_time(1)
    hand_over(bench, life, FIRST)
    bench.engine.step(bench.now)
    record = bench.fleet.registry.agents[agent.agent_id]
    assert record.vitals.cpu == 33.0
    assert record.vitals.events_processed == 5
    assert record.clock.seconds is not None
    assert abs(record.clock.seconds + 7200) < 0.01
    assert record.heard_monotonic == bench.now.monotonic - 1
    assert bench.failures() == {}


def test_heartbeats_of_two_workers_are_taken_in_the_agents_order(bench: Bench) -> None:
    """Of two heartbeats that arrive in the wrong order both count: the events of each are added up."""
    agent = bench.enroll("web-1")
    one, other = GatheredLife(FIRST, KEY), GatheredLife(SECOND, KEY)
    earlier, later = (agent.heartbeat(bench.wall, events_processed=3) for _ in range(2))
    add(one, agent, later, bench.now.monotonic)
    add(other, agent, earlier, bench.now.monotonic)
    hand_over(bench, one, FIRST)
    hand_over(bench, other, SECOND)
    bench.engine.step(bench.now)
    assert bench.fleet.registry.agents[agent.agent_id].vitals.events_total == 6


def test_what_only_the_contract_can_judge_is_handed_over_too(bench: Bench) -> None:
    """A heartbeat with unknown members, which the fast decoder leaves alone, counts as well."""
    agent, life = bench.enroll("web-1"), GatheredLife(FIRST, KEY)
    body = json.loads(without_mac(agent.heartbeat(bench.wall, cpu=44.0)))
    add(life, agent, agent.coded(topics.HEARTBEAT, json.dumps({**body, "unknown": 1}).encode()), bench.now.monotonic)
    hand_over(bench, life, FIRST)
    bench.engine.step(bench.now)
    assert bench.fleet.registry.agents[agent.agent_id].vitals.cpu == 44.0


def test_a_worker_of_another_release_may_pass_on_more(bench: Bench) -> None:
    """A heartbeat that this release's fast decoder refuses keeps no other heartbeat of its message out."""
    one, two = bench.enroll("web-1"), bench.enroll("web-2")
    bodies = [json.loads(without_mac(agent.heartbeat(bench.wall, cpu=55.0))) for agent in (one, two)]
    signs: list[Any] = [[agent.agent_id, 0, body] for agent, body in zip((one, two), bodies, strict=True)]
    signs[0][2]["member of a later release"] = True
    life = {
        "number": 1,
        "at": bench.wall,
        "ends": False,
        "flooding": [],
        "signs": signs,
        "others": [[one.agent_id, 0, {}]],
    }
    topic = WORKER_LIFE.below_root(FIRST)
    bench.receive(WORKER_LIFE, FIRST, with_mac(KEY, topic, json.dumps(life, separators=(",", ":")).encode()))
    assert [bench.fleet.registry.agents[each.agent_id].vitals.cpu for each in (one, two)] == [55.0, 55.0]


@pytest.mark.parametrize("key", [bytes(32), None])
def test_a_forged_message_changes_nothing(bench: Bench, key: bytes | None) -> None:
    """Without the managers' key, or where no worker is expected, a message is a dead letter."""
    agent, life = bench.enroll("web-1"), GatheredLife(FIRST, key or KEY)
    bench.fleet.life_key = KEY if key is not None else None
    add(life, agent, agent.heartbeat(bench.wall, cpu=66.0), bench.now.monotonic)
    hand_over(bench, life, FIRST)
    bench.engine.step(bench.now)
    assert bench.fleet.registry.agents[agent.agent_id].vitals.cpu is None
    assert bench.rows("SELECT reason FROM dead_letter") == [("no right code",)]


def test_a_message_of_another_worker_is_forged(bench: Bench) -> None:
    """The code covers the topic: a message is not taken on the topic of another worker, nor twice on its own."""
    agent, life = bench.enroll("web-1"), GatheredLife(FIRST, KEY)
    add(life, agent, agent.heartbeat(bench.wall, cpu=66.0), bench.now.monotonic)
    message = life.message(bench.now, set())
    bench.receive(WORKER_LIFE, SECOND, message)
    assert bench.fleet.registry.agents[agent.agent_id].vitals.cpu is None
    bench.receive(WORKER_LIFE, FIRST, message)
    assert bench.fleet.registry.agents[agent.agent_id].vitals.cpu == 66.0
    bench.receive(WORKER_LIFE, FIRST, message)
    assert bench.fleet.counters["worker_messages_repeated"] == 1


def test_no_agent_ages_while_a_worker_is_silent(bench: Bench) -> None:
    """With a worker silent for 5 s or more no agent becomes stale; when it is gone each has its full grace."""
    agent, life = bench.enroll("web-1"), GatheredLife(FIRST, KEY)
    hand_over(bench, life, FIRST)
    bench.pass_time(63, step=1)  # silent from 5 s, gone at 60 s
    assert bench.state(agent) == "online"
    bench.pass_time(85, step=1)
    bench.engine._sweep.run_next()
    bench.engine.step(bench.now)
    assert bench.state(agent) == "online"
    bench.pass_time(40, step=1)
    assert bench.state(agent) == "stale silence"


def test_a_lost_message_gives_every_agent_its_grace(bench: Bench) -> None:
    """A gap in a worker's numbers may be anybody's heartbeat: each agent has its full 90 s from the next message on."""
    agent, life = bench.enroll("web-1"), GatheredLife(FIRST, KEY)
    for second in range(85):
        message = life.message(bench.now, set())
        if second != 83:
            bench.put(WORKER_LIFE, FIRST, message)
        bench.pass_time(1)
    for _ in range(85):
        hand_over(bench, life, FIRST)
        bench.pass_time(1)
    bench.engine._sweep.run_next()
    bench.engine.step(bench.now)
    assert bench.state(agent) == "online"
    for _ in range(36):
        hand_over(bench, life, FIRST)
        bench.pass_time(1)
    assert bench.state(agent) == "stale silence"


def test_an_agent_that_floods_a_worker_is_suspended(bench: Bench) -> None:
    """The leader suspends at the broker the agents that a worker names."""
    agent, life = bench.enroll("web-1"), GatheredLife(FIRST, KEY)
    hand_over(bench, life, FIRST, {agent.agent_id})
    bench.engine.step(bench.now)
    assert bench.broker_access.suspended == [agent.agent_id]


def test_an_old_heartbeat_keeps_nobody_alive(bench: Bench) -> None:
    """What a worker hands over more than 10 s late, as after a stop, says nothing."""
    agent, life = bench.enroll("web-1"), GatheredLife(FIRST, KEY)
    add(life, agent, agent.heartbeat(bench.wall, cpu=77.0), bench.now.monotonic)
    bench.elapsed += 11
    hand_over(bench, life, FIRST)
    bench.engine.step(bench.now)
    assert bench.fleet.registry.agents[agent.agent_id].vitals.cpu is None


def test_a_message_that_a_broker_kept_is_refused(bench: Bench) -> None:
    """A message from 5 minutes ago, as a leader that has just started may get it, makes no worker and no silence."""
    agent, life = bench.enroll("web-1"), GatheredLife(FIRST, KEY)
    add(life, agent, agent.heartbeat(bench.wall, cpu=77.0), bench.now.monotonic)
    message = life.message(bench.now, set())
    bench.elapsed += 301
    bench.crash()
    bench.fleet.life_key = KEY
    bench.receive(WORKER_LIFE, FIRST, message)
    assert bench.fleet.ingest_workers.live(bench.now) == []
    assert bench.rows("SELECT reason FROM dead_letter") == [("sent 301 s ago by the worker's clock",)]


@pytest.mark.parametrize("seconds", [7200, -7200])
def test_a_step_of_the_leaders_clock_makes_nobody_stale(bench: Bench, seconds: float) -> None:
    """Heartbeats of workers go on to count: their ages need no common clock, and a worker's messages have numbers."""
    agent, life = bench.enroll("web-1"), GatheredLife(FIRST, KEY)
    told = bench.began
    for second in range(300):
        if second % 30 == 0:
            add(life, agent, agent.heartbeat(bench.wall), bench.now.monotonic)
        message = life.message(Instant(told + bench.elapsed, bench.now.monotonic), set())
        bench.put(WORKER_LIFE, FIRST, message)
        bench.engine.step(bench.now)
        if second == 10:
            bench.began += seconds
        bench.pass_time(1)
    assert bench.fleet.registry.agents[agent.agent_id].state is State.ONLINE
    assert bench.rows("SELECT count(*) FROM dead_letter") == [(0,)]


def test_operators_are_told_of_a_silent_worker(bench: Bench) -> None:
    """While a worker is silent a warning says that agents do not age; it goes with the silence."""
    life = GatheredLife(FIRST, KEY)
    hand_over(bench, life, FIRST)
    bench.pass_time(4)
    assert "ingest_workers" not in bench.fleet.warnings
    bench.pass_time(3)
    assert "1 ingest worker or stand-by is silent" in bench.fleet.warnings["ingest_workers"]
    hand_over(bench, life, FIRST)
    bench.pass_time(1)
    assert "ingest_workers" not in bench.fleet.warnings


def test_a_message_is_full_below_its_limit(bench: Bench) -> None:
    """A worker sends before its heartbeats are too many for one message."""
    agent, life = bench.enroll("web-1"), GatheredLife(FIRST, KEY)
    while not life.is_full:
        add(life, agent, agent.heartbeat(bench.wall), bench.now.monotonic)
    assert FULL < len(life.message(bench.now, set())) < WORKER_LIFE.limit


def test_topics_of_workers() -> None:
    """A worker's topic is known to managers alone: it is no topic of the contract."""
    address = WORKER_LIFE.address(FIRST)
    assert resolve_received(address) == (WORKER_LIFE, FIRST)
    with pytest.raises(TopicError):
        topics.resolve(address)
    for topic in ("ingest//life", "ingest/x/life", f"ingest/{FIRST}/lives", "ingest/life"):
        with pytest.raises(TopicError):
            resolve_received(PREFIX + topic)
