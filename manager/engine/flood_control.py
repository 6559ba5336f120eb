"""Flood control: throttles registrations to what the broker can absorb, and suspends agents that flood."""

import structlog

from manager.domain.instant import Instant
from manager.engine.context import Context
from manager.engine.fleet import Fleet
from manager.engine.inbox import Inbox
from manager.engine.ports import BrokerAccess

log = structlog.get_logger(__name__)

_CATCH_UP_INTERVAL = 1.0
"""Seconds between two registrations while the broker's access control is behind."""


class RegistrationThrottle:
    """Throttles registrations to what the broker's access control can absorb.

    Args:
        broker_access: reports the number of further agents that the broker can absorb.
        usual: the maximum number of registrations in one batch.
    """

    def __init__(self, broker_access: BrokerAccess, usual: int) -> None:
        self._broker_access = broker_access
        self._usual = usual
        self._next = 0.0

    @property
    def is_held(self) -> bool:
        """Whether the broker has no room for a registration."""
        return self._broker_access.room == 0

    def allowance(self, now: Instant) -> int:
        """Return the maximum number of registrations of the next batch: one a second while the broker has no room."""
        room = self._broker_access.room
        if room != 0:
            return self._usual if room is None else min(room, self._usual)
        if now.monotonic < self._next:
            return 0
        self._next = now.monotonic + _CATCH_UP_INTERVAL
        return 1


class FloodSuspensions:
    """Suspends agents that flood, at the broker, for a fixed time.

    Args:
        fleet: the registered agents and the length of a suspension.
        inbox: reports the agents that flood.
        broker_access: suspends and resumes agents at the broker.
    """

    def __init__(self, fleet: Fleet, inbox: Inbox, broker_access: BrokerAccess) -> None:
        self._fleet = fleet
        self._inbox = inbox
        self._broker_access = broker_access
        self._until: dict[str, float] = {}
        self._unannounced: list[str] = []

    def suspend_flooding(self, now: Instant) -> bool:
        """Suspend the agents that flood, at once; return whether there was any."""
        before = len(self._until)
        for agent_id in self._inbox.take_flooding():
            if agent_id not in self._until and self._fleet.registry.find(agent_id) is not None:
                self._until[agent_id] = now.monotonic + self._fleet.settings.suspension
                self._unannounced.append(agent_id)
                self._broker_access.suspend(agent_id)
        return len(self._until) > before

    def tick(self, context: Context, now: Instant) -> None:
        """Suspend agents that flood, announce suspensions, and resume agents whose suspension is over."""
        fleet, seconds = self._fleet, self._fleet.settings.suspension
        self.suspend_flooding(now)
        self.resume(now)
        for agent_id in self._unannounced:
            log.warning("agent_suspended", agent_id=agent_id, seconds=seconds)
            fleet.counters["agents_suspended"] += 1
            context.batch.event("agent_suspended", fleet.registry.find(agent_id), {"seconds": seconds})
        self._unannounced.clear()

    def resume(self, now: Instant) -> None:
        """Resume agents whose suspension is over."""
        for agent_id in [agent_id for agent_id, until in self._until.items() if until <= now.monotonic]:
            del self._until[agent_id]
            if self._fleet.registry.find(agent_id) is not None:
                self._broker_access.resume(agent_id)
