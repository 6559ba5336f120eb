"""Steps of the wall clock, told from time that passes."""

from hypothesis import given
from hypothesis import strategies as st

from manager.domain.instant import STEP, ClockSteps, Instant


@given(
    st.lists(
        st.tuples(st.floats(0.001, 1000.0), st.one_of(st.just(0.0), st.floats(-1e6, 1e6))), min_size=1, max_size=30
    )
)
def test_the_steps_found_add_up_to_what_the_clock_was_set_by(readings: list[tuple[float, float]]) -> None:
    """However the clock is set, in large steps or many small ones, at most 2 s of it are not found."""
    steps = ClockSteps()
    wall = monotonic = 1000.0
    found = true = 0.0
    steps.observe(Instant(wall, monotonic))
    for passed, set_by in readings:
        monotonic += passed
        true += set_by
        wall += passed + set_by
        found += steps.observe(Instant(wall, monotonic))
        assert abs(found - true) <= STEP + 1e-3


def test_a_reference_of_the_same_boot_finds_a_step_while_nothing_ran() -> None:
    """With a stored reference the first reading can be a step; without one it cannot."""
    assert ClockSteps(500.0).observe(Instant(5000.0, 1000.0)) == 3500.0
    assert ClockSteps().observe(Instant(5000.0, 1000.0)) == 0.0
