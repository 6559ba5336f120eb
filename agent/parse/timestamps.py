"""Converts the time stamps of log headers to epoch seconds."""

from datetime import UTC, datetime, tzinfo

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

AHEAD = 7 * 86_400.0
"""Seconds that a time stamp without a year may be ahead of now, in case a clock was set back."""

_YEARS_BACK = 8
"""The number of years searched for the year of a time stamp: two 29ths of February are at most eight years apart."""

_CACHED_FOR = 600.0
_UTC_NAMES = frozenset({"UTC", "GMT", "Z"})


class TimestampParser:
    """Parses time stamps; one without a zone is in the host's zone.

    The last minute is cached, because a log has many lines of one minute.

    Args:
        zone: The host's zone.
    """

    def __init__(self, zone: tzinfo) -> None:
        self._zone = zone
        self._minute = ("", "", "", "")
        self._minute_at: float | None = None
        self._minute_now = 0.0

    def traditional(self, month: str, day: str, clock: str, year: str | None, now: float) -> float | None:
        """Return the epoch seconds of ``Nov 22 10:00:01[.123456]``; None if there is no such time.

        The year is the latest one in which the stamp is at most `AHEAD` later than `now`. In an hour that a clock
        change repeats, the time closer to `now` is returned.
        """
        minute = (month, day, clock[:5], year or "")
        if minute != self._minute or abs(now - self._minute_now) > _CACHED_FOR:
            self._minute, self._minute_now = minute, now
            self._minute_at = self._begin_of_minute(month, int(day), clock, year, now)
        if self._minute_at is None:
            return None
        seconds = float(clock[6:].replace(",", "."))
        return self._minute_at + seconds if seconds <= 60 else None  # noqa: PLR2004 -- 60 is a leap second

    def iso(self, text: str) -> float | None:
        """Return the epoch seconds of an RFC 3339 or ISO 8601 stamp; None if there is no such time."""
        try:
            moment = datetime.fromisoformat(text)
            return (moment if moment.tzinfo else moment.replace(tzinfo=self._zone)).timestamp()
        except (ValueError, OverflowError, OSError):
            return None

    def with_zone_name(self, text: str, zone_name: str) -> float | None:
        """Return the epoch seconds of ``2026-11-22 10:00:01 UTC``, the format of ``journalctl -o short-full``.

        UTC and numeric offsets are exact. Any other zone name means the host's zone: journalctl prints no other.
        """
        if zone_name in _UTC_NAMES:
            return self.iso(f"{text}Z")
        return self.iso(text + zone_name) if zone_name[0] in "+-" else self.iso(text)

    def _begin_of_minute(self, month: str, day: int, clock: str, year: str | None, now: float) -> float | None:
        this_year = datetime.fromtimestamp(now, UTC).year
        years = (int(year),) if year else range(this_year + 1, this_year - _YEARS_BACK - 1, -1)
        for candidate in years:
            moments = self._moments(candidate, month, day, clock)
            allowed = moments if year else [at for at in moments if at <= now + AHEAD]
            if allowed:
                return min(allowed, key=lambda at: abs(at - now))
        return None

    def _moments(self, year: int, month: str, day: int, clock: str) -> list[float]:
        found: list[float] = []
        for fold in (0, 1):
            try:
                moment = datetime(
                    year, MONTHS.index(month) + 1, day, int(clock[:2]), int(clock[3:5]), tzinfo=self._zone, fold=fold
                )
                found.append(moment.timestamp())
            except (ValueError, OverflowError):  # 29 February exists in some years only
                continue
        return found
