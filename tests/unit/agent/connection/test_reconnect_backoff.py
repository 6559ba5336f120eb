"""How long a guard waits between attempts."""

from agent.connection.reconnect_loop import Backoff


def test_the_longest_wait_doubles_up_to_the_cap() -> None:
    """Delays are drawn from 0 to a ceiling that doubles with each failure and stops at the cap."""
    ceilings: list[tuple[float, float]] = []

    def highest(low: float, high: float) -> float:
        ceilings.append((low, high))
        return high

    backoff = Backoff(base=1, cap=60, uniform=highest)
    assert [backoff.next_delay() for _ in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert {low for low, _ in ceilings} == {0}
    backoff.reset()
    assert backoff.next_delay() == 1


def test_a_guard_that_fails_for_years_still_waits_the_cap() -> None:
    """No number of failures overflows the ceiling."""
    backoff = Backoff(base=1, cap=60, uniform=lambda _low, high: high)
    assert {backoff.next_delay() for _ in range(5_000)} <= {1, 2, 4, 8, 16, 32, 60}
