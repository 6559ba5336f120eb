"""How many registrations a batch may take: as many as the broker is told of without holding up what else it is told."""

import structlog

from manager.domain.instant import Instant
from manager.engine.context import Context
from manager.engine.fleet import Fleet
from manager.engine.inbox import Inbox
from manager.engine.ports import BrokerAccess

log = structlog.get_logger(__name__)

_UNHURRIED = 1.0
"""Seconds between two registrations while the broker has not caught up with those before."""


class RegistrationThrottle:
    """Follows the broker.

    Args:
        broker_access: knows how many agents more the broker can be told of just now.
        usual: registrations that one batch takes at most.
    """

    def __init__(self, broker_access: BrokerAccess, usual: int) -> None:
        self._broker_access = broker_access
        self._usual = usual
        self._next = 0.0

    @property
    def is_held(self) -> bool:
        """Whether the broker has to catch up first."""
        return self._broker_access.room == 0

    def take(self, now: Instant) -> int:
        """Return how many registrations the next batch may have: one now and then while the broker catches up."""
        room = self._broker_access.room
        if room != 0:
            return self._usual if room is None else min(room, self._usual)
        if now.monotonic < self._next:
            return 0
        self._next = now.monotonic + _UNHURRIED
        return 1


class FloodSuspensions:
    """Who is kept out, and until when.

    Args:
        fleet: who is an agent, and for how long one is suspended.
        inbox: knows who floods.
        broker_access: tells the broker.
    """

    def __init__(self, fleet: Fleet, inbox: Inbox, broker_access: BrokerAccess) -> None:
        self._fleet = fleet
        self._inbox = inbox
        self._broker_access = broker_access
        self._until: dict[str, float] = {}
        self._untold: list[str] = []

    def begin(self, now: Instant) -> bool:
        """Shut the broker's door to agents that flood, at once; return whether there was any."""
        before = len(self._until)
        for agent_id in self._inbox.take_flooding():
            if agent_id not in self._until and self._fleet.registry.find(agent_id) is not None:
                self._until[agent_id] = now.monotonic + self._fleet.settings.suspension
                self._untold.append(agent_id)
                self._broker_access.suspend(agent_id)
        return len(self._until) > before

    def follow_time(self, context: Context, now: Instant) -> None:
        """Say who was shut out, and let in again those whose time is over."""
        fleet, seconds = self._fleet, self._fleet.settings.suspension
        self.begin(now)
        for agent_id in self._untold:
            log.warning("agent_suspended", agent_id=agent_id, seconds=seconds)
            fleet.counters["agents_suspended"] += 1
            context.batch.event("agent_suspended", fleet.registry.find(agent_id), {"seconds": seconds})
        self._untold.clear()
        for agent_id in [agent_id for agent_id, until in self._until.items() if until <= now.monotonic]:
            del self._until[agent_id]
            if fleet.registry.find(agent_id) is not None:
                self._broker_access.resume(agent_id)
