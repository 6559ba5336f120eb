"""An agent's statement is looked at closely only where it may bring a response further, against a list of all waits."""

from hypothesis import given, settings
from hypothesis import strategies as st

from manager.domain.response.progress import Medium, ProgressTracker
from tests.support.examples import examples

AGENTS = ("ag-1", "ag-2")
INCIDENTS = ("inc-1", "inc-2", "inc-3")
MOST = 2

numbers = st.integers(0, 3)
media: st.SearchStrategy[Medium] = st.sampled_from(["policy", "blocklist"])
steps = st.lists(
    st.one_of(
        st.tuples(st.just("track"), st.sampled_from(INCIDENTS), st.sets(st.sampled_from(AGENTS)), media, numbers),
        st.tuples(st.just("applied"), st.sampled_from(AGENTS), st.none(), media, numbers),
        st.tuples(st.just("stop"), st.sampled_from(INCIDENTS), st.none(), media, numbers),
        st.tuples(st.just("forget"), st.sampled_from(AGENTS), st.none(), media, numbers),
    ),
    max_size=30,
)


class Waits:
    """All waits as a plain list of incident, agent, medium and number, and the targets of each tracked incident."""

    def __init__(self) -> None:
        self.targets: dict[str, set[str]] = {}
        self.waits: list[tuple[str, str, Medium, int]] = []

    def take(self, deed: str, name: str, agents: set[str] | None, medium: Medium, number: int) -> None:
        if deed == "track":
            targets = self.targets.setdefault(name, set())
            self.waits += [(name, agent, medium, number) for agent in (agents or set()) - targets]
            targets |= agents or set()
            if len(self.targets) > MOST:
                self.stop(next(iter(self.targets)))
        elif deed == "applied":
            self.waits = [each for each in self.waits if (each[1], each[2]) != (name, medium) or each[3] > number]
        elif deed == "stop":
            self.stop(name)
        else:
            for incident, agent, _, _ in self.waits:
                if agent == name:
                    self.targets[incident].discard(name)
            self.waits = [each for each in self.waits if each[1] != name]

    def stop(self, incident: str) -> None:
        self.targets.pop(incident, None)
        self.waits = [each for each in self.waits if each[0] != incident]

    def may_reach(self, agent: str, stated: dict[Medium, int]) -> bool:
        return any(held == agent and needed <= stated[medium] for _, held, medium, needed in self.waits)


@settings(max_examples=examples(200))
@given(taken=steps)
def test_a_statement_may_reach_what_is_awaited_with_its_numbers_or_lower_ones(
    taken: list[tuple[str, str, set[str] | None, Medium, int]],
) -> None:
    """Whatever is tracked, applied, stopped and forgotten, in any order."""
    tracker, waits = ProgressTracker(MOST), Waits()
    for deed, name, agents, medium, number in taken:
        match deed:
            case "track":
                tracker.track(name, agents or (), medium=medium, number=number, reported_at=0.0, published_at=0.0)
            case "applied":
                tracker.applied(name, medium, number, 1.0)
            case "stop":
                tracker.stop(name)
            case _:
                tracker.forget_agent(name)
        waits.take(deed, name, agents, medium, number)
        for agent in AGENTS:
            for policy in range(4):
                for sequence in range(4):
                    expected = waits.may_reach(agent, {"policy": policy, "blocklist": sequence})
                    assert tracker.may_reach(agent, policy, sequence) == expected
