"""Durations as people write them: a whole number and a unit, such as ``90s``, ``15m``, ``24h``, ``7d`` or ``2w``."""

import math
import re

from schemas.errors import DurationError

EXAMPLES = "90s, 15m, 24h or 7d"

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DURATION = re.compile(r"([0-9]{1,9})([smhdw])")


def is_duration(text: str) -> bool:
    """Return whether a text is a number with a unit."""
    return _DURATION.fullmatch(text) is not None


def parse_duration(text: str) -> int:
    """Return a duration in seconds.

    Raises:
        DurationError: the text is no whole number of at most six digits with a unit.
    """
    found = _DURATION.fullmatch(text)
    if found is None:
        raise DurationError(f"{text!r} is no duration: write {EXAMPLES}")
    return int(found[1]) * _UNITS[found[2]]


def parse_seconds(value: object) -> object:
    """Return a setting's value in seconds: a duration, or a number without a unit; other types are left as they are.

    Raises:
        DurationError: a text is neither; the error does not quote it.
    """
    if not isinstance(value, str):
        return value
    if is_duration(value):
        return parse_duration(value)
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise DurationError(f"it is no duration: write {EXAMPLES}, or a number of seconds")
    return number
