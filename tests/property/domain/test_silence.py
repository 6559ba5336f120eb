"""Agents are stale when a look at every one of them would find them so, whatever their doors and the clock do."""

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from manager.domain.agents import liveness
from manager.domain.agents.agent import Agent, Door, Reason, State, credential_of
from manager.domain.agents.host import Host
from manager.domain.agents.liveness import Liveness, LivenessTimes, Transition
from manager.domain.instant import Instant
from tests.support.examples import examples

AGENTS = 4
TIMES = LivenessTimes(stale_after=90.0, settling=5.0)
CREDENTIAL = credential_of(bytes(32))

waits = st.sampled_from([0.0, 0.25, 1.0, 4.75, 5.0, 29.0, 30.0, 59.5, 89.999, 90.0, 91.0, 300.0])
agents = st.integers(0, AGENTS - 1)
actions = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), waits),
        st.tuples(st.just("step"), st.sampled_from([-86_400.0, -5.0, 3600.0])),
        st.tuples(st.sampled_from(["heartbeat", "birth", "will", "sign_off", "contact", "register", "remove"]), agents),
        st.tuples(st.sampled_from(["open_door", "close_door"]), st.sampled_from(Door)),
    ),
    max_size=60,
)
limits = st.sampled_from([(1, 1), (2, 1), (1, 3), (4000, 300)])


class Side:
    """The rules over agents of their own; the naive side looks at every agent at each sweep."""

    def __init__(self, *, naive: bool) -> None:
        self.naive = naive
        self.liveness = Liveness(TIMES, lambda agent: agent.number == AGENTS)
        self.agents: dict[str, Agent] = {}
        for number in range(1, AGENTS + 1):
            self.add(number, loaded=True)

    def add(self, number: int, *, loaded: bool = False) -> Agent:
        host = Host.of(f"host-{number}", "os", "arch", "1")
        door = Door.HTTP if number % 2 else Door.MQTT
        agent = Agent(number, f"ag-{number}", "acme", host, CREDENTIAL, None, door, 0.0)
        self.agents[agent.agent_id] = agent
        if loaded:
            self.liveness.watch(agent)
        return agent

    def sweep(self, now: Instant) -> list[Transition]:
        if not self.naive:
            told = self.liveness.mark_stale(self.agents, now)
            for _ in range(2 * AGENTS):
                told += self.liveness.mark_stale(self.agents, now) if self.liveness.is_behind else []
            return sorted(told, key=lambda each: each.agent.number)
        found = []
        for agent in sorted(self.agents.values(), key=lambda each: each.number):
            since = self.liveness.hearing_since(agent.door)
            if agent.state is not State.ONLINE or since is None:
                continue
            if now.monotonic - max(agent.heard_monotonic, since) >= TIMES.stale_after:
                found.append(self.liveness._lost(agent, Reason.SILENCE, now))
        return [each for each in found if each is not None]

    def act(self, action: str, value: Any, now: Instant) -> None:
        if action in {"open_door", "close_door"}:
            self.liveness.open_door(value, now) if action == "open_door" else self.liveness.close_door(value)
            return
        number = value + 1
        agent = self.agents.get(f"ag-{number}")
        if agent is None:
            if action == "register":
                self.liveness.registered(self.add(number), now)
            return
        if action == "contact":
            agent.door = Door.HTTP
        elif action == "remove":
            del self.agents[agent.agent_id]
        self.signs(agent, now)[action]()

    def signs(self, agent: Agent, now: Instant) -> dict[str, Callable[[], object]]:
        liveness, session, sequence = self.liveness, agent.session, agent.heartbeat_sequence
        return {
            "heartbeat": lambda: liveness.heartbeat(agent, session, sequence + 1, now),
            "birth": lambda: liveness.birth(agent, session + 1, now),
            "will": lambda: liveness.will(agent, session, now),
            "sign_off": lambda: liveness.sign_off(agent, session, now),
            "contact": lambda: liveness.contact(agent, now),
            "register": lambda: liveness.registered(agent, now),
            "remove": lambda: liveness.forget(agent),
        }

    def states(self) -> dict[str, tuple[State, Reason]]:
        return {agent_id: (agent.state, agent.reason) for agent_id, agent in self.agents.items()}


@settings(max_examples=examples(400), deadline=None)
@given(actions=actions, start=st.sampled_from([0.0, 1000.0, 1000.75]), limits=limits)
def test_the_wheel_agrees_with_a_look_at_every_agent(
    actions: list[tuple[str, Any]], start: float, limits: tuple[int, int]
) -> None:
    """After each action, and after each sweep, every agent has the state that the naive sweep gives it.

    That is so wherever one call ends: at its limit of looks, or of agents that it marks.
    """
    with patch.object(liveness, "LOOKS", limits[0]), patch.object(liveness, "LOSSES", limits[1]):
        _compare(actions, start)


def _compare(actions: list[tuple[str, Any]], start: float) -> None:
    wheel, naive = Side(naive=False), Side(naive=True)
    monotonic, wall, swept = start, 1_800_000_000.0, start
    for action, value in actions:
        if action == "wait":
            end = monotonic + value
            while monotonic < end:
                monotonic = min(end, monotonic + 1.0)
                wall += 1.0
                now = Instant(wall, monotonic)
                wheel.liveness.turn(wheel.agents, now)
                for side in (wheel, naive):
                    side.liveness.apply_wills(side.agents, now)
                if monotonic - swept >= 30.0:
                    swept = monotonic
                    told = [[(each.agent.number, each.after) for each in side.sweep(now)] for side in (wheel, naive)]
                    assert told[0] == told[1]
        elif action == "step":
            wall += value
        else:
            for side in (wheel, naive):
                side.act(action, value, Instant(wall, monotonic))
        assert wheel.states() == naive.states()


def _started(count: int) -> Side:
    side = Side(naive=False)
    for number in range(AGENTS + 1, count + 1):
        side.add(number, loaded=True)
    for door in Door:
        side.liveness.open_door(door, Instant(0.0, 0.0))
    return side


def test_agents_that_fall_due_in_one_second_are_looked_at_in_pieces() -> None:
    """At 45 s nobody has been heard of, so all of the fleet is looked at once more 90 s after the doors opened."""
    side = _started(10_000)
    for second in range(89):
        assert not side.liveness.turn(side.agents, Instant(second, second))
    for agent in side.agents.values():
        side.liveness.heartbeat(agent, 0, 1, Instant(88.5, 88.5))
    looks = [side.liveness.turn(side.agents, Instant(89.0, 89.0)) for _ in range(3)]
    assert looks == [True, True, False]
    assert not side.liveness.mark_stale(side.agents, Instant(178.0, 178.0))
    assert len(side.sweep(Instant(178.5, 178.5))) > 0


def test_a_fleet_that_falls_silent_is_marked_in_pieces() -> None:
    """What an outage of the network does to a fleet is written between the reports of others."""
    side, marked = _started(1_000), list[int]()
    now = Instant(100.0, 100.0)
    while True:
        marked.append(len(side.liveness.mark_stale(side.agents, now)))
        if not side.liveness.is_behind:
            break
    assert marked == [300, 300, 300, 100]
    assert {agent.state for agent in side.agents.values()} == {State.STALE, State.OFFLINE}  # one is ephemeral
