"""Event time: the smallest offset of the last period, and clocks that drift or step."""

import pytest

from manager.domain.agents.clock_offset import PERIOD, ClockOffset

NOW = 1_800_000_000.0
DAY = 86_400.0


def heartbeats(offset: ClockOffset, start: float, seconds: float, *, loss: float = 0.0, late: float = 0.0) -> float:
    """Let an agent send a heartbeat every 30 s; its clock loses `loss` seconds a second. Return the end."""
    at = start
    while at < start + seconds:
        at += 30.0
        elapsed = (at - NOW) * (1 - loss)
        offset.observe(at + late, NOW + elapsed, elapsed, 1, fresh=True)
    return at


@pytest.mark.parametrize("loss", [50e-6, -50e-6, 500e-6])
def test_a_clock_that_drifts_is_followed(loss: float) -> None:
    """A guard whose clock loses or gains 50 ppm is not late after 100 days: its event times stay right."""
    offset = ClockOffset()
    heartbeats(offset, NOW, 3 * PERIOD, loss=loss)
    start = NOW + 100 * DAY
    end = heartbeats(offset, start, 3 * PERIOD, loss=loss)
    timestamp = NOW + (end - NOW) * (1 - loss)
    event_time, known = offset.event_time(timestamp, end + 1000.0)
    assert known
    assert event_time == pytest.approx(end, abs=2 * PERIOD * abs(loss) + 0.001)


def test_one_slow_hour_does_not_raise_the_offset_before_the_period_ends() -> None:
    """Heartbeats delayed for less than a period do not move event times; the next fast one is exact again."""
    offset = ClockOffset()
    end = heartbeats(offset, NOW, 2 * PERIOD)
    end = heartbeats(offset, end, PERIOD - 60.0, late=20.0)
    assert offset.seconds == pytest.approx(0.0)
    end = heartbeats(offset, end, 3 * PERIOD, late=20.0)
    assert offset.seconds == pytest.approx(20.0)
    heartbeats(offset, end, 30.0)
    assert offset.seconds == pytest.approx(0.0)


def test_an_offset_from_the_store_ages_from_the_first_heartbeat_on() -> None:
    """After a restart the stored offset holds for one period; then it follows the heartbeats since."""
    offset = ClockOffset(0.0, NOW, 1)
    start = NOW + DAY
    end = heartbeats(offset, start, PERIOD - 60.0, late=3600.0)
    assert offset.seconds == 0.0
    heartbeats(offset, end, 120.0, late=3600.0)
    assert offset.seconds == pytest.approx(3600.0)


def test_a_shift_moves_the_period_too() -> None:
    """After a step of the manager's clock the offset is right at once, and no old measurement comes back."""
    offset = ClockOffset()
    heartbeats(offset, NOW, 600.0)
    offset.shift(3600.0)
    assert offset.event_time(NOW + 600.0, NOW + 9000.0) == (NOW + 4200.0, True)
    for step in range(100):
        at = NOW + 600.0 + 30 * step
        offset.observe(at + 3600.0, at, at - NOW, 1, fresh=True)
        assert offset.seconds == pytest.approx(3600.0)
