"""Quiet hours and the time of the digest, against a look at each minute of the local clock."""

from datetime import datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from manager.domain.notifications.judgement.quiet_hours import QuietHours, next_daily

MINUTES = st.integers(0, 1439)
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Pacific/Apia"])
TIMES = st.one_of(
    st.integers(1_700_000_000, 1_900_000_000),
    st.sampled_from([1_806_195_600, 1_824_944_400, 1_793_494_800]).flatmap(  # clocks change in Berlin
        lambda change: st.integers(change - 100_000, change + 100_000)
    ),
).map(float)


def local_minute(at: float, zone: str) -> int:
    local = datetime.fromtimestamp(at, ZoneInfo(zone))
    return local.hour * 60 + local.minute


def is_quiet(at: float, start: int, end: int, zone: str) -> bool:
    """Walk the clock's face from the start of the quiet hours to their end."""
    minute, now = start, local_minute(at, zone)
    while minute != end:
        if minute == now:
            return True
        minute = (minute + 1) % 1440
    return False


@given(TIMES, MINUTES, MINUTES, ZONES)
def test_the_end_of_quiet_hours_is_the_first_minute_that_is_not_quiet(
    at: float, start: int, end: int, zone: str
) -> None:
    """Also over midnight, and where the clocks change within them."""
    if start == end:
        return
    expected = at
    while is_quiet(expected, start, end, zone):
        expected += 60 - expected % 60
    quiet = QuietHours(start, end, zone)
    assert quiet.end_after(at) == expected
    assert quiet.includes(at) is (expected != at)


@given(TIMES, MINUTES, ZONES)
def test_the_digest_is_due_once_a_local_day(at: float, minute: int, zone: str) -> None:
    """Each digest follows within 23 to 25 hours, at its minute unless the clocks leave that minute out."""
    times = [at]
    for _ in range(4):
        times.append(next_daily(minute, zone, times[-1]))
    assert at < times[1] <= at + 25 * 3600
    for before, after in pairwise(times[1:]):
        first, second = (datetime.fromtimestamp(each, ZoneInfo(zone)).date() for each in (before, after))
        assert (second - first).days == 1
        assert 22.5 * 3600 <= after - before <= 25.5 * 3600
        assert local_minute(after, zone) == minute or abs(local_minute(after, zone) - minute) <= 60
