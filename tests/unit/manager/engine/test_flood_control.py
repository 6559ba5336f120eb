"""Flood control on a virtual clock: deferral at the inbox, then suspension at the broker."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manager.domain.agents.registry import Takeover
from manager.domain.budget import Budget, TokenBucket
from manager.engine.settings import EngineSettings
from manager.mqtt.broker_link import LinkSettings
from schemas import topics
from schemas.limits import KIB, MIB
from tests.support.engine import Bench
from tests.support.simulated import SimulatedAgent

LARGE = "x" * (255 * 1024)
BURST = 80
"""Reports of 256 KiB that a whole unused budget pays for."""


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path, EngineSettings(takeover=Takeover.ALLOW))
    yield bench
    bench.database.close()


def flood(bench: Bench, agent: SimulatedAgent, count: int, line: str = LARGE, first: int = 0) -> list[str]:
    """Put reports in the inbox without a step of the engine; return their ids."""
    ids = [f"f-{number}" for number in range(first, first + count)]
    for threat_id in ids:
        bench.put(topics.THREATS, agent.agent_id, agent.threat(bench.wall, threat_id, line=line))
    return ids


def test_the_others_are_in_the_next_batch_whatever_one_sends(bench: Bench) -> None:
    """Reports behind five hundred large ones are stored, receipted and acknowledged by the next step."""
    flooder, *others = [bench.enroll(f"web-{number}") for number in range(11)]
    flood(bench, flooder, 500)
    handles = [
        bench.put(topics.THREATS, agent.agent_id, agent.threat(bench.wall, "mine", sourceIp="203.0.113.1"))
        for agent in others
    ]
    bench.engine.step(bench.now)
    assert [bench.receipts(agent)["stored"] for agent in others] == [["mine"]] * len(others)
    assert set(handles) <= set(bench.acknowledged)


def test_a_batch_ends_with_its_bytes(bench: Bench) -> None:
    """No transaction holds much more than half a MiB, whatever one agent may send."""
    flooder = bench.enroll("web-1")
    flood(bench, flooder, BURST)
    sizes = []
    while len(bench.engine.inbox):
        before = bench.engine.inbox.bytes
        bench.engine.step(bench.now)
        sizes.append(before - bench.engine.inbox.bytes)
    assert sum(sizes) > 18 * MIB
    assert max(sizes) <= 2 * MIB + 256 * KIB


def test_the_inbox_never_holds_more_of_one_agent_than_its_burst(bench: Bench) -> None:
    """Messages over the burst are deferred on arrival, and other agents' messages are accepted."""
    flooder = bench.enroll("web-1")
    flood(bench, flooder, 2_000)
    assert bench.engine.inbox.bytes <= 20 * MIB < LinkSettings().inbox_bytes
    bench.pass_time(60)
    for round_ in range(5):
        flood(bench, flooder, 1_000, "short", first=10_000 + 1_000 * round_)
    assert len(bench.engine.inbox) <= 2_000 < LinkSettings().inbox_messages


def test_nothing_of_a_flood_vanishes_silently(bench: Bench) -> None:
    """Every report is stored or deferred by its id, and every one is acknowledged to the broker."""
    flooder = bench.enroll("web-1")
    ids = flood(bench, flooder, 300)
    while len(bench.engine.inbox):
        bench.engine.step(bench.now)
    bench.pass_time(2)
    told = bench.receipts(flooder)
    deferred = [threat_id for entry in told["deferred"] for threat_id in entry["ids"]]
    assert sorted([*told["stored"], *deferred]) == sorted(ids)
    assert 70 <= len(told["stored"]) <= BURST
    assert len(bench.acknowledged) == len(set(bench.acknowledged))
    assert len(bench.acknowledged) >= len(ids)


