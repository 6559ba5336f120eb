"""Liveness rules: births, wills, sign-offs, heartbeats and silence (lifecycle page, phases 2 and 5).

Silence is measured on the manager's monotonic clock while the manager receives: time during which a door was closed, or
the store could not commit, does not count.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import takewhile
from math import ceil
from operator import attrgetter

from manager.domain.agents.agent import Agent, Door, Reason, State
from manager.domain.instant import Instant

_ROUNDING = 1e-6
"""Seconds; an agent whose time is a full second is in the slot before it."""

LOOKS = 4000
"""The maximum number of agents that are looked at in one call: a third of a fleet may be due in the same second."""

LOSSES = 300
"""The maximum number of agents that become stale in one call; each is a row of its own with events and history."""


class SilenceWheel:
    """Timer wheel with slots of a second: agents by the second in which they are looked at next. Times are monotonic.

    A sign of life moves nothing: an agent is looked at once its slot is due, and put into that of its new time then.
    """

    def __init__(self) -> None:
        self._slots: dict[int, list[Agent]] = {}

    def add(self, agent: Agent, at: float) -> None:
        """Have an agent looked at once this time has come, or up to a second before."""
        self._slots.setdefault(int(at - _ROUNDING), []).append(agent)

    def spread(self, agents: list[Agent], first: float, last: float) -> None:
        """Have agents looked at between two times, about as many in each second."""
        seconds = max(1, int(last - first))
        share = ceil(len(agents) / seconds)
        for second in range(seconds):  # consecutive ones, which lie beside each other in memory
            self._slots.setdefault(int(first) + second, []).extend(agents[second * share : (second + 1) * share])

    def take(self, now: float, most: int) -> list[Agent]:
        """Remove and return agents whose slots have come, the earliest first, at most this number."""
        taken: list[Agent] = []
        for slot in sorted(slot for slot in self._slots if slot <= now):
            agents, start = self._slots[slot], max(0, len(self._slots[slot]) - most + len(taken))
            taken += agents[start:]
            if start:
                del agents[start:]
                break
            del self._slots[slot]
        return taken

    def is_due(self, now: float) -> bool:
        """Return whether `take` would return an agent."""
        return any(slot <= now for slot in self._slots)


@dataclass(frozen=True, slots=True)
class LivenessTimes:
    """Seconds of silence after which an agent is stale, and settling time of a last will in seconds."""

    stale_after: float = 90.0
    settling: float = 5.0


@dataclass(frozen=True, slots=True)
class Transition:
    """A change of an agent's state; a `silent` one is no fleet event."""

    agent: Agent
    before: State
    after: State
    reason: Reason
    at: float
    silent: bool = False


