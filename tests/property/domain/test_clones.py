"""Clones are told from whatever a single guard may do, against an oracle that looks at the whole past each time."""

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from manager.domain.agents.agent import Agent, Door, credential_of
from manager.domain.agents.clock_offset import ClockOffset
from manager.domain.agents.clones import WINDOW, Clone, CloneTracker
from manager.domain.agents.host import Host
from manager.domain.instant import Instant
from tests.support.examples import examples

AGENT = "ag-0000000000000001"
EPOCH = 1_800_000_000.0

signs = st.lists(
    st.tuples(
        st.sampled_from([0.5, 5.0, 60.0, 200.0, WINDOW - 1, WINDOW + 1]),  # seconds since the sign before
        st.integers(0, 3),  # which instance speaks
        st.booleans(),  # whether in a new session
    ),
    max_size=40,
)


class Observed:
    """A tracker of one agent, whose record is kept as its messages' handlers keep it."""

    def __init__(self) -> None:
        host = Host.of("web-1", "Debian 12", "x64", "1.0")
        self._agent = Agent(1, AGENT, "acme", host, credential_of(bytes(32)), None, Door.MQTT, EPOCH)
        self.clones = CloneTracker()

    def hear(self, session: int, started: float, now: Instant) -> Clone | None:
        """Pass a message; return a newly detected clone."""
        agent = self._agent
        told = self.clones.observe(agent, session, started, agent.heard_monotonic, now)
        agent.clock, agent.heard_monotonic = ClockOffset(session=session), now.monotonic
        return told


@dataclass
class Oracle:
    """Oracle: all speakers so far, with the times from and until which each spoke."""

    turns: list[tuple[int, float, float]] = field(default_factory=list)
    cloned: bool = False

    def heard_lately(self, instance: int, now: float) -> bool:
        return any(held == instance and now - until <= WINDOW for held, _, until in self.turns)

    def hear(self, instance: int, now: float) -> None:
        if self.turns and self.turns[-1][0] == instance:
            self.turns[-1] = (instance, self.turns[-1][1], now)
        else:
            self.turns.append((instance, now, now))
        self.look(now, may_begin=True)

    def look(self, now: float, *, may_begin: bool) -> None:
        """Find who came back within the last window: spoke after another had spoken, and was not away too long."""
        returned = set()
        for at, (instance, since, _) in enumerate(self.turns):
            earlier = [until for held, _, until in self.turns[:at] if held == instance]
            if earlier and since - max(earlier) <= WINDOW and now - since <= WINDOW:
                returned.add(instance)
        if not returned:
            self.cloned = False
        elif may_begin and len(returned) > 1:
            self.cloned = True


@settings(max_examples=examples(300))
@given(signs=signs)
def test_the_rule_agrees_with_the_whole_past(signs: list[tuple[float, int, bool]]) -> None:
    """Told once when two instances have each come back after another, and taken back once when none does any more."""
    observed, oracle = Observed(), Oracle()
    clones = observed.clones
    now, session = 0.0, 0
    for pause, speaker, new_session in signs:
        now += pause
        instant = Instant(EPOCH + now, now)
        before = oracle.cloned
        oracle.look(now, may_begin=False)
        assert [clone.agent_id for clone in clones.expire(instant)] == ([AGENT] if before and not oracle.cloned else [])
        # Copies of one directory can count up to the same session; one that nobody knows would pass for a clock set.
        known = new_session or not oracle.turns or oracle.heard_lately(speaker, now)
        instance = speaker if known else oracle.turns[-1][0]
        session += new_session
        before = oracle.cloned
        told = observed.hear(session, EPOCH - 1000.0 * instance, instant)
        oracle.hear(instance, now)
        assert (told is not None) == (oracle.cloned and not before)
        assert (AGENT in clones.known) == oracle.cloned
    if oracle.turns:
        instant = Instant(EPOCH + now + 2 * WINDOW, now + 2 * WINDOW)
        clones.expire(instant)
        observed.hear(session, EPOCH - 1000.0 * oracle.turns[-1][0], instant)
        assert len(clones) == 0  # an agent with one instance costs nothing beside its record


lives = st.lists(
    st.tuples(
        st.sampled_from(["flap", "restart", "beat", "suspend", "step"]),
        st.floats(0.1, 900.0),
        st.floats(-0.2, 0.2),  # between reading the clock and the uptime
    ),
    max_size=60,
)


@settings(max_examples=examples(100))
@given(life=lives)
def test_one_guard_is_no_clone_whatever_it_does(life: list[tuple[str, float, float]]) -> None:
    """It may flap, restart, be suspended, and have its clock set forward, in any order and as often as it likes."""
    observed, now, session, started = Observed(), 0.0, 1, EPOCH
    for deed, pause, jitter in life:
        now += pause
        if deed == "restart":
            started = EPOCH + now
        elif deed in ("suspend", "step"):
            started += pause  # the monotonic clock stood still, or the other one was set
        session += deed != "beat"
        assert observed.hear(session, started + jitter, Instant(EPOCH + now, now)) is None
    assert observed.clones.known == {}


def test_a_clock_that_is_set_within_a_session_is_no_other_instance() -> None:
    """The process goes on under its new start time, and nothing is kept of the former one."""
    observed = Observed()
    for number, started in enumerate((EPOCH, EPOCH + 100.0, EPOCH)):
        assert observed.hear(1, started, Instant(EPOCH + number, float(number))) is None
        assert len(observed.clones) == 0