def test_one_that_goes_on_is_kept_out_for_a_minute(bench: Bench) -> None:
    """After a quarter as much again was deferred, the agent is suspended once, and resumed a minute later."""
    flooder, other = bench.enroll("web-1"), bench.enroll("web-2")
    flood(bench, flooder, BURST + BURST // 4 - 5)
    bench.engine.step(bench.now)
    assert bench.broker_access.suspended == []
    flood(bench, flooder, 30, first=1_000)
    bench.engine.step(bench.now)
    flood(bench, flooder, 300, first=2_000)
    bench.engine.step(bench.now)
    assert bench.broker_access.suspended == [flooder.agent_id]
    events = bench.publisher.take("panguard/v1/fleet/agent_suspended")
    assert len(events) == 1
    assert flooder.agent_id.encode() in events[0]
    bench.pass_time(59)
    assert bench.broker_access.resumed == []
    bench.pass_time(2)
    assert bench.broker_access.resumed == [flooder.agent_id]
    bench.receive(topics.THREATS, other.agent_id, other.threat(bench.wall, "mine"))
    assert bench.receipts(other)["stored"] == ["mine"]


def test_one_that_is_removed_meanwhile_is_not_let_in_again(bench: Bench) -> None:
    """The end of a suspension does not resume a removed agent."""
    from manager.engine.commands.requests import RemoveAgent  # noqa: PLC0415 -- only here

    flooder = bench.enroll("web-1")
    flood(bench, flooder, 3 * BURST)
    bench.engine.step(bench.now)
    assert bench.broker_access.suspended == [flooder.agent_id]
    bench.ask(RemoveAgent(flooder.agent_id, "test"))
    bench.pass_time(120)
    assert bench.broker_access.resumed == []


def test_a_guard_that_empties_a_full_outbox_is_never_kept_out(bench: Bench) -> None:
    """A window of two MiB, sent again whenever a receipt asks for it, is never a flood."""
    guard = bench.enroll("web-1")
    sent = 0
    for _ in range(120):
        sent += len(flood(bench, guard, 8, first=sent))
        bench.pass_time(0.5, 0.25)
    assert bench.fleet.counters["messages_deferred"] > 0
    assert bench.broker_access.suspended == []


def test_registrations_without_end_fill_no_inbox(bench: Bench) -> None:
    """Registrations beyond the lane's bound are acknowledged and dropped, because clients send them again."""
    for number in range(3_000):
        bench.put(topics.REGISTRATION, f"{number:032x}", b'{"hostname":"x"}')
    assert len(bench.engine.inbox) == 1_000 < LinkSettings().inbox_messages
    bench.pass_time(60)
    assert len(bench.acknowledged) >= 3_000


payments = st.lists(st.tuples(st.floats(0, 3), st.integers(0, 400)), max_size=60)


@given(payments)
def test_a_purse_pays_for_its_burst_and_its_rate_and_no_more(steps: list[tuple[float, int]]) -> None:
    """In any interval the consumed budget is at most the burst plus the rate times the interval."""
    budget = Budget(messages=3, bytes=200, burst=2)
    purse, now, paid = TokenBucket(budget, 0.0), 0.0, list[tuple[float, int]]()
    for wait, size in steps:
        now += wait
        if purse.try_consume(size, now):
            paid.append((now, size))
    for start, (began, _) in enumerate(paid):
        for end in range(start, len(paid)):
            stretch = paid[end][0] - began
            part = paid[start : end + 1]
            assert len(part) <= budget.messages * (budget.burst + stretch) + 1e-6
            assert sum(size for _, size in part) <= budget.bytes * (budget.burst + stretch) + 1e-6


@given(payments)
def test_who_waits_out_its_debts_keeps_to_the_rate(steps: list[tuple[float, int]]) -> None:
    """A sender that waits out its debts sends no more than one whose excess is refused."""
    budget = Budget(messages=3, bytes=200, burst=2)
    purse, now, total = TokenBucket(budget, 0.0), 0.0, 0
    for number, (wait, size) in enumerate(steps, 1):
        now += wait
        now += purse.consume(size, now)
        total += size
        assert number <= budget.messages * (budget.burst + now) + 1e-6
        assert total <= budget.bytes * (budget.burst + now) + 1e-6


def test_an_agent_over_its_budget_is_deferred_and_others_are_not(bench: Bench) -> None:
    """A report over the budget is acknowledged, deferred by receipt and not stored; sent again it is stored."""
    flood, quiet = bench.enroll("flood"), bench.enroll("quiet")
    for n in range(2500):
        bench.put(topics.THREATS, flood.agent_id, flood.threat(bench.wall, f"f-{n}"))
    bench.put(topics.THREATS, quiet.agent_id, quiet.threat(bench.wall, "q-1"))
    bench.engine.step(bench.now)
    assert bench.rows("SELECT threat_id FROM threat WHERE threat_id LIKE 'q%'") == [("q-1",)]
    bench.pass_time(10)
    told = bench.receipts(flood)
    deferred = [one for entry in told["deferred"] for one in entry["ids"]]
    assert len(told["stored"]) + len(deferred) == 2500
    assert len(deferred) >= 450
    bench.pass_time(10)
    bench.receive(topics.THREATS, flood.agent_id, flood.threat(bench.wall, deferred[0]))
    bench.pass_time(2)
    assert bench.receipts(flood)["stored"] == [deferred[0]]


def test_a_fleet_that_registers_waits_for_a_broker_that_falls_behind(bench: Bench) -> None:
    """While the broker is behind one registration a second passes; reports and heartbeats do not wait."""
    old, token = bench.enroll("old"), bench.token()
    for n in range(100):
        bench.put(topics.REGISTRATION, *SimulatedAgent(f"new-{n}", token, bench.keyring.seal_public).registration(0.0))
    bench.broker_access.room = 0
    for n in range(5):
        bench.receive(topics.THREATS, old.agent_id, old.threat(bench.wall, f"t-{n}"))
    assert bench.rows("SELECT count(*) FROM threat") == [(5,)]
    assert len(bench.broker_access.admitted) == 2
    assert not bench.engine.has_work
    bench.pass_time(10)
    assert 8 <= len(bench.broker_access.admitted) <= 13
    bench.broker_access.room = 5
    before = len(bench.broker_access.admitted)
    assert bench.engine.has_work
    bench.pass_time(1)
    assert len(bench.broker_access.admitted) == before + 5
    bench.broker_access.room = None
    bench.pass_time(3)
    assert len(bench.broker_access.admitted) == 101


def test_registrations_never_fill_the_inbox(bench: Bench) -> None:
    """Registrations without room are acknowledged and dropped; the client sends them again."""
    bench.broker_access.room = 0
    token = bench.token()
    agents = [SimulatedAgent(f"new-{n}", token, bench.keyring.seal_public) for n in range(1003)]
    handles = [bench.put(topics.REGISTRATION, *agent.registration(bench.wall)) for agent in agents]
    assert bench.engine.inbox.registrations == 1000
    bench.engine.step(bench.now)
    assert set(handles[1000:]) <= set(bench.acknowledged)
    assert bench.fleet.counters["messages_deferred"] == 3
