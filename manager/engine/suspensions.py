"""Agents that flood, kept out at the broker for a while: they would fill its queue, and hold up the others in it."""

import structlog

from manager.domain.instant import Instant
from manager.engine.desk import Desk
from manager.engine.fleet import Fleet
from manager.engine.inbox import Inbox
from manager.engine.ports import Doorkeeper

log = structlog.get_logger(__name__)


class Suspensions:
    """Who is kept out, and until when.

    Args:
        fleet: who is an agent, and for how long one is suspended.
        inbox: knows who floods.
        doorkeeper: tells the broker.
    """

    def __init__(self, fleet: Fleet, inbox: Inbox, doorkeeper: Doorkeeper) -> None:
        self._fleet = fleet
        self._inbox = inbox
        self._doorkeeper = doorkeeper
        self._until: dict[str, float] = {}
        self._untold: list[str] = []

    def begin(self, now: Instant) -> bool:
        """Shut the broker's door to agents that flood, at once; return whether there was any."""
        before = len(self._until)
        for agent_id in self._inbox.take_flooding():
            if agent_id not in self._until and self._fleet.registry.find(agent_id) is not None:
                self._until[agent_id] = now.monotonic + self._fleet.settings.suspension
                self._untold.append(agent_id)
                self._doorkeeper.suspend(agent_id)
        return len(self._until) > before

    def follow_time(self, desk: Desk, now: Instant) -> None:
        """Say who was shut out, and let in again those whose time is over."""
        fleet, seconds = self._fleet, self._fleet.settings.suspension
        self.begin(now)
        for agent_id in self._untold:
            log.warning("agent_suspended", agent_id=agent_id, seconds=seconds)
            fleet.counters["agents_suspended"] += 1
            desk.batch.event("agent_suspended", fleet.registry.find(agent_id), {"seconds": seconds})
        self._untold.clear()
        for agent_id in [agent_id for agent_id, until in self._until.items() if until <= now.monotonic]:
            del self._until[agent_id]
            if fleet.registry.find(agent_id) is not None:
                self._doorkeeper.resume(agent_id)
