"""How much one sender may send: messages and bytes a second, and for how many seconds unused ones add up."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Budget:
    """A rate and how far it adds up.

    Attributes:
        messages: A second.
        bytes: A second.
        burst: Seconds.
    """

    messages: float
    bytes: float
    burst: float


class TokenBucket:
    """What one sender has left of its budget; full at first. Times are monotonic seconds.

    Args:
        budget: how fast it fills.
        now: when it is full.
    """

    __slots__ = ("_budget", "at", "bytes", "messages")

    def __init__(self, budget: Budget, now: float) -> None:
        self._budget = budget
        self.messages = budget.messages * budget.burst
        self.bytes = budget.bytes * budget.burst
        self.at = now

    def try_consume(self, size: int, now: float) -> bool:
        """Pay for a message of so many bytes, if there is enough left for it; return whether there was."""
        self._fill(now)
        if self.messages < 1 or self.bytes < size:
            return False
        self.messages -= 1
        self.bytes -= size
        return True

    def consume(self, size: int, now: float) -> float:
        """Pay for a message in any case; return the seconds until the debt that this made is gone, 0 without one."""
        self._fill(now)
        self.messages -= 1
        self.bytes -= size
        budget = self._budget
        return max(0.0, -self.messages / budget.messages, -self.bytes / budget.bytes)

    def is_full(self, now: float) -> bool:
        """Return whether so much time has passed that it says nothing any more."""
        return now - self.at >= self._budget.burst

    def _fill(self, now: float) -> None:
        budget, elapsed = self._budget, now - self.at
        self.messages = min(self.messages + elapsed * budget.messages, budget.messages * budget.burst)
        self.bytes = min(self.bytes + elapsed * budget.bytes, budget.bytes * budget.burst)
        self.at = now
