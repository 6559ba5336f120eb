"""Clone detection: two living instances of one guard identity.

Each connecting instance raises the session above all known sessions, so two copies of one identity raise it
endlessly. `sentAt - uptime` is the time at which a process started, by its own clock. It tells the cases
apart: a guard that flaps keeps it; a guard that restarts has a new one each time and never returns to an earlier one.
Only with two living instances do both start times return, each after the other.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from msgspec import Struct

from manager.domain.agents.agent import Agent
from manager.domain.instant import Instant

SAME = 0.5
"""Seconds within which two start times count as one: clock and uptime are read one after the other."""

WINDOW = 600.0
"""Seconds within which both instances must return; after that time without a return only one instance is left."""

_BOTH = 2
_MAX_OTHERS = 8
"""The maximum number of other instances remembered for each agent; the longest silent one is dropped first."""


@dataclass(frozen=True, slots=True)
class Clone:
    """An agent identity with more than one living instance. Times are seconds since 1970.

    Args:
        agent_id: the identity.
        since: the time at which the manager detected it.
        instances: start time of each instance by its own clock, oldest first.
    """

    agent_id: str
    since: float
    instances: tuple[float, ...]


@dataclass(slots=True)
class _Instance:
    started: float
    heard: float
    returned: float | None = None
    """Monotonic time at which it last sent a message after another instance had sent one."""


class _Track(Struct, gc=False):
    """The current instance of an agent, and the others that were heard within the last window."""

    session: int
    started: float
    heard: float
    returned: float | None = None
    others: tuple[_Instance, ...] = ()

    def forget_before(self, horizon: float) -> None:
        self.others = tuple(other for other in self.others if other.heard >= horizon)

    def find(self, started: float) -> _Instance | None:
        return next((other for other in self.others if abs(other.started - started) <= SAME), None)

    def switch_to(self, known: _Instance | None, started: float, now: float) -> None:
        """Make another instance the current one: a returning instance, or a new one."""
        others = [other for other in self.others if other is not known]
        others.append(_Instance(self.started, self.heard, self.returned))
        if len(others) > _MAX_OTHERS:
            others.remove(min(others, key=lambda other: other.heard))
        self.others = tuple(others)
        self.started = started if known is None else known.started
        self.heard = now
        self.returned = None if known is None else now

    def returned_since(self, horizon: float) -> list[float]:
        """Return the start times of the instances that returned since a time."""
        instances: tuple[_Instance | _Track, ...] = (self, *self.others)
        return [each.started for each in instances if each.returned is not None and each.returned >= horizon]


class CloneTracker:
    """Detects clones from births and heartbeats. State is in memory only; a restarted manager detects clones again."""

    def __init__(self) -> None:
        self.known: Mapping[str, Clone] = {}
        """Current clones by agent id. Replaced as a whole, so other threads may read it."""
        self._tracks: dict[str, _Track] = {}
        """Tracks by agent id, of agents with more than one instance; of the others their record has what is needed."""

    def __len__(self) -> int:
        """Return the number of agents that have, or had lately, more than one instance."""
        return len(self._tracks)

    def observe(self, agent: Agent, session: int, started: float, heard: float, now: Instant) -> Clone | None:
        """Observe an accepted birth or heartbeat; return a newly detected clone.

        Args:
            agent: the sender, whose clock has not observed the message yet.
            session: its session; messages of older sessions must not be passed here.
            started: start time of the sending process, in seconds since 1970 by its own clock.
            heard: monotonic time of the agent's message before this one.
            now: the time.
        """
        track = self._tracks.get(agent.agent_id)
        if track is None:
            before = agent.started
            if before is not None and abs(started - before) <= SAME:
                return None
            agent.started = started
            if before is None or session == agent.clock.session:
                # No other instance is known: the clock of the current process was set.
                return None
            track = self._tracks[agent.agent_id] = _Track(agent.clock.session, before, heard)
        return self._follow(agent, track, session, started, now)

    def _follow(self, agent: Agent, track: _Track, session: int, started: float, now: Instant) -> Clone | None:
        """Observe a message of an agent that has, or had lately, more than one instance."""
        horizon = now.monotonic - WINDOW
        track.forget_before(horizon)
        if abs(started - track.started) <= SAME:
            track.session, track.heard = session, now.monotonic
            if not track.others and not track.returned_since(horizon) and agent.agent_id not in self.known:
                agent.started = track.started
                del self._tracks[agent.agent_id]
            return None
        known = track.find(started)
        if known is None and session == track.session:
            # No other instance is known: the clock of the current process was set.
            track.started, track.heard = started, now.monotonic
            return None
        track.session = session
        track.switch_to(known, started, now.monotonic)
        return self._detect(agent.agent_id, track, now)

    def expire(self, now: Instant) -> list[Clone]:
        """Remove and return the clones of which only one instance sent messages within the last window."""
        horizon = now.monotonic - WINDOW
        over = [clone for agent_id, clone in self.known.items() if not self._tracks[agent_id].returned_since(horizon)]
        for clone in over:
            self._drop(clone.agent_id)
        return over

    def forget(self, agent_id: str) -> None:
        """Drop a removed agent."""
        self._tracks.pop(agent_id, None)
        self._drop(agent_id)

    def _detect(self, agent_id: str, track: _Track, now: Instant) -> Clone | None:
        returned = track.returned_since(now.monotonic - WINDOW)
        before = self.known.get(agent_id)
        if len(returned) < _BOTH:
            return None
        instances = tuple(sorted(returned))
        clone = Clone(agent_id, now.wall if before is None else before.since, instances)
        if clone != before:
            self.known = {**self.known, agent_id: clone}
        return clone if before is None else None

    def _drop(self, agent_id: str) -> None:
        if agent_id in self.known:
            self.known = {other: clone for other, clone in self.known.items() if other != agent_id}
