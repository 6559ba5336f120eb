"""Quiet hours: the part of each local day in which people are told only of what cannot wait."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo

MINUTES = 24 * 60
"""Minutes of a day."""

_MINUTE = 60.0


@lru_cache(maxsize=64)
def zone_named(name: str) -> tzinfo:
    """Return the time zone of an IANA name.

    Raises:
        ValueError: there is no such zone.
    """
    try:
        return UTC if name == "UTC" else ZoneInfo(name)
    except (LookupError, OSError, ValueError):
        raise ValueError(f"{name!r} is no time zone: give an IANA name such as Europe/Berlin, or UTC") from None


@dataclass(frozen=True, slots=True)
class QuietHours:
    """A part of each local day, which may run over midnight.

    Args:
        start: its first minute, counted from local midnight.
        end: the first minute after it; equal to `start` the whole day is quiet.
        zone: the IANA name of the zone.
    """

    start: int
    end: int
    zone: str = "UTC"

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: a minute is outside the day, both are the same, or the zone is unknown.
        """
        if not (0 <= self.start < MINUTES and 0 <= self.end < MINUTES) or self.start == self.end:
            raise ValueError(f"quiet hours are two different minutes of the day, from 0 to {MINUTES - 1}")
        zone_named(self.zone)

    def includes(self, at: float) -> bool:
        """Return whether a time (seconds since 1970) is within the quiet hours."""
        minute = _local_minute(at, zone_named(self.zone))
        if self.start < self.end:
            return self.start <= minute < self.end
        return minute >= self.start or minute < self.end

    def end_after(self, at: float) -> float:
        """Return the end of the quiet hours that include a time; the time itself if none do."""
        if not self.includes(at):
            return at
        zone = zone_named(self.zone)
        whole = at - at % _MINUTE
        left = (self.end - _local_minute(at, zone)) % MINUTES
        end = whole + left * _MINUTE
        if _offset(whole, zone) == _offset(end, zone):
            return end
        end = whole  # the clocks change before the end
        while self.includes(end):
            end += _MINUTE
        return end


def next_daily(minute: int, zone: str, after: float) -> float:
    """Return the first time after `after` at which the local clock shows a minute of the day, or has passed it."""
    local_zone = zone_named(zone)
    day = datetime.fromtimestamp(after, local_zone).replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    while True:
        at = day.replace(hour=minute // 60, minute=minute % 60).timestamp()
        if at > after:
            return at
        day = day + timedelta(days=1)


def _local_minute(at: float, zone: tzinfo) -> int:
    local = datetime.fromtimestamp(at, zone)
    return local.hour * 60 + local.minute


def _offset(at: float, zone: tzinfo) -> timedelta | None:
    return datetime.fromtimestamp(at, zone).utcoffset()
