"""Durations and times of the command line: parsing and display."""

from datetime import UTC, datetime, timedelta

from manager.cli.support.failures import CommandFailed, ExitCode
from schemas.durations import is_duration, parse_duration
from schemas.errors import DurationError

_DAY = 86_400
_SHORT = ((_DAY, "d"), (3600, "h"), (60, "min"), (1, "s"))


def parse_timedelta(text: str, *, least: str | None = None, most: str | None = None) -> timedelta:
    """Parse a duration such as ``90s``, ``15m``, ``24h`` or ``7d``.

    Args:
        text: the duration.
        least: the shortest one, written in the same way.
        most: the longest one, written in the same way.

    Raises:
        CommandFailed: the text is not a duration, or one that is too short or too long.
    """
    try:
        duration = timedelta(seconds=parse_duration(text))
    except DurationError as error:
        raise CommandFailed(ExitCode.USAGE, str(error)) from error
    except OverflowError as error:
        raise CommandFailed(ExitCode.USAGE, f"{text} is too long") from error
    if least is not None and duration < parse_timedelta(least):
        raise CommandFailed(ExitCode.USAGE, f"{text} is too short: write at least {least}")
    if most is not None and duration > parse_timedelta(most):
        raise CommandFailed(ExitCode.USAGE, f"{text} is too long: write at most {most}")
    return duration


def parse_days(text: str, *, least: int, most: int) -> int:
    """Parse a number of days, ``30``, or a duration of whole days, ``30d`` or ``2w``.

    Args:
        text: the number or duration.
        least: the shortest one, in days.
        most: the longest one, in days.

    Raises:
        CommandFailed: the text is neither, or too short or too long.
    """
    written = f"{text}d" if text.isdecimal() else text
    seconds = int(parse_timedelta(written, least=f"{least}d", most=f"{most}d").total_seconds())
    if seconds % _DAY:
        raise CommandFailed(ExitCode.USAGE, f"{text} is not a number of days: write {least}d to {most}d")
    return seconds // _DAY


def parse_time(text: str, now: datetime) -> str:
    """Parse a time in ISO 8601, or a duration before now (``15m``); return it in ISO 8601, UTC.

    Raises:
        CommandFailed: the text is neither.
    """
    try:
        time = now - parse_timedelta(text) if is_duration(text) else datetime.fromisoformat(text)
        return time.astimezone(UTC).isoformat()
    except (ValueError, OverflowError) as error:
        sentence = f"{text!r} is no time: write 15m, 24h, 7d or 2026-01-31T12:00:00Z"
        raise CommandFailed(ExitCode.USAGE, sentence) from error


def ago(iso: str | None, now: datetime) -> str:
    """Format the age of a time of the API, such as ``12 s ago``; ``never`` for None."""
    if iso is None:
        return "never"
    seconds = max(0, int((now - datetime.fromisoformat(iso)).total_seconds()))
    size, unit = next(((size, unit) for size, unit in _SHORT if seconds >= size), (1, "s"))
    return f"{seconds // size} {unit} ago"


def relative(iso: str | None, now: datetime) -> str | None:
    """Format a time of the API from now, such as ``in 4 h`` or ``12 s ago``; None for None."""
    if iso is None:
        return None
    seconds = round((datetime.fromisoformat(iso) - now).total_seconds())
    if seconds <= 0:
        return ago(iso, now)
    size, unit = next((size, unit) for size, unit in _SHORT if seconds >= size)
    return f"in {round(seconds / size)} {unit}"
