"""Flapping: agents that become silent or degraded again and again within hours."""

from dataclasses import dataclass, field

FALLS = 3
"""The number of falls within `WINDOW` from which an agent flaps."""

WINDOW = 6 * 3600.0
"""Seconds in which falls are counted."""

STABLE = 3600.0
"""Seconds without a change after which an agent flaps no longer."""

AGAIN = 86_400.0
"""Seconds after which an agent that still flaps counts as beginning once more, so that people are told of it again."""

_MOST = 20_000


@dataclass(slots=True)
class Flapping:
    """The recent falls of agents, and the agents that flap.

    Attributes:
        falls: the times of the latest falls of each agent, the oldest first.
        changed: the time of the latest change of each agent that flaps.
        begun: the time at which each of these began to flap, the latest if it did more than once.
    """

    falls: dict[str, list[float]] = field(default_factory=dict)
    changed: dict[str, float] = field(default_factory=dict)
    begun: dict[str, float] = field(default_factory=dict)

    def fell(self, agent_id: str, now: float) -> bool:
        """Record that an agent fell; return whether it begins to flap with this, or still flaps after a day."""
        if self.until(agent_id, now) is not None:
            self.changed[agent_id] = now
            if now - self.begun.setdefault(agent_id, now) < AGAIN:
                return False
            self.begun[agent_id] = now
            return True
        self.changed.pop(agent_id, None)
        self.begun.pop(agent_id, None)
        if agent_id not in self.falls and len(self.falls) >= _MOST:
            self._forget(now)
        recent = [at for at in self.falls.pop(agent_id, []) if now - at < WINDOW]
        recent = [*recent, now][-FALLS:]
        if len(recent) < FALLS:
            self.falls[agent_id] = recent
            return False
        self.changed[agent_id] = self.begun[agent_id] = now
        return True

    def rose(self, agent_id: str, now: float) -> None:
        """Record that an agent is well again."""
        if self.until(agent_id, now) is not None:
            self.changed[agent_id] = now

    def until(self, agent_id: str, now: float) -> float | None:
        """Return until when an agent flaps if nothing changes; None if it does not flap."""
        changed = self.changed.get(agent_id)
        return None if changed is None or now - changed >= STABLE else changed + STABLE

    def removed(self, agent_id: str) -> None:
        """Forget a removed agent."""
        self.falls.pop(agent_id, None)
        self.changed.pop(agent_id, None)
        self.begun.pop(agent_id, None)

    def _forget(self, now: float) -> None:
        """Make room for a tenth: drop what is over, and if that is not enough the agents that fell first."""
        self.falls = {agent_id: times for agent_id, times in self.falls.items() if now - times[-1] < WINDOW}
        self.changed = {agent_id: at for agent_id, at in self.changed.items() if now - at < STABLE}
        self.begun = {agent_id: at for agent_id, at in self.begun.items() if agent_id in self.changed}
        while len(self.falls) > _MOST * 9 // 10:
            del self.falls[next(iter(self.falls))]
