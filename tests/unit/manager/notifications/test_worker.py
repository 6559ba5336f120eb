"""Workers: each channel takes every event once, retries by itself, and begins where it ended."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from manager.domain.agents.registry import Takeover
from manager.domain.notifications.judgement import JudgementSettings
from manager.domain.notifications.message import Message
from manager.domain.policies.fleet_policies import GLOBAL
from manager.engine.batch import Batch
from manager.engine.commands.requests import SetPolicy
from manager.engine.inbox import Command
from manager.engine.notifications import (
    ChannelCursor,
    NotificationRow,
    PauseNotifications,
    RecordNotifications,
    SendTest,
)
from manager.engine.settings import EngineSettings
from manager.errors import StoreUnavailable
from manager.notifications import deliveries
from manager.notifications.channels.channel import Channel, ChannelError
from manager.notifications.engine_commands import EngineCommands
from manager.notifications.selection import EachEvent, Judged, Selection
from manager.notifications.told_events import store_message
from manager.notifications.watchdog import Watchdog
from manager.notifications.worker import ChannelWorker
from manager.storage.queries import StoreQueries
from tests.support.engine import Bench
from tests.support.migrated_store import open_reading
from tests.support.waiting import eventually

CHANNELS = frozenset({"one", "two"})


@dataclass
class Recorder(Channel):
    """A channel that records deliveries, fails as told, and hangs while it is told to."""

    got: list[Message] = field(default_factory=list)
    errors: list[ChannelError] = field(default_factory=list)
    free: threading.Event = field(default_factory=threading.Event)
    tried: int = 0

    def __post_init__(self) -> None:
        self.free.set()

    def deliver(self, message: Message) -> None:
        self.free.wait()
        self.tried += 1
        if self.errors:
            raise self.errors.pop(0)
        self.got.append(message)

    @property
    def texts(self) -> list[str]:
        return [str(each.event.data.get("text", each.event.name)) for each in self.got if each.event is not None]


class Stage:
    """An engine in a thread of its own, and workers of recording channels."""

    def __init__(self, directory: Path, stack: ExitStack, *, events_kept: int | None = None) -> None:
        self.bench = Bench(directory, EngineSettings(takeover=Takeover.ALLOW, channels=CHANNELS))
        if events_kept is not None:
            self.bench.store._events._kept = events_kept
        self._turn, self._woken, self._ended = threading.Lock(), threading.Event(), False
        self._stack = stack
        reader = open_reading(directory / "panguard.db")
        self.queries = StoreQueries(reader)
        self.engine = EngineCommands(self._submit, self._woken.set)
        self._thread = threading.Thread(target=self._work, name="engine")
        self._thread.start()
        self.handed: list[tuple[str, NotificationRow]] = []
        self._workers: list[ChannelWorker] = []
        stack.callback(self.bench.database.close)
        stack.callback(reader.close)
        stack.callback(self._end)
        alerting = {"channels": sorted(CHANNELS), "minimumSeverity": "low"}
        self.engine.run(SetPolicy(GLOBAL, {"alerting": alerting}, "test"))

    def _submit(self, command: Command) -> None:
        self.bench.engine.inbox.submit(command)

    def _work(self) -> None:
        while not self._ended:
            self._woken.wait()
            self._woken.clear()
            with self.turn():
                self.bench.engine.step(self.bench.now)

    @contextmanager
    def turn(self) -> Iterator[Bench]:
        """The engine's turn: while the test has it, no command is carried out."""
        with self._turn:
            yield self.bench

    def worker(
        self,
        name: str,
        channel: Channel,
        *,
        judged: bool = False,
        watchdog: Watchdog | None = None,
        handed: tuple[NotificationRow, ...] = (),
    ) -> ChannelWorker:
        """Start the worker of a channel; other workers have handed messages over before."""

        def selection(state: str | None) -> Selection:
            return Judged(name, JudgementSettings(), None, state) if judged else EachEvent(name)

        worker = ChannelWorker(
            name,
            channel,
            selection=selection,
            queries=self.queries,
            engine=self.engine,
            clock=lambda: self.bench.wall,
            hand_over=lambda second, row: self.handed.append((second, row)),
            watchdog=watchdog,
        )
        self._workers.append(worker)
        for row in handed:
            worker.add(row)
        worker.start()
        eventually(lambda: name in self.queries.notification_cursors(), what="the worker has stored its cursor")
        eventually(lambda: worker.cursor is not None, what="the worker has read its cursor")
        return worker

    def say(self, *texts: str, name: str = "incident_work") -> None:
        """Let the engine commit one event for each text, and wake the workers."""
        with self.turn() as bench:
            batch = Batch(bench.now)
            for text in texts:
                batch.event(name, data={"text": text})
            bench.engine._uncommitted = bench.engine._new_context(bench.now)
            bench.engine._uncommitted.batch = batch
            bench.engine.step(bench.now)
        self.wake()

    @contextmanager
    def broken_store(self) -> Iterator[None]:
        """Let the store commit nothing."""
        commit = self.bench.store.commit

        def failing(_changes: object) -> None:
            raise StoreUnavailable("the disk is full")

        self.bench.store.commit = failing  # type: ignore[method-assign]
        try:
            yield
        finally:
            self.bench.store.commit = commit  # type: ignore[method-assign]
            self._woken.set()

    def wake(self) -> None:
        for worker in self._workers:
            worker.wake()

    def pass_time(self, seconds: float) -> None:
        with self.turn() as bench:
            bench.elapsed += seconds
        self.wake()

    def end(self, worker: ChannelWorker) -> None:
        """Stop a worker and wait for it."""
        worker.stop()
        worker.join(60)
        assert not worker.is_alive()
        self._workers.remove(worker)

    def _end(self) -> None:
        self.engine.stop()
        for worker in self._workers:
            worker.stop()
        for worker in self._workers:
            worker.join(60)
        self._ended = True
        self._woken.set()
        self._thread.join()


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with ExitStack() as stack:
        yield Stage(tmp_path, stack)


