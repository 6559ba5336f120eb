"""Silent agents of a site, against a simulation that looks at all of them every ten seconds."""

from hypothesis import given
from hypothesis import strategies as st

from manager.domain.notifications.message import Change
from tests.support.judged import START, Events, JudgedChannel

TICK = 10.0
GAPS = (900.0, 3600.0, 14_400.0)
AGENTS = [f"srv-{number}" for number in range(12)]
STEPS = st.lists(
    st.tuples(
        st.sampled_from([0.0, 10.0, 60.0, 300.0, 600.0, 900.0, 3600.0]),
        st.lists(st.sampled_from(AGENTS), min_size=1, max_size=12, unique=True),
        st.booleans(),
    ),
    min_size=1,
    max_size=10,
)


def changes_of(steps: list[tuple[float, list[str], bool]]) -> list[tuple[float, str, bool]]:
    """Return time, agent and whether it falls silent, of at most two falls of each agent: none flaps."""
    at, silent, falls, changes = START, set[str](), dict.fromkeys(AGENTS, 0), []
    for pause, agents, falls_silent in steps:
        at += pause
        for agent in agents:
            if falls_silent and agent not in silent and falls[agent] < 2:
                falls[agent] += 1
                silent.add(agent)
                changes.append((at, agent, True))
            elif not falls_silent and agent in silent:
                silent.discard(agent)
                changes.append((at, agent, False))
    return changes


class Oracle:
    """The messages on one site, by a look at all agents every ten seconds and after each change."""

    def __init__(self) -> None:
        self.messages: list[tuple[float, Change]] = []
        self.silent: dict[str, float] = {}
        self.told: set[str] = set()
        self.peak, self.number, self.last = 0, 0, -1.0
        self.low: float | None = None

    def run(self, changes: list[tuple[float, str, bool]], until: float) -> list[tuple[float, Change]]:
        at = START
        while at <= until:
            self.look(at)
            for when, agent, falls in changes:
                if when == at:
                    self.change(at, agent, falls=falls)
                    self.look(at)
            at += TICK
        return self.messages

    def change(self, at: float, agent: str, *, falls: bool) -> None:
        if falls:
            self.silent[agent] = at
        else:
            del self.silent[agent]
            self.told.discard(agent)
        self.settle(at)

    def settle(self, at: float) -> None:
        """The end of an outage counts from the change that made it."""
        is_low = len(self.silent) <= self.peak // 10
        self.low = None if not is_low else at if self.low is None else self.low

    def look(self, at: float) -> None:
        if self.number and self.low is not None:
            if at >= self.low + 60:
                self.messages.append((at, Change.CLOSED))
                self.told, self.peak, self.low = set(self.silent), len(self.silent), None
                self.number, self.last = (1, at) if self.silent else (0, -1.0)
            return
        ripe = any(agent not in self.told and at >= since + 600 for agent, since in self.silent.items())
        if ripe and (not self.number or at >= self.last + GAPS[min(self.number, len(GAPS)) - 1]):
            self.messages.append((at, Change.UPDATED if self.number else Change.OPENED))
            self.told, self.peak = set(self.silent), max(self.peak, len(self.silent))
            self.number, self.last = self.number + 1, at
            self.settle(at)


@given(STEPS)
def test_a_site_is_told_as_one_group_that_opens_is_updated_and_closes(
    steps: list[tuple[float, list[str], bool]],
) -> None:
    """Opened when the first has been silent for ten minutes, with all that are; closed when nearly all are back."""
    changes = changes_of(steps)
    until = max((at for at, _, _ in changes), default=START) + 30_000
    events, channel = Events(), JudgedChannel()
    for at, agent, falls in changes:
        channel.take(events.make("agent_stale" if falls else "agent_online", at, agent, site="x"))
    channel.pass_until(until)
    found = [(at, message.change) for at, message in channel.told if message.change is not Change.DIGEST]
    assert found == Oracle().run(changes, until)
