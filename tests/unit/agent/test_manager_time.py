"""The manager's time as its messages show it, against what it really is."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from agent.clock import Clock
from agent.manager_time import ManagerTime

TRUE = 1_700_000_000.0


@given(
    off=st.floats(-6 * 3600, 6 * 3600),
    messages=st.lists(st.tuples(st.floats(0, 1e5), st.floats(0, 3 * 3600)), min_size=1, max_size=20),
    later=st.floats(0, 1e5),
)
def test_it_is_never_ahead_and_at_most_the_shortest_delay_behind(
    off: float, messages: list[tuple[float, float]], later: float
) -> None:
    """Whatever the host's wall clock says, and however late most messages come."""
    monotonic = 0.0
    manager_time = ManagerTime(Clock(lambda: TRUE + off + monotonic, lambda: monotonic))
    for at, delay in sorted(messages):
        monotonic = at
        manager_time.observe(datetime.fromtimestamp(TRUE + at - delay, UTC))
    monotonic += later
    behind = TRUE + monotonic - manager_time.now()
    shortest = min(delay for _, delay in messages)
    assert -0.001 <= behind <= shortest + 0.001


def test_before_the_first_message_the_hosts_clock_counts() -> None:
    """Nothing better is known, and `known` says so."""
    manager_time = ManagerTime(Clock(lambda: 5.0, lambda: 1.0))
    manager_time.observe(None)
    assert (manager_time.known, manager_time.now()) == (None, 5.0)


def test_a_clock_of_the_manager_that_was_set_back_is_followed() -> None:
    """A greater number sent earlier shows it; a repeated or an older message does not."""
    manager_time = ManagerTime(Clock(lambda: TRUE, lambda: 0.0))
    manager_time.observe(datetime.fromtimestamp(TRUE + 86_400, UTC), "policy", 4)
    for series, number in (("policy", 4), ("policy", 3), ("blocklist", 9)):
        manager_time.observe(datetime.fromtimestamp(TRUE, UTC), series, number)
        assert manager_time.now() == TRUE + 86_400
    manager_time.observe(datetime.fromtimestamp(TRUE + 86_400, UTC), "policy", 4)
    manager_time.observe(datetime.fromtimestamp(TRUE, UTC), "policy", 5)
    assert manager_time.now() == TRUE
