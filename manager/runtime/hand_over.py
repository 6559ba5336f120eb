"""The leader's side of several processes on one database: hand-over of reports, budgets, features of all."""

from contextlib import ExitStack
from typing import TYPE_CHECKING

from manager.domain.budget import Budget
from manager.domain.instant import Instant
from manager.engine.engine import Engine
from manager.ingest.report_store import INGESTED
from manager.mqtt.broker_link import BrokerLink
from manager.storage.postgresql.address import DatabaseAddress
from manager.storage.postgresql.listener import Listener

if TYPE_CHECKING:
    from manager.runtime.membership import Membership

_CHECK_EVERY = 1.0


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
            settings = self._engine.fleet.settings
            budget = Budget(settings.agent_messages / sharers, settings.agent_bytes / sharers, settings.burst)
            self._engine.inbox.use_budget(budget)

    def _hear(self, _channel: str, _text: str) -> None:
        self._engine.stored_elsewhere.notified = True
        self._link.wake()
