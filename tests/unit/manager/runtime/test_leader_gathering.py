"""A leader beside workers gathers its batches as they do; what must not wait does not."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest

from manager.engine.commands.requests import CreateToken
from manager.engine.inbox import Command
from manager.engine.messages import stored_elsewhere
from manager.engine.ports import WaitingReports
from manager.errors import StoreUnavailable
from manager.mqtt.broker_link import BrokerLink
from manager.runtime.hand_over import LeaderGathering
from schemas import topics
from tests.support.engine import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.database.close()


class Link:
    """A link whose pauses let the bench's time pass, as far as something ends them."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.ready = True
        self.paused: list[float] = []
        self.meanwhile: Callable[[], None] = lambda: None
        self.woken_after: float | None = None

    def pause(self, timeout: float) -> None:
        assert len(self.paused) < 10, "the wait does not end"
        self.paused.append(timeout)
        self.bench.elapsed += timeout if self.woken_after is None else min(timeout, self.woken_after)
        self.meanwhile()


@pytest.fixture
def link(bench: Bench) -> Link:
    return Link(bench)


@pytest.fixture
def gathering(bench: Bench, link: Link) -> LeaderGathering:
    gathering = LeaderGathering(bench.engine, cast("BrokerLink", link), lambda: bench.now)
    gathering.share(3)
    return gathering


def take(bench: Bench, gathering: LeaderGathering) -> None:
    """Have a report taken, as the loop does."""
    agent = bench.enroll("web-1")
    bench.put(topics.THREATS, agent.agent_id, agent.threat(bench.wall))
    gathering.begin(bench.now)
    assert bench.engine.step(bench.now)


def test_the_next_batch_waits_for_others(bench: Bench, link: Link, gathering: LeaderGathering) -> None:
    """Three processes gather for 150 ms; a worker's notification, which ends each pause, ends the wait no earlier."""
    gathering.wait()
    assert link.paused == []
    take(bench, gathering)
    link.woken_after = 0.06
    link.meanwhile = lambda: setattr(bench.engine.stored_elsewhere, "notified", True)
    began = bench.elapsed
    gathering.wait()
    assert link.paused == pytest.approx([0.15, 0.09, 0.03])
    assert bench.elapsed - began == pytest.approx(0.15)
    gathering.wait()
    assert len(link.paused) == 3


def test_after_a_step_without_work_nothing_is_gathered(bench: Bench, link: Link, gathering: LeaderGathering) -> None:
    """So that a report after a pause is taken at once."""
    gathering.begin(bench.now)
    bench.engine.step(bench.now)
    gathering.wait()
    assert link.paused == []


def test_a_leader_alone_gathers_nothing(bench: Bench, link: Link, gathering: LeaderGathering) -> None:
    """Its share is all messages, and a batch of one costs nobody else anything."""
    gathering.share(1)
    take(bench, gathering)
    gathering.wait()
    assert link.paused == []


def test_a_command_ends_the_wait(bench: Bench, link: Link, gathering: LeaderGathering) -> None:
    """Operators and HTTP agents wait for an answer."""
    take(bench, gathering)
    link.woken_after = 0.01
    command = Command(CreateToken(author="test"), lambda _value, _error: None)
    link.meanwhile = lambda: bench.engine.inbox.submit(command)
    gathering.wait()
    assert link.paused == pytest.approx([0.15])


@pytest.mark.parametrize("lost", ["the broker", "the store"])
def test_without_broker_or_store_there_is_no_wait(
    bench: Bench, link: Link, gathering: LeaderGathering, lost: str
) -> None:
    """The link, which waits for nothing then, and the store are waited for elsewhere: here it would turn idly."""
    take(bench, gathering)
    if lost == "the broker":
        link.ready = False
    else:
        bench.store.begin = _unavailable  # type: ignore[method-assign]
        bench.engine.inbox.submit(Command(CreateToken(author="test"), lambda _value, _error: None))
        assert not bench.engine.step(bench.now)
        bench.engine.inbox.take_commands()
    gathering.wait()
    assert link.paused == []


def _unavailable() -> None:
    raise StoreUnavailable("the disk is full")


def test_stored_reports_that_are_left_are_read_at_once(
    bench: Bench, link: Link, gathering: LeaderGathering, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a look that found as many as one batch takes; the last look, which does not, ends that."""
    monkeypatch.setattr(stored_elsewhere, "LIMIT", 0)
    monkeypatch.setattr(bench.store, "waiting_reports", lambda _limit: WaitingReports([], []))
    take(bench, gathering)
    gathering.wait()
    assert (link.paused, bench.engine.has_work) == ([], True)
    monkeypatch.setattr(stored_elsewhere, "LIMIT", 2000)
    gathering.begin(bench.now)
    assert bench.engine.step(bench.now)
    assert not bench.engine.has_work
    gathering.wait()
    assert link.paused == pytest.approx([0.15])
