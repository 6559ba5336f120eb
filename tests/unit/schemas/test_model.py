"""Times of the wire contract."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.model import iso, seconds_since_1970, utc


@pytest.mark.parametrize(
    ("epoch", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (datetime.max.replace(tzinfo=UTC).timestamp(), "9999-12-31T23:59:59.000Z"),
        (1e300, "9999-12-31T23:59:59.000Z"),
        (-1e300, "0001-01-01T00:00:00.000Z"),
        (float("-inf"), "0001-01-01T00:00:00.000Z"),
    ],
)
def test_a_moment_outside_the_calendar_becomes_its_first_or_last_second(epoch: float, text: str) -> None:
    """Every number of seconds has a text, because times that agents claim are shown."""
    assert iso(epoch) == text
    assert utc(epoch).isoformat(timespec="milliseconds") == text.replace("Z", "+00:00")


ZONES = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(st.datetimes(timezones=ZONES | st.just(UTC)))
def test_seconds_since_1970_are_those_of_the_standard_library(moment: datetime) -> None:
    """Of a moment in any zone, to the last digit."""
    assert seconds_since_1970(moment) == moment.timestamp()
