"""Flapping against an oracle that reads the whole history at each fall."""

from hypothesis import given
from hypothesis import strategies as st

from manager.domain.notifications.judgement.flapping import AGAIN, FALLS, STABLE, WINDOW, Flapping

HOUR = 3600.0
STEPS = st.lists(
    st.tuples(
        st.sampled_from([1.0, 600.0, HOUR - 1, HOUR, HOUR + 1, 2 * HOUR, 3 * HOUR, 6 * HOUR]),
        st.sampled_from(["a", "a", "b"]),
        st.sampled_from(["fell", "fell", "rose"]),
    ),
    max_size=30,
)
REPEATS = st.sampled_from([1, 1, 4])
"""The times that the steps are taken, so that some agents flap for more than a day."""


def oracle(history: list[tuple[float, str]]) -> tuple[list[float], float | None]:
    """Return the times at which one agent began to flap, and until when it does after its last change."""
    began: list[float] = []
    counted: list[float] = []
    until: float | None = None
    for at, change in history:
        if until is not None and at < until:
            until = at + STABLE
            if change == "fell" and at - began[-1] >= AGAIN:
                began.append(at)
            continue
        if until is not None:
            until, counted = None, []
        if change == "fell":
            counted = [each for each in counted if at - each < WINDOW] + [at]
            if len(counted) >= FALLS:
                began.append(at)
                until = at + STABLE
    return began, until


@given(STEPS, REPEATS)
def test_an_agent_flaps_from_its_third_fall_in_six_hours_until_an_hour_without_a_change(
    steps: list[tuple[float, str, str]], repeats: int
) -> None:
    """It is said once to begin to flap, and again after a day of it; agents do not mix."""
    flapping, now = Flapping(), 1000.0
    histories: dict[str, list[tuple[float, str]]] = {"a": [], "b": []}
    began: dict[str, list[float]] = {"a": [], "b": []}
    for pause, agent, change in steps * repeats:
        now += pause
        histories[agent].append((now, change))
        if change == "rose":
            flapping.rose(agent, now)
        elif flapping.fell(agent, now):
            began[agent].append(now)
        for each, history in histories.items():
            expected, until = oracle(history)
            assert began[each] == expected
            assert flapping.until(each, now) == (until if until is not None and now < until else None)