def test_a_channel_gets_every_event_once_in_order_and_goes_on_after_a_restart(stage: Stage) -> None:
    """A new channel begins with the events from then on; another worker begins where the first ended."""
    stage.say("before")
    channel = Recorder()
    worker = stage.worker("one", channel)
    stage.say("a", "b")
    stage.say("c")
    eventually(lambda: channel.texts == ["a", "b", "c"], what="three events")
    stage.end(worker)
    stage.say("d")
    stage.worker("one", channel)
    stage.say("e")
    eventually(lambda: channel.texts == ["a", "b", "c", "d", "e"], what="five events")
    assert len({each.id for each in channel.got}) == 5


def test_a_channel_that_hangs_delays_no_other(stage: Stage) -> None:
    """Two channels have a thread each: one that hangs gets its events later, the other at once."""
    hanging, other = Recorder(), Recorder()
    hanging.free.clear()
    stage.worker("one", hanging)
    stage.worker("two", other)
    stage.say(*"abcdef")
    eventually(lambda: other.texts == [*"abcdef"], what="the other channel")
    assert hanging.got == []
    hanging.free.set()
    eventually(lambda: hanging.texts == [*"abcdef"], what="the channel that hung")


def test_failures_are_tried_again_later_in_the_same_order(stage: Stage) -> None:
    """After a failure a channel waits 5 s, then 10 s; the message keeps its id, and none overtakes it."""
    channel = Recorder(errors=[ChannelError("gone", retry=True)] * 2)
    worker = stage.worker("one", channel)
    stage.say("a", "b")
    for tried, seconds in ((1, 4.9), (1, 0.2), (2, 9.9), (2, 0.2)):
        eventually(lambda tried=tried: channel.tried == tried, what=f"try {tried}")
        stage.pass_time(seconds)
    eventually(lambda: channel.texts == ["a", "b"], what="both events")
    assert worker.health.failing_since is None


def test_what_a_receiver_refuses_for_good_holds_up_nothing(stage: Stage) -> None:
    """The message is given up and stored with the reason; the next one follows at once."""
    channel = Recorder(errors=[ChannelError("it is no JSON", retry=False)])
    worker = stage.worker("one", channel)
    stage.say("a", "b")
    eventually(lambda: channel.texts == ["b"], what="the second event")
    (message,), _ = stage.queries.notifications(channel="one", limit=5)
    assert (message["state"], message["reason"], message["attempts"]) == ("failed", "it is no JSON", 1)
    assert worker.cursor is not None
    assert (worker.cursor.sent, worker.cursor.given_up) == (1, 1)


def test_a_channel_that_fails_is_told_by_the_others(stage: Stage) -> None:
    """After three failures in a row the other channel is told, once, and of the end; the failing one is not."""
    failing, other = Recorder(errors=[ChannelError("gone", retry=True)] * 4), Recorder()
    stage.worker("one", failing)
    stage.worker("two", other)
    stage.say("a")
    for tried in range(1, 5):
        eventually(lambda tried=tried: failing.tried == tried, what=f"try {tried}")
        stage.pass_time(300)
    eventually(lambda: other.texts[-1:] == ["channel_recovered"], what="the end of the failure")
    assert other.texts == ["a", "channel_failing", "channel_recovered"]
    told = other.got[1].event
    assert told is not None
    assert told.data == {"channel": "one", "reason": "gone"}
    stage.say("b")
    eventually(lambda: failing.texts == ["a", "b"], what="the next event")


