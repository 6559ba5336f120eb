"""A reading of both of the manager's clocks, passed to every rule as an argument."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Instant:
    """One reading of the manager's clocks.

    Args:
        wall: seconds since 1970; recorded, and compared with agents' timestamps.
        monotonic: seconds on a clock that never steps; liveness uses only this one.
    """

    wall: float
    monotonic: float
