"""A moment as the manager knows it: two clocks read together, handed to every rule as an argument."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Instant:
    """One reading of the manager's clocks.

    Args:
        wall: seconds since 1970; stands in records and is compared with what agents say of time.
        monotonic: seconds on a clock that never steps; only it decides liveness.
    """

    wall: float
    monotonic: float