class Liveness:
    """The state machine of all agents. Doors start closed: no agent becomes stale before `open_door`.

    Args:
        times: of silence and settling.
        is_ephemeral: returns whether an agent is offline, and not stale, once it is not heard of.
    """

    def __init__(self, times: LivenessTimes, is_ephemeral: Callable[[Agent], bool] = lambda _agent: False) -> None:
        self.times = times
        self._is_ephemeral = is_ephemeral
        self._wills: dict[str, tuple[int, float]] = {}
        self._open_since: dict[Door, float | None] = dict.fromkeys(Door)
        self._paused: dict[Door, bool] = {}
        """The paused doors, and whether each is open apart from that."""
        self._wheel = SilenceWheel()
        self._loaded: list[Agent] = []
        self._silent: list[Agent] = []
        """Agents that were silent for nearly too long, or longer, when the wheel came to them."""
        self.is_behind = False
        """Whether `mark_stale` has more to do at once: it has looked at, or marked, as many agents as one call does."""
        self.offline: dict[str, Agent] = {}
        """The offline agents by id."""

    def open_door(self, door: Door, now: Instant) -> None:
        """Start the silence timers of a door's agents; each gets its full grace from now, or from `resume_door`."""
        if door in self._paused:
            self._paused[door] = True
        elif self._open_since[door] is None:
            self._open_since[door] = now.monotonic
            self._wills = {
                agent_id: (session, now.monotonic + self.times.settling)
                for agent_id, (session, _) in self._wills.items()
            }

    def close_door(self, door: Door) -> None:
        """Stop the silence timers of a door's agents."""
        if door in self._paused:
            self._paused[door] = False
        self._open_since[door] = None

    def pause_door(self, door: Door) -> None:
        """Stop the silence timers of a door's agents until `resume_door`, also if the door is opened meanwhile."""
        if door not in self._paused:
            self._paused[door] = self.is_open(door)
            self._open_since[door] = None

    def resume_door(self, door: Door, now: Instant) -> None:
        """End a pause: if the door is open, each of its agents gets its full grace from now."""
        if self._paused.pop(door, False):
            self.open_door(door, now)

    def is_open(self, door: Door) -> bool:
        """Return whether the manager receives through this door."""
        return self._open_since[door] is not None

    def hearing_since(self, door: Door) -> float | None:
        """Return the monotonic time since which the manager receives through this door; None while it does not."""
        return self._open_since[door]

    def registered(self, agent: Agent, now: Instant) -> Transition | None:
        """Handle a registration or reconnection: the agent becomes online."""
        self._wills.pop(agent.agent_id, None)
        agent.heard_monotonic = now.monotonic
        self._watch(agent, now.monotonic + self.times.stale_after)
        return self._transition(agent, State.ONLINE, Reason.REGISTERED, now)

    def birth(self, agent: Agent, session: int, now: Instant) -> Transition | None:
        """Handle a birth; it counts only with a session above the known one, because brokers may repeat old births."""
        if session <= agent.session:
            return None
        return self._begin_session(agent, session, Reason.BIRTH, now)

    def sign_off(self, agent: Agent, session: int, now: Instant) -> Transition | None:
        """Handle a sign-off: the agent becomes offline; a sign-off of an older session is ignored."""
        if session < agent.session:
            return None
        agent.session = session
        self._wills.pop(agent.agent_id, None)
        return self._transition(agent, State.OFFLINE, Reason.SIGNED_OFF, now)

    def will(self, agent: Agent, session: int, now: Instant) -> None:
        """Handle a last will: the agent becomes stale after the settling time, unless a newer message arrives."""
        if session < agent.session or agent.state is State.OFFLINE or agent.reason is Reason.CONNECTION_LOST:
            return
        agent.session = session
        self._wills.setdefault(agent.agent_id, (session, now.monotonic + self.times.settling))

    def heartbeat(self, agent: Agent, session: int, sequence: int, now: Instant) -> tuple[bool, Transition | None]:
        """Handle a heartbeat over MQTT; return whether it was accepted, and the change of state.

        A heartbeat of an older session, or one that does not raise `sequence` within its session, is ignored. Offline
        and lost end only with a higher session; silence ends with any heartbeat of the current one.
        """
        if session > agent.session:
            transition = self._begin_session(agent, session, Reason.HEARTBEAT, now)
            agent.heartbeat_sequence = sequence
            return True, transition
        if session < agent.session or sequence <= agent.heartbeat_sequence:
            return False, None
        if agent.reason is Reason.SIGNED_OFF or agent.reason is Reason.CONNECTION_LOST:
            return False, None
        agent.heartbeat_sequence = sequence
        agent.heard_monotonic = now.monotonic
        if self._wills:
            self._wills.pop(agent.agent_id, None)
        return True, self._transition(agent, State.ONLINE, Reason.HEARTBEAT, now)

    def contact(self, agent: Agent, now: Instant) -> Transition | None:
        """Handle a request of an HTTP agent, which has no sessions: the agent becomes online from any state.

        One that an ingest worker received may be handed over after a later one.
        """
        agent.heard_monotonic = max(agent.heard_monotonic, now.monotonic)
        return self._transition(agent, State.ONLINE, Reason.HEARTBEAT, now)

    def leave(self, agent: Agent, now: Instant) -> Transition | None:
        """Handle a deregistration over HTTP: the agent becomes offline, and its record is kept."""
        return self.sign_off(agent, agent.session, now)

    def forget(self, agent: Agent) -> None:
        """Drop a removed agent."""
        self._wills.pop(agent.agent_id, None)
        self.offline.pop(agent.agent_id, None)

    def apply_wills(self, agents: Mapping[str, Agent], now: Instant) -> list[Transition]:
        """Mark agents as stale whose last will has passed its settling time; return the transitions."""
        if not self._wills or not self.is_open(Door.MQTT):
            return []
        due = list(takewhile(lambda will: will[1][1] <= now.monotonic, self._wills.items()))
        changed = []
        for agent_id, (session, _) in due:
            del self._wills[agent_id]
            agent = agents.get(agent_id)
            if agent is not None and agent.session == session:
                changed.append(self._lost(agent, Reason.CONNECTION_LOST, now))
        return [transition for transition in changed if transition is not None]

    def watch(self, agent: Agent) -> None:
        """Watch an agent from the store for silence."""
        if agent.state is State.OFFLINE:
            self.offline[agent.agent_id] = agent
        if agent.state is State.ONLINE and not agent.is_watched:
            agent.is_watched = True
            self._loaded.append(agent)

    def turn(self, agents: Mapping[str, Agent], now: Instant) -> bool:
        """Look at the agents whose time has come; `mark_stale` judges the silent. Return whether more are due now."""
        if self._loaded:
            self._spread_loaded(now)
        for agent in self._wheel.take(now.monotonic, LOOKS):
            due = self._silent_at(agent)
            if agent.state is not State.ONLINE or agents.get(agent.agent_id) is not agent:
                agent.is_watched = False
            elif due is None:  # once its door is open, it gets at least as long as this
                self._wheel.add(agent, now.monotonic + self.times.stale_after)
            elif due <= now.monotonic + 1:
                self._silent.append(agent)
            else:
                self._wheel.add(agent, due)
        return self._wheel.is_due(now.monotonic)

    def mark_stale(self, agents: Mapping[str, Agent], now: Instant) -> list[Transition]:
        """Mark online agents as stale after `stale_after` seconds of silence or more; return the transitions.

        While `is_behind`, the next call goes on.
        """
        more = self.turn(agents, now)
        silent = sorted(self._silent[:LOSSES], key=attrgetter("number"))
        del self._silent[:LOSSES]  # a slice of the others would touch each of them
        self.is_behind = more or bool(self._silent)
        changed = []
        for agent in silent:
            agent.is_watched = False
            if agent.state is not State.ONLINE or agents.get(agent.agent_id) is not agent:
                continue
            if self._is_silent(agent, now):
                changed.append(self._lost(agent, Reason.SILENCE, now))
            else:
                due = self._silent_at(agent)
                self._watch(agent, now.monotonic + self.times.stale_after if due is None else due)
        return [transition for transition in changed if transition is not None]

    def _spread_loaded(self, now: Instant) -> None:
        """Spread the agents from the store over the time before the first of them can have been silent for too long."""
        open_since = [since for since in self._open_since.values() if since is not None]
        earliest = min(open_since, default=now.monotonic) + self.times.stale_after
        self._wheel.spread(self._loaded, now.monotonic, min(earliest, now.monotonic + self.times.stale_after / 2))
        self._loaded = []

    def _is_silent(self, agent: Agent, now: Instant) -> bool:
        since = self._open_since[agent.door]
        return since is not None and now.monotonic - max(agent.heard_monotonic, since) >= self.times.stale_after

    def _silent_at(self, agent: Agent) -> float | None:
        """Return the monotonic time at which an agent has been silent for too long; None while its door is closed."""
        since = self._open_since[agent.door]
        return None if since is None else max(agent.heard_monotonic, since) + self.times.stale_after

    def _watch(self, agent: Agent, at: float) -> None:
        if not agent.is_watched:
            agent.is_watched = True
            self._wheel.add(agent, at)

    def _begin_session(self, agent: Agent, session: int, reason: Reason, now: Instant) -> Transition | None:
        agent.session = session
        agent.heartbeat_sequence = -1
        agent.heard_monotonic = now.monotonic
        agent.door = Door.MQTT
        self._wills.pop(agent.agent_id, None)
        return self._transition(agent, State.ONLINE, reason, now)

    def _lost(self, agent: Agent, reason: Reason, now: Instant) -> Transition | None:
        return self._transition(agent, State.OFFLINE if self._is_ephemeral(agent) else State.STALE, reason, now)

    def _transition(self, agent: Agent, state: State, reason: Reason, now: Instant) -> Transition | None:
        before = agent.state
        if before is state and (state is State.ONLINE or agent.reason is reason):
            return None
        agent.state, agent.reason, agent.state_since = state, reason, now.wall
        if state is State.OFFLINE:
            self.offline[agent.agent_id] = agent
        elif before is State.OFFLINE:
            self.offline.pop(agent.agent_id, None)
        if state is State.ONLINE:
            self._watch(agent, now.monotonic + self.times.stale_after)
        silent = state is State.OFFLINE and self._is_ephemeral(agent)
        return Transition(agent, before, state, reason, now.wall, silent)
