"""Exponential backoff with full jitter, for all retries in the manager."""

import random
from collections.abc import Callable

_LONGEST_EXPONENT = 32
_RANDOM = random.SystemRandom()


class Backoff:
    """Counts consecutive failures and returns the delay before the next attempt.

    The delay after the n-th failure is uniform in 0 … min(cap, base x 2^(n-1)).

    Args:
        base: the maximum delay after the first failure, in seconds.
        cap: the maximum delay of all, in seconds.
        uniform: draws a number between two bounds.
    """

    def __init__(self, base: float, cap: float, uniform: Callable[[float, float], float] = _RANDOM.uniform) -> None:
        self._base = base
        self._cap = cap
        self._uniform = uniform
        self._failures = 0

    def next_delay(self) -> float:
        """Count one failure and return the seconds to wait."""
        longest = min(self._cap, self._base * 2.0 ** min(self._failures, _LONGEST_EXPONENT))
        self._failures += 1
        return self._uniform(0.0, longest)

    def reset(self) -> None:
        """Reset the count of failures after a success."""
        self._failures = 0