def test_a_pause_holds_events_back_and_loses_none(stage: Stage) -> None:
    """A paused channel gets afterwards what it has missed, after a restart too."""
    channel = Recorder()
    worker = stage.worker("one", channel)
    until = stage.engine.run(PauseNotifications("one", stage.bench.wall + 7200, "test"))
    worker.pause(until)
    stage.say("a")
    stage.end(worker)
    worker = stage.worker("one", channel)
    stage.say("b")
    assert (channel.got, worker.paused_until) == ([], until)
    stage.pass_time(7201)
    eventually(lambda: channel.texts == ["a", "b"], what="both events")


def test_a_test_goes_to_its_own_channel_alone(stage: Stage) -> None:
    """It goes through the event table; its sender learns whether it was delivered, and why not."""
    one, two = Recorder(errors=[ChannelError("gone", retry=True)]), Recorder()
    first, second = stage.worker("one", one), stage.worker("two", two, judged=True)
    stage.engine.run(SendTest("two", "t-2", "test"))
    stage.engine.run(SendTest("one", "t-1", "test"))
    stage.wake()
    eventually(lambda: "t-1" in first.tests and "t-2" in second.tests, what="both tests")
    assert (first.tests, second.tests) == ({"t-1": "gone"}, {"t-2": None})
    assert [each.change for each in two.got] == ["test"]


def test_a_channel_is_told_how_many_events_it_was_not_told(tmp_path: Path) -> None:
    """What the bound deletes before a channel has read it is one message with a number, and counted."""
    with ExitStack() as stack:
        stage = Stage(tmp_path, stack, events_kept=4)
        channel = Recorder()
        worker = stage.worker("one", channel)
        stage.end(worker)
        stage.say(*"abcdefghij")
        worker = stage.worker("one", channel)
        eventually(lambda: len(channel.got) == 5, what="the number and four events")
        assert channel.texts == ["events_dropped", "g", "h", "i", "j"]
        told = channel.got[0].event
        assert told is not None
        assert told.data["count"] == 6
        eventually(lambda: worker.cursor is not None and worker.cursor.not_told == 6, what="the count")


@pytest.mark.parametrize("judged", [False, True])
def test_an_intrusion_outlives_the_bound_until_every_channel_has_taken_it(tmp_path: Path, *, judged: bool) -> None:
    """A channel that was gone is told of the login among the events that were deleted, and of their number."""
    with ExitStack() as stack:
        stage = Stage(tmp_path, stack, events_kept=4)
        stage.worker("one", Recorder())
        stage.end(stage.worker("two", Recorder(), judged=judged))
        stage.say("root", name="suspicious_login")
        stage.say(*"abcdef")
        eventually(lambda: _position(stage, "one") == stage.queries.event_bounds()[1], what="the other channel has all")
        stage.say("g")
        channel = Recorder()
        gone = stage.worker("two", channel, judged=judged)
        eventually(lambda: _position(stage, "two") >= stage.queries.event_bounds()[0] - 1, what="the deleted ones")
        for _ in range(6):
            stage.pass_time(10)
        if judged:
            eventually(lambda: any(each.group.startswith("got_in") for each in channel.got), what="the login")
        else:
            eventually(lambda: channel.texts == ["events_dropped", "root", "d", "e", "f", "g"], what="the login")
        assert gone.cursor is not None
        assert gone.cursor.not_told == 3
        stage.say("h")
        assert stage.bench.rows("SELECT count(*) FROM untold_event") == [(0,)]


def _position(stage: Stage, channel: str) -> int:
    """Return the stored position of a channel."""
    return stage.queries.notification_cursors()[channel].cursor.sequence


def test_a_judged_channel_keeps_its_judgement_over_a_restart(stage: Stage) -> None:
    """State and messages are stored together: a message that was not delivered comes by the same id, and only once."""
    channel = Recorder(errors=[ChannelError("gone", retry=True)])
    worker = stage.worker("one", channel, judged=True)
    with stage.turn() as bench:
        batch = Batch(bench.now)
        batch.event("store_unavailable", data={"reason": "the disk is full"})
        bench.engine._uncommitted = bench.engine._new_context(bench.now)
        bench.engine._uncommitted.batch = batch
        bench.engine.step(bench.now)
    for _ in range(60):
        stage.pass_time(10)
        if channel.tried:
            break
    eventually(lambda: worker.health.failures == 1, what="the first try")
    stage.end(worker)
    (stored,) = stage.queries.pending_notifications("one")
    stage.worker("one", channel, judged=True)
    eventually(lambda: len(channel.got) == 1, what="the message")
    assert channel.got[0].id == stored.message_id
    eventually(lambda: not stage.queries.pending_notifications("one"), what="the record of the delivery")


