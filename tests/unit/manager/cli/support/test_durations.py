"""Times on the command line."""

from datetime import UTC, datetime, timedelta

import pytest

from manager.cli.support.durations import ago, parse_time, parse_timedelta
from manager.cli.support.failures import CommandFailed, ExitCode

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("15m", 900), ("24h", 86_400), ("7d", 604_800), ("0s", 0)])
def test_a_duration_is_a_number_and_a_unit(text: str, seconds: int) -> None:
    """Seconds, minutes, hours and days."""
    assert parse_timedelta(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "15", "m", "-5m", "1.5h", "5 m", "5w", "9999999s"])
def test_anything_else_is_wrong_usage(text: str) -> None:
    """The sentence shows how to write one."""
    with pytest.raises(CommandFailed, match="write 90s") as failure:
        parse_timedelta(text)
    assert failure.value.code is ExitCode.USAGE


def test_a_moment_is_a_time_or_how_long_ago() -> None:
    """Both ways of saying it give the same moment, in UTC."""
    assert parse_time("1h", NOW) == parse_time("2026-01-31T12:00:00+01:00", NOW) == "2026-01-31T11:00:00+00:00"
    with pytest.raises(CommandFailed, match="is no time"):
        parse_time("yesterday", NOW)


@pytest.mark.parametrize(
    ("iso", "said"),
    [
        (None, "never"),
        ("2026-01-31T12:00:00.000Z", "0 s ago"),
        ("2026-01-31T11:59:01.000Z", "59 s ago"),
        ("2026-01-31T11:59:00.000Z", "1 min ago"),
        ("2026-01-31T10:00:01.000Z", "1 h ago"),
        ("2026-01-29T12:00:00.000Z", "2 d ago"),
        ("2026-01-31T12:00:05.000Z", "0 s ago"),
    ],
)
def test_how_long_ago_is_said_in_its_largest_unit(iso: str | None, said: str) -> None:
    """Whole units, rounded down; a time in the future is shown as now."""
    assert ago(iso, NOW) == said
