"""Token bucket for one sender: messages and bytes a second, with a burst."""

from dataclasses import dataclass
from itertools import islice


@dataclass(frozen=True, slots=True)
class Budget:
    """Rate and burst of a sender.

    Attributes:
        messages: messages a second.
        bytes: bytes a second.
        burst: seconds for which unused budget adds up.
    """

    messages: float
    bytes: float
    burst: float


_LOOKED_AT = 2_000
_PARTS = 8


class TokenBucket:
    """Remaining budget of one sender; full at first. Times are monotonic seconds.

    Args:
        budget: rate and burst.
        now: time at which it is full.
    """

    __slots__ = ("_budget", "at", "bytes", "messages")

    def __init__(self, budget: Budget, now: float) -> None:
        self._budget = budget
        self.messages = budget.messages * budget.burst
        self.bytes = budget.bytes * budget.burst
        self.at = now

    def try_consume(self, size: int, now: float, messages: int = 1) -> bool:
        """Consume messages of this total size if the budget suffices; return whether it did.

        More messages than a full budget has are consumed from a full one, which is in debt then.
        """
        if now != self.at:
            self._fill(now)
        if self.bytes < size or self.messages < messages:
            most = self._budget.messages * self._budget.burst
            if self.bytes < size or messages <= most or self.messages < most:
                return False
        self.messages -= messages
        self.bytes -= size
        return True

    def consume(self, size: int, now: float, messages: int = 1) -> float:
        """Consume messages of this total size unconditionally; return the seconds until the debt is paid, or 0."""
        self._fill(now)
        self.messages -= messages
        self.bytes -= size
        budget = self._budget
        return max(0.0, -self.messages / budget.messages, -self.bytes / budget.bytes)

    def wait(self, now: float) -> float:
        """Return the seconds until the next message is within the budget; 0 if it is now."""
        self._fill(now)
        return max(0.0, (1 - self.messages) / self._budget.messages, -self.bytes / self._budget.bytes)

    def is_full(self, now: float) -> bool:
        """Return whether the bucket has refilled and can be dropped."""
        self._fill(now)
        budget = self._budget
        return self.messages >= budget.messages * budget.burst and self.bytes >= budget.bytes * budget.burst

    def _fill(self, now: float) -> None:
        if now == self.at:
            return
        budget, elapsed = self._budget, now - self.at
        self.messages = min(self.messages + elapsed * budget.messages, budget.messages * budget.burst)
        self.bytes = min(self.bytes + elapsed * budget.bytes, budget.bytes * budget.burst)
        self.at = now


def drop_full(buckets: dict[str, TokenBucket], now: float) -> None:
    """Drop the refilled ones of the first buckets, an eighth of all or 2,000; put the others at the end."""
    for sender in list(islice(buckets, max(_LOOKED_AT, len(buckets) // _PARTS))):
        bucket = buckets.pop(sender)
        if not bucket.is_full(now):
            buckets[sender] = bucket
