"""Times on the command line."""

from datetime import UTC, datetime, timedelta

import pytest

from manager.cli.support.durations import ago, parse_days, parse_time, parse_timedelta, relative
from manager.cli.support.failures import CommandFailed, ExitCode

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("15m", 900), ("24h", 86_400), ("7d", 604_800), ("2w", 1_209_600), ("0s", 0)]
)
def test_a_duration_is_a_number_and_a_unit(text: str, seconds: int) -> None:
    """Seconds, minutes, hours, days and weeks."""
    assert parse_timedelta(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "15", "m", "-5m", "1.5h", "5 m", "5y", "9999999999s"])
def test_anything_else_is_wrong_usage(text: str) -> None:
    """The sentence shows how to write one."""
    with pytest.raises(CommandFailed, match="write 90s") as failure:
        parse_timedelta(text)
    assert failure.value.code is ExitCode.USAGE


@pytest.mark.parametrize(("text", "days"), [("1", 1), ("30", 30), ("30d", 30), ("2w", 14), ("48h", 2)])
def test_days_are_a_number_or_a_duration(text: str, days: int) -> None:
    """A number without a unit counts days."""
    assert parse_days(text, least=1, most=30) == days


@pytest.mark.parametrize("text", ["0", "0d", "31", "5w", "36h", "-1", "x", "", "²"])
def test_other_days_are_wrong_usage(text: str) -> None:
    """Too few, too many, or a part of a day."""
    with pytest.raises(CommandFailed, match="write") as failure:
        parse_days(text, least=1, most=30)
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


@pytest.mark.parametrize(
    ("iso", "said"),
    [
        (None, None),
        ("2026-01-31T15:59:59.000Z", "in 4 h"),
        ("2026-01-31T12:01:00.000Z", "in 1 min"),
        ("2026-02-07T12:00:00.000Z", "in 7 d"),
        ("2026-01-31T12:00:00.000Z", "0 s ago"),
        ("2026-01-31T11:00:00.000Z", "1 h ago"),
    ],
)
def test_a_time_to_come_is_said_in_its_largest_unit_rounded(iso: str | None, said: str | None) -> None:
    """A time to come is rounded to the nearest unit, a past one is the age."""
    assert relative(iso, NOW) == said
