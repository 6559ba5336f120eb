"""Times of the wire contract."""

from datetime import UTC, datetime

import pytest

from schemas.model import iso, utc


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
