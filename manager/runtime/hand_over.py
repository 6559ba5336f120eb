"""The leader's side of several processes on one database: hand-over of reports, budgets, features of all."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

from manager.domain.budget import Budget
from manager.domain.ingest.gathering import INTERVAL, Gathering
from manager.domain.instant import Instant
from manager.engine.engine import Engine
from manager.ingest.report_store import INGESTED
from manager.mqtt.broker_link import BrokerLink
from manager.runtime import clock
from manager.storage.postgresql.address import DatabaseAddress
from manager.storage.postgresql.listener import Listener

if TYPE_CHECKING:
    from manager.runtime.membership import Membership

_CHECK_EVERY = 1.0
_LONGEST_GATHERING = 0.25
"""The maximum wait for the next batch in seconds, by which ticks come later; workers may wait longer."""


class LeaderGathering:
    """The pace of a leader beside workers, which is theirs; a leader that takes all messages alone waits for nothing.

    Args:
        engine: takes the batches.
        link: brings the messages.
        read_clock: reads both clocks.
    """

    def __init__(self, engine: Engine, link: BrokerLink, read_clock: Callable[[], Instant] = clock.read) -> None:
        self._engine = engine
        self._link = link
        self._read_clock = read_clock
        self._gathering = Gathering(INTERVAL, _LONGEST_GATHERING)
        self.share(1)

    def share(self, processes: int) -> None:
        """Set the number of processes among which the broker splits the agents' messages."""
        self._gathering.processes = processes if processes > 1 else 0

    def wait(self) -> None:
        """Wait until the next batch is due, without reading. A command, or work that a step has left, ends the wait."""
        engine, link = self._engine, self._link
        while link.ready and engine.can_commit and not engine.is_behind:
            left = self._gathering.left(self._read_clock().monotonic)
            if not left:
                return
            link.pause(left)  # a worker's notification ends it early

    def begin(self, now: Instant) -> None:
        """Note that a batch is taken, if there is anything to take."""
        if self._engine.has_work:
            self._gathering.begin(now.monotonic)


class LeaderHandOver:
    """Listens for the workers' notifications, and follows their number and the features of all managers.

    Args:
        place: the database.
        membership: the place among its managers.
        engine: decides on what workers stored.
        link: woken by a notification.
        stack: stops the listener at its end.
    """

    def __init__(
        self, place: DatabaseAddress, membership: "Membership", engine: Engine, link: BrokerLink, stack: ExitStack
    ) -> None:
        self._membership = membership
        self._engine = engine
        self._link = link
        self.sharers = 1
        """The number of processes among which the budgets of agents at the broker are divided."""
        self.http_doors = 1
        """The number of processes among which the budgets of HTTP agents are divided."""
        self._next_check = 0.0
        self.gathering = LeaderGathering(engine, link)
        engine.fleet.features = membership.features()
        listener = Listener(place, (INGESTED,), self._hear)
        stack.callback(listener.stop)
        listener.start()

    def tick(self, now: Instant) -> None:
        """Follow the managers that live.

        Each agent's budget is divided by the number of processes among which the broker splits its messages, and what
        one of the managers does not take is announced no more.
        """
        if now.monotonic < self._next_check:
            return
        self._next_check = now.monotonic + _CHECK_EVERY
        features = self._membership.features()
        if features != self._engine.fleet.features:
            self._engine.use_features(features, now)
        self.http_doors = self._membership.http_doors()
        sharers = self._membership.sharers()
        if sharers != self.sharers:
            self.sharers = sharers
            self.gathering.share(sharers)
            settings = self._engine.fleet.settings
            budget = Budget(settings.agent_messages / sharers, settings.agent_bytes / sharers, settings.burst)
            self._engine.inbox.use_budget(budget)

    def _hear(self, _channel: str, _text: str) -> None:
        self._engine.stored_elsewhere.notified = True
        self._link.wake()
