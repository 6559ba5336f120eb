"""Messages that a receiver answers with an error: they are set aside, and hold up no other."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from manager.domain.notifications.message import Message
from manager.engine.notifications import ChannelCursor, Delivery
from manager.notifications import deliveries
from manager.notifications.channels.channel import ChannelError
from manager.notifications.deliveries import MOST_ASIDE, DeliveryQueue, Outcome, Outgoing
from tests.support.waiting import eventually
from tests.unit.manager.notifications.messages import message
from tests.unit.manager.notifications.test_worker import Recorder, Stage

ANSWER = ChannelError("the receiver answers 403", retry=True, answered=True)
SILENCE = ChannelError("no answer", retry=True)


@dataclass
class Firewall(Recorder):
    """A receiver behind a filter that answers an error to texts with a path in them."""

    is_on: bool = True

    def deliver(self, message: Message) -> None:
        if self.is_on and message.event is not None and "/etc/" in str(message.event.data):
            self.tried += 1
            raise ANSWER
        super().deliver(message)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with ExitStack() as stack:
        yield Stage(tmp_path, stack)


def _pass(stage: Stage, channel: Recorder, texts: list[str]) -> None:
    """Let time pass until a channel has got texts."""

    def has_got() -> bool:
        stage.pass_time(5)
        return channel.texts == texts

    eventually(has_got, what=f"the texts {texts}")


def test_a_text_that_a_receiver_dislikes_holds_up_no_other(stage: Stage) -> None:
    """The others are delivered, events committed later too; the one is stored, and comes after a restart."""
    channel = Firewall()
    worker = stage.worker("one", channel)
    stage.say("a", "../etc/passwd", "b", "/etc/shadow", "c")
    _pass(stage, channel, ["a", "b", "c"])
    stage.say("d")
    _pass(stage, channel, ["a", "b", "c", "d"])
    stage.end(worker)
    pending = stage.queries.pending_notifications("one")
    assert [(each.state, each.reason) for each in pending] == [(Delivery.PENDING, ANSWER.reason)] * 2
    channel.is_on = False
    stage.worker("one", channel)
    eventually(lambda: len(channel.got) == 6, what="both after the restart")
    assert channel.texts == ["a", "b", "c", "d", "../etc/passwd", "/etc/shadow"]
    eventually(lambda: not stage.queries.pending_notifications("one"), what="the record of the deliveries")


def test_a_message_set_aside_is_given_up_after_a_day(stage: Stage) -> None:
    """It is tried for a day, and then recorded as given up."""
    channel = Firewall()
    worker = stage.worker("one", channel)
    stage.say("/etc/passwd", "a")
    _pass(stage, channel, ["a"])
    stage.pass_time(deliveries.GIVEN_UP_AFTER + 1)
    eventually(lambda: worker.cursor is not None and worker.cursor.given_up == 1, what="the end of the tries")
    eventually(lambda: stage.queries.notifications(channel="one", limit=5)[0][0]["state"] == "given_up", what="it")
    assert worker.waiting == 0


def test_a_message_whose_event_is_deleted_is_not_tried_any_more(tmp_path: Path) -> None:
    """While the manager runs: a machine that was gone gets the number of deleted events, and those that are kept."""
    with ExitStack() as stack:
        stage = Stage(tmp_path, stack, events_kept=4)
        channel = Recorder(errors=[SILENCE])
        worker = stage.worker("one", channel)
        stage.say("a", "b")
        eventually(lambda: worker.health.failures == 1, what="the failure")
        stage.say(*"cdefgh")
        stage.pass_time(6)
        eventually(lambda: channel.texts == ["events_dropped", *"efgh"], what="the number and four events")
        told = channel.got[0].event
        assert told is not None
        assert told.data["count"] == 4


class _Line:
    """A queue whose messages are tried one after another, with a time of its own."""

    def __init__(self) -> None:
        self.queue, self.cursor, self.now = DeliveryQueue(), ChannelCursor("one", 0), 0.0

    def add(self, *numbers: int) -> None:
        for number in numbers:
            self.queue.add(Outgoing(message(id=str(number)), number))

    def next(self) -> Outgoing:
        """Let time pass until a message may be tried; return it."""
        self.now = max(self.now, self.queue.retry_at)
        if self.queue.first(self.now) is None:
            self.now = self.queue.due
        tried = self.queue.first(self.now)
        assert tried is not None
        return tried

    def attempt(self, error: ChannelError | None) -> tuple[str, Outcome]:
        """Try the next message as soon as the queue allows; return its id and the outcome."""
        tried = self.next()
        if error is None:
            outcome = deliveries.delivered(self.cursor, tried, self.now)
        else:
            outcome = deliveries.failed(self.cursor, tried, error, self.now, self.queue)
        self.cursor = outcome.cursor
        self.queue.settle(tried, outcome)
        return tried.message.id, outcome


def test_without_an_answer_the_order_is_kept() -> None:
    """A receiver that cannot be reached takes no other message either: the first is tried until it is done."""
    line = _Line()
    line.add(1, 2)
    assert [line.attempt(SILENCE)[0] for _ in range(9)] == ["1"] * 9
    assert line.cursor.sequence == 0
    assert [line.attempt(None)[0] for _ in range(2)] == ["1", "2"]


def test_a_receiver_that_answers_errors_to_all_costs_no_message() -> None:
    """As many as may be are set aside, the next one waits in front; nothing is given up within a day."""
    line = _Line()
    line.add(*range(1, MOST_ASIDE + 4))
    while line.now < deliveries.GIVEN_UP_AFTER / 2:
        line.attempt(ANSWER)
    assert (len(line.queue), line.cursor.given_up, line.cursor.sequence) == (MOST_ASIDE + 3, 0, MOST_ASIDE)
    got = set()
    while len(line.queue):
        got.add(line.attempt(None)[0])
    assert got == {str(number) for number in range(1, MOST_ASIDE + 4)}


def test_a_flood_of_disliked_messages_holds_up_no_other() -> None:
    """Beyond the maximum the oldest that failed again and again is given up, as others were delivered meanwhile."""
    line = _Line()
    count = MOST_ASIDE * 3
    line.add(*range(1, count + 1))
    got = []
    while len(got) < count // 3:
        is_liked = int(line.next().message.id) % 3 == 0
        number, outcome = line.attempt(None if is_liked else ANSWER)
        if is_liked:
            got.append(int(number))
        assert all(row.state is not Delivery.GIVEN_UP or row.attempts >= 3 for row in outcome.rows)
        assert line.now < deliveries.GIVEN_UP_AFTER
    assert got == list(range(3, count + 1, 3))
    assert line.cursor.given_up > 0
    assert len(line.queue) <= MOST_ASIDE
