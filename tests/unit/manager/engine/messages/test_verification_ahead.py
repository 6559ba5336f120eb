"""Verification beside the commit: reports of the next batch are verified while another thread commits this one."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from threading import Event, Thread, current_thread, main_thread
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peewee import OperationalError

from manager.domain.budget import Budget
from manager.engine.commands.requests import DeregisterAgent, RemoveAgent
from manager.engine.inbox import Inbound, Inbox
from manager.engine.messages.verification import VerifiedMessage
from manager.engine.settings import EngineSettings
from manager.storage.sqlite import backend
from schemas import topics
from schemas.report_batches import batch_body
from tests.support.engine import Bench
from tests.support.simulated import SimulatedAgent

_PATIENCE = 30.0
"""Seconds for which a thread waits for the other one before its test fails."""


class SlowCommits:
    """Commits that take as long as the work beside them."""

    def __init__(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        self._verify = bench.engine._verify_ahead
        self._commit = bench.database.commit
        self._worked = Event()
        self.threads: list[bool] = []
        """Whether each commit was that of the main thread."""
        self.failing = False
        monkeypatch.setattr(backend, "_LARGE", 1)
        monkeypatch.setattr(bench.database, "commit", self.commit)
        bench.store.work_beside_commits(self.work)

    def commit(self) -> None:
        self.threads.append(current_thread() is main_thread())
        if current_thread() is not main_thread():
            assert self._worked.wait(_PATIENCE)
            self._worked.clear()
        if self.failing:
            raise OperationalError("database or disk is full")
        self._commit()

    def work(self, _is_over: Callable[[], bool]) -> None:
        self._verify(lambda: False)
        self._worked.set()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """An engine that takes one report in a batch."""
    bench = Bench(tmp_path, EngineSettings(batch_limit=1))
    yield bench
    bench.database.close()


@pytest.fixture
def commits(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> SlowCommits:
    return SlowCommits(bench, monkeypatch)


@pytest.fixture
def agents(bench: Bench) -> tuple[SimulatedAgent, SimulatedAgent]:
    return bench.enroll("web-1"), bench.enroll("web-2")


def put(bench: Bench, agent: SimulatedAgent, report_id: str) -> int:
    return bench.put(topics.THREATS, agent.agent_id, agent.threat(bench.wall, report_id))


def waiting(bench: Bench) -> list[Inbound]:
    return list(bench.engine.inbox.upcoming(100))


def dead_letters(bench: Bench) -> list[str]:
    return [reason for (reason,) in bench.rows("SELECT reason FROM dead_letter")]


def test_reports_are_verified_while_the_batch_before_is_committed(
    agents: tuple[SimulatedAgent, SimulatedAgent], bench: Bench, commits: SlowCommits
) -> None:
    """The next batch's report is verified beside the commit, which another thread makes, and is stored once."""
    first, second = put(bench, agents[0], "t-1"), put(bench, agents[1], "t-2")
    bench.engine.step(bench.now)
    assert commits.threads == [False]
    assert [type(message.verified) for message in waiting(bench)] == [VerifiedMessage]
    assert bench.acknowledged[-1] == first
    bench.engine.step(bench.now)
    assert bench.acknowledged[-1] == second
    assert bench.rows("SELECT threat_id FROM threat ORDER BY sequence") == [("t-1",), ("t-2",)]


def test_a_report_of_an_agent_with_other_keys_is_verified_again(
    agents: tuple[SimulatedAgent, SimulatedAgent], bench: Bench, commits: SlowCommits
) -> None:
    """A code that was valid beside the commit is none once its agent has registered with other keys."""
    put(bench, agents[0], "t-1")
    put(bench, agents[1], "t-2")
    bench.engine.step(bench.now)
    assert commits.threads == [False]
    assert waiting(bench)[0].verified is not None
    known = bench.fleet.registry.agents[agents[1].agent_id]
    put(bench, agents[1], "t-3")
    bench.engine.step(bench.now)  # the keys are the same here
    assert dead_letters(bench) == []
    known.credential = bench.fleet.registry.agents[agents[0].agent_id].credential
    assert waiting(bench)[0].verified is not None
    bench.engine.step(bench.now)
    assert dead_letters(bench) == ["no right code"]
    assert bench.rows("SELECT threat_id FROM threat ORDER BY sequence") == [("t-1",), ("t-2",)]


