"""Readings of the manager's clocks, passed to every rule as an argument, and steps of the wall clock."""

from dataclasses import dataclass

STEP = 2.0
"""Seconds by which wall and monotonic clock may diverge before the wall clock counts as stepped."""


@dataclass(frozen=True, slots=True)
class Instant:
    """One reading of the manager's clocks.

    Args:
        wall: seconds since 1970; recorded, and compared with agents' timestamps.
        monotonic: seconds on a clock that never steps; liveness uses only this one.
    """

    wall: float
    monotonic: float


class ClockSteps:
    """Detects steps of the wall clock by comparing it with the monotonic clock.

    Args:
        reference: wall minus monotonic time, from a reading of the same boot; None takes that of the first reading.
    """

    def __init__(self, reference: float | None = None) -> None:
        self.reference = reference

    def observe(self, now: Instant) -> float:
        """Return the seconds by which the wall clock has stepped since the last step, 0.0 if it has not."""
        difference = now.wall - now.monotonic
        if self.reference is None:
            self.reference = difference
        step = difference - self.reference
        if abs(step) <= STEP:
            return 0.0
        self.reference = difference
        return step
