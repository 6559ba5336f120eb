"""Clones: two living instances of one guard, told from one that flaps or restarts by when their processes started.

Whoever speaks for an agent raises the session above all that were heard of, so two copies of one identity raise it
over each other for ever. What tells them apart is `sentAt - uptime`, the moment at which a process started by its own
clock: one that flaps keeps it, one that restarts has a new one each time and never an earlier one again. Only where
there are two do both come back, each after the other.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from manager.domain.instant import Instant

SAME = 0.5
"""Seconds within which two starts are one: clock and uptime are read one after the other."""

WINDOW = 600.0
"""Seconds in which both must have come back, and after which without such a return only one is left."""

_BOTH = 2
_MAX_OTHERS = 8
"""Other instances remembered of one agent; the one that was silent longest makes room."""


@dataclass(frozen=True, slots=True)
class Clone:
    """An agent that lives more than once. Times are seconds since 1970, those of instances by their own clocks.

    Args:
        agent_id: whose identity it is.
        since: when that was seen.
        instances: when each instance that came back was started, the oldest first.
    """

    agent_id: str
    since: float
    instances: tuple[float, ...]


@dataclass(slots=True)
class _Instance:
    started: float
    heard: float
    returned: float | None = None
    """When it last came back after another one had spoken; monotonic, as `heard` is."""


@dataclass(slots=True)
class _Track:
    session: int
    current: _Instance
    others: list[_Instance] = field(default_factory=list)

    def forget_before(self, horizon: float) -> None:
        self.others = [other for other in self.others if other.heard >= horizon]

    def find(self, started: float) -> _Instance | None:
        return next((other for other in self.others if abs(other.started - started) <= SAME), None)

    def switch_to(self, known: _Instance | None, started: float, now: float) -> None:
        """Let another instance be the current one: one that is known has come back, any other is new."""
        others = [other for other in (*self.others, self.current) if other is not known]
        if len(others) > _MAX_OTHERS:
            others.remove(min(others, key=lambda other: other.heard))
        self.others = others
        self.current = _Instance(started, now) if known is None else known
        self.current.heard = now
        self.current.returned = None if known is None else now

    def returned_since(self, horizon: float) -> list[_Instance]:
        instances = (self.current, *self.others)
        return [each for each in instances if each.returned is not None and each.returned >= horizon]


class CloneTracker:
    """Who lives more than once, as far as births and heartbeats tell. In memory: a manager that restarts looks anew."""

    def __init__(self) -> None:
        self.known: Mapping[str, Clone] = {}
        """The clones of this moment by agent id; replaced as a whole, so that any thread may read it."""
        self._tracks: dict[str, _Track] = {}

    def observe(self, agent_id: str, session: int, started: float, now: Instant) -> Clone | None:
        """Take a sign of life that counted; return the clone that it gives away, once.

        Args:
            agent_id: who spoke.
            session: in which session; a message of an older one is no sign of life and must not come here.
            started: when the process that spoke was started, in seconds since 1970 by its own clock.
            now: the moment.
        """
        track = self._tracks.get(agent_id)
        if track is None:
            self._tracks[agent_id] = _Track(session, _Instance(started, now.monotonic))
            return None
        current = track.current
        if abs(started - current.started) <= SAME:
            track.session, current.heard = session, now.monotonic
            return None
        track.forget_before(now.monotonic - WINDOW)
        known = track.find(started)
        if known is None and session == track.session:
            # Nobody else is known: the process that holds the session had its clock set.
            current.started, current.heard = started, now.monotonic
            return None
        track.session = session
        track.switch_to(known, started, now.monotonic)
        return self._detect(agent_id, track, now)

    def expire(self, now: Instant) -> list[Clone]:
        """Return, once, the clones of which only one instance has been left for a window."""
        horizon = now.monotonic - WINDOW
        over = [clone for agent_id, clone in self.known.items() if not self._tracks[agent_id].returned_since(horizon)]
        for clone in over:
            self._drop(clone.agent_id)
        return over

    def forget(self, agent_id: str) -> None:
        """An agent was removed."""
        self._tracks.pop(agent_id, None)
        self._drop(agent_id)

    def _detect(self, agent_id: str, track: _Track, now: Instant) -> Clone | None:
        returned = track.returned_since(now.monotonic - WINDOW)
        before = self.known.get(agent_id)
        if len(returned) < _BOTH:
            return None
        instances = tuple(sorted(each.started for each in returned))
        clone = Clone(agent_id, now.wall if before is None else before.since, instances)
        if clone != before:
            self.known = {**self.known, agent_id: clone}
        return clone if before is None else None

    def _drop(self, agent_id: str) -> None:
        if agent_id in self.known:
            self.known = {other: clone for other, clone in self.known.items() if other != agent_id}