def test_a_report_of_an_agent_that_was_removed_is_not_stored(
    agents: tuple[SimulatedAgent, SimulatedAgent], bench: Bench, commits: SlowCommits
) -> None:
    """What was verified beside the commit is refused if a command removes its agent before the batch."""
    put(bench, agents[0], "t-1")
    put(bench, agents[1], "t-2")
    bench.engine.step(bench.now)
    assert waiting(bench)[0].verified is not None
    bench.ask(DeregisterAgent(agents[1].agent_id))
    bench.ask(RemoveAgent(agents[1].agent_id, "test"))
    bench.pass_time(2)
    assert dead_letters(bench) == ["no such agent"]
    assert bench.rows("SELECT threat_id FROM threat") == [("t-1",)]
    assert commits.threads[0] is False


def test_a_commit_that_fails_in_the_other_thread_acknowledges_nothing(
    agents: tuple[SimulatedAgent, SimulatedAgent], bench: Bench, commits: SlowCommits
) -> None:
    """The engine keeps the batch, and commits it once when the store can."""
    commits.failing = True
    handle = put(bench, agents[0], "t-1")
    bench.engine.step(bench.now)
    assert (commits.threads[0], bench.engine.can_commit, handle in bench.acknowledged) == (False, False, False)
    assert bench.rows("SELECT threat_id FROM threat") == []
    commits.failing = False
    bench.pass_time(3)
    assert bench.engine.can_commit
    assert bench.acknowledged.count(handle) == 1
    assert bench.rows("SELECT threat_id FROM threat") == [("t-1",)]


def test_without_a_thread_for_the_commit_the_engine_commits_itself(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit on threads keeps no report out; once there is one again, it commits, and each report is stored once."""
    agent, work = bench.enroll("web-1"), list[bool]()
    monkeypatch.setattr(backend, "_LARGE", 1)
    bench.store.work_beside_commits(lambda is_over: work.append(is_over()))

    def refuse(_thread: Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as limited:
        limited.setattr(Thread, "start", refuse)
        handle = put(bench, agent, "t-1")
        bench.engine.step(bench.now)
    assert (bench.engine.can_commit, bench.acknowledged.count(handle), work) == (True, 1, [])
    put(bench, agent, "t-2")
    bench.engine.step(bench.now)
    assert len(work) == 1
    assert bench.rows("SELECT threat_id FROM threat ORDER BY sequence") == [("t-1",), ("t-2",)]


def test_work_beside_a_commit_is_told_when_it_is_over(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The work goes on while the commit does, and what is committed is there when it is over."""
    agent = bench.enroll("web-1")
    monkeypatch.setattr(backend, "_LARGE", 1)
    deadline = time.monotonic() + _PATIENCE
    seen: list[list[tuple[Any, ...]]] = []

    def work(is_over: Callable[[], bool]) -> None:
        while not is_over():
            assert time.monotonic() < deadline
        with closing(sqlite3.connect(bench.directory / "panguard.db")) as reader:
            seen.append(reader.execute("SELECT threat_id FROM threat").fetchall())

    bench.store.work_beside_commits(work)
    put(bench, agent, "t-1")
    bench.engine.step(bench.now)
    assert seen == [[("t-1",)]]


@given(
    reports=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5)), max_size=30),
    limit=st.integers(1, 40),
    batch_bytes=st.integers(1, 500),
)
def test_upcoming_messages_are_those_of_the_next_batch(
    reports: list[tuple[int, int]], limit: int, batch_bytes: int
) -> None:
    """Whatever waits of whom: what is verified ahead is in the next batch, and something is if anything waits.

    Many large messages would otherwise be in memory decoded that only later batches have.
    """
    inbox = Inbox(Budget(1000.0, 1e9, 10.0), batch_bytes=batch_bytes)
    for number, (agent, count) in enumerate(reports):
        payload = b"{}" if count == 1 else batch_body([b'{"id":"t"}'] * count)
        agent_id = f"ag-{agent:016x}"
        message: Any = Inbound(topics.THREATS, agent_id, topics.THREATS.below_root(agent_id), payload, number)
        inbox.put(message, 0.0)
    upcoming = [message.handle for message in inbox.upcoming(limit)]
    taken = [message.handle for message in inbox.take(limit) if isinstance(message, Inbound)]
    assert bool(upcoming) is bool(taken)
    assert set(upcoming) <= set(taken)
