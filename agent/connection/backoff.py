"""Exponential backoff with full jitter: spreads the reconnects of a fleet."""

import random
from collections.abc import Callable

_RANDOM = random.SystemRandom()


class Backoff:
    """Counts failures and returns the delay after each.

    The delay after the n-th failure is uniform in 0 … min(cap, base x 2^(n-1)).

    Args:
        base: The maximum delay after the first failure, in seconds.
        cap: The maximum delay of all, in seconds.
        uniform: Returns a random number between two bounds.
    """

    def __init__(self, base: float, cap: float, uniform: Callable[[float, float], float] = _RANDOM.uniform) -> None:
        self._base = base
        self._cap = cap
        self._uniform = uniform
        self._failures = 0

    def next(self) -> float:
        """Count one failure and return the seconds to wait."""
        ceiling = min(self._cap, self._base * 2.0 ** min(self._failures, 32))
        self._failures += 1
        return self._uniform(0.0, ceiling)

    def reset(self) -> None:
        """Reset the count after a connection that lasted."""
        self._failures = 0
