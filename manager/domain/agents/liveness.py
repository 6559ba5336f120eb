"""Liveness rules: births, wills, sign-offs, heartbeats and silence (lifecycle page, phases 2 and 5).

Silence is measured on the manager's monotonic clock while the manager receives: time during which a door was closed, or
the store could not commit, does not count.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from manager.domain.agents.agent import Agent, Door, Reason, State
from manager.domain.instant import Instant


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

    def open_door(self, door: Door, now: Instant) -> None:
        """Start the silence timers of a door's agents; each gets its full grace from now."""
        if self._open_since[door] is None:
            self._open_since[door] = now.monotonic
            self._wills = {
                agent_id: (session, now.monotonic + self.times.settling)
                for agent_id, (session, _) in self._wills.items()
            }

    def close_door(self, door: Door) -> None:
        """Stop the silence timers of a door's agents."""
        self._open_since[door] = None

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
        if agent.reason in {Reason.SIGNED_OFF, Reason.CONNECTION_LOST}:
            return False, None
        agent.heartbeat_sequence = sequence
        agent.heard_monotonic = now.monotonic
        self._wills.pop(agent.agent_id, None)
        return True, self._transition(agent, State.ONLINE, Reason.HEARTBEAT, now)

    def contact(self, agent: Agent, now: Instant) -> Transition | None:
        """Handle a request of an HTTP agent, which has no sessions: the agent becomes online from any state."""
        agent.heard_monotonic = now.monotonic
        return self._transition(agent, State.ONLINE, Reason.HEARTBEAT, now)

    def leave(self, agent: Agent, now: Instant) -> Transition | None:
        """Handle a deregistration over HTTP: the agent becomes offline, and its record is kept."""
        return self.sign_off(agent, agent.session, now)

    def forget(self, agent: Agent) -> None:
        """Drop a removed agent."""
        self._wills.pop(agent.agent_id, None)

    def apply_wills(self, agents: dict[str, Agent], now: Instant) -> list[Transition]:
        """Mark agents as stale whose last will has passed its settling time; return the transitions."""
        if not self._wills or not self.is_open(Door.MQTT):
            return []
        due = [agent_id for agent_id, (_, at) in self._wills.items() if at <= now.monotonic]
        changed = []
        for agent_id in due:
            session, _ = self._wills.pop(agent_id)
            agent = agents.get(agent_id)
            if agent is not None and agent.session == session:
                changed.append(self._lost(agent, Reason.CONNECTION_LOST, now))
        return [transition for transition in changed if transition is not None]

    def mark_stale(self, agents: Iterable[Agent], now: Instant) -> list[Transition]:
        """Mark online agents as stale after `stale_after` seconds of silence or more; return the transitions."""
        stale_after = self.times.stale_after
        horizon = {door: since for door, since in self._open_since.items() if since is not None}
        changed = []
        for agent in agents:
            since = horizon.get(agent.door)
            if agent.state is not State.ONLINE or since is None:
                continue
            if now.monotonic - max(agent.heard_monotonic, since) >= stale_after:
                changed.append(self._lost(agent, Reason.SILENCE, now))
        return [transition for transition in changed if transition is not None]

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
        silent = state is State.OFFLINE and self._is_ephemeral(agent)
        return Transition(agent, before, state, reason, now.wall, silent)