@pytest.mark.parametrize("errors", [[], [ChannelError("gone", retry=True)], [ChannelError("no", retry=False)]])
def test_a_message_of_another_channel_costs_no_event_of_its_own(stage: Stage, errors: list[ChannelError]) -> None:
    """Delivered, failed or refused in the seconds before a login is told: the login is told after a restart."""
    channel = Recorder(errors=errors)
    worker = stage.worker("two", channel, judged=True)
    stage.say("root", name="suspicious_login")
    eventually(
        lambda: worker.cursor is not None and worker.cursor.sequence == stage.queries.event_bounds()[1], what="it"
    )
    assert channel.got == []
    worker.add(deliveries.new_row("two", store_message("the disk is full", stage.bench.wall), stage.bench.wall))
    eventually(lambda: channel.tried == 1, what="the message of another channel")
    stage.end(worker)
    worker = stage.worker("two", channel, judged=True)
    for _ in range(6):
        stage.pass_time(10)
    eventually(lambda: any(each.group.startswith("got_in") for each in channel.got), what="the login")


@pytest.mark.parametrize("is_late", [False, True])
def test_a_message_is_delivered_once_that_is_handed_over_while_its_channel_starts(
    stage: Stage, *, is_late: bool
) -> None:
    """The start reads it from the store, too: whether the other worker hands it over before, or after the delivery."""
    ended = stage.worker("two", Recorder())
    eventually(lambda: ended.cursor is not None, what="the start")
    stage.end(ended)
    row = deliveries.new_row("two", store_message("the disk is full", stage.bench.wall), stage.bench.wall)
    stage.engine.run(RecordNotifications(ChannelCursor("one", 0), (row,)))
    channel = Recorder()
    worker = stage.worker("two", channel, handed=() if is_late else (row,))
    eventually(lambda: not stage.queries.pending_notifications("two"), what="the record of the delivery")
    if is_late:
        worker.add(row)
    stage.say("the end")
    eventually(lambda: "the end" in channel.texts, what="the event behind it")
    assert [each.id for each in channel.got].count(row.message_id) == 1


def test_a_position_among_events_that_nobody_is_told_of_is_stored(stage: Stage) -> None:
    """After a minute, and at a clean end: later these events would look like a backlog."""
    worker = stage.worker("one", Recorder(), judged=True)

    def stored() -> int:
        return stage.queries.notification_cursors()["one"].cursor.sequence

    def taken() -> bool:
        return worker.cursor is not None and worker.cursor.sequence == stage.queries.event_bounds()[1]

    stage.say("a")
    eventually(
        lambda: worker.cursor is not None and worker.cursor.sequence == stage.queries.event_bounds()[1], what="a"
    )
    stage.pass_time(61)
    eventually(lambda: stored() == stage.queries.event_bounds()[1], what="the record of the position")
    stage.say("b")
    eventually(
        lambda: worker.cursor is not None and worker.cursor.sequence == stage.queries.event_bounds()[1], what="b"
    )
    stage.end(worker)
    assert stored() == stage.queries.event_bounds()[1]


def test_the_watchdog_is_called_only_after_a_test_was_delivered(stage: Stage) -> None:
    """While the channel fails nothing is called; afterwards a new test is, at most once for each."""
    called = threading.Semaphore(0)
    channel = Recorder(errors=[ChannelError("gone", retry=True)])
    worker = stage.worker("one", channel, watchdog=Watchdog("one", 300.0, called.release))
    eventually(lambda: worker.health.failures == 1, what="the failure")
    assert not called.acquire(blocking=False)
    stage.pass_time(6)  # the channel is tried again; the next test is due later
    assert called.acquire(timeout=60)
    stage.pass_time(100)
    assert not called.acquire(blocking=False)
    stage.pass_time(301)
    assert called.acquire(timeout=60)


def test_a_store_that_cannot_commit_is_told_past_the_table(stage: Stage) -> None:
    """A worker that waits for a commit delivers the message meanwhile, once; and goes on when the store works again."""
    channel = Recorder()
    channel.free.clear()
    worker = stage.worker("one", channel)
    stage.say("a")
    with stage.broken_store():
        channel.free.set()
        eventually(lambda: channel.texts == ["a"], what="the event, whose delivery cannot be recorded")
        worker.add_urgent(store_message("the disk is full", stage.bench.wall))
        eventually(lambda: len(channel.got) == 2, what="the urgent message")
    assert channel.got[1].group == "store"
    eventually(lambda: stage.queries.notification_cursors()["one"].cursor.sent == 1, what="the record of the delivery")
    stage.say("b")
    eventually(lambda: "b" in channel.texts, what="the next event")
    assert [each.group for each in channel.got].count("store") == 1
