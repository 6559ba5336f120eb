"""Rate limit by sliding window, against counting by hand."""

from hypothesis import given
from hypothesis import strategies as st

from manager.api.middleware.rate_limits import SlidingWindow

_STEPS = st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 40)), max_size=60)


@given(_STEPS, st.integers(1, 5))
def test_no_window_of_a_minute_has_more_than_the_limit(steps: list[tuple[str, float]], limit: int) -> None:
    """A request passes exactly if fewer than the limit passed in the minute before it; each key by itself."""
    limits, passed, now = SlidingWindow(limit), {"a": [], "b": []}, 0.0  # type: ignore[var-annotated]
    for identity, pause in steps:
        now += pause
        recent = [at for at in passed[identity] if now - at < 60]
        wait = limits.wait(identity, now)
        assert (wait == 0) == (len(recent) < limit)
        if wait:
            assert wait == 60 - (now - recent[-limit])
        else:
            passed[identity].append(now)


@given(_STEPS)
def test_a_request_passes_after_the_returned_wait(steps: list[tuple[str, float]]) -> None:
    """After waiting for the returned time a request is allowed."""
    limits, now = SlidingWindow(2), 0.0
    for identity, pause in steps:
        now += pause
        wait = limits.wait(identity, now)
        if wait:
            now += wait + 1e-6
            assert limits.wait(identity, now) == 0


def test_memory_is_bounded() -> None:
    """Beyond the maximum of keys, the one idle longest is forgotten."""
    limits = SlidingWindow(1, max_keys=3)
    for number in range(10):
        assert limits.wait(str(number), 0.0) == 0
    assert len(limits) == 3
    assert limits.wait("9", 1.0) > 0
    assert limits.wait("0", 1.0) == 0
