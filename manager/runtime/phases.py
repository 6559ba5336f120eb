"""Durations of the phases of a start, for the log."""

from collections.abc import Callable


class Phases:
    """Measures phases that follow on each other; the first one begins now.

    Args:
        clock: seconds on a monotonic clock.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began = clock()
        self.seconds: dict[str, float] = {}
        """The durations in seconds, in the order of the phases."""

    def end(self, name: str) -> None:
        """End a phase; the next one begins."""
        now = self._clock()
        self.seconds[name] = round(now - self._began, 3)
        self._began = now
