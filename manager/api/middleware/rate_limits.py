"""Rate limits by key: a sliding window of requests, and token buckets for reports. Memory is bounded."""

import math
from collections import OrderedDict, deque

from manager.api.errors import TooManyRequests
from manager.domain.budget import Budget, TokenBucket

MINUTE = 60.0
_MAX_KEYS = 100_000


class SlidingWindow:
    """Rate limit by key: at most `limit` requests within any `window` seconds.

    Beyond `max_keys`, the key that was idle longest is dropped.

    Args:
        limit: requests of one key within `window`.
        window: seconds.
        max_keys: keys that are remembered.
    """

    def __init__(self, limit: int, window: float = MINUTE, max_keys: int = _MAX_KEYS) -> None:
        self.limit = limit
        self._window = window
        self._max_keys = max_keys
        self._recent: OrderedDict[str, deque[float]] = OrderedDict()

    def __len__(self) -> int:
        """Return the number of remembered keys."""
        return len(self._recent)

    def use_limit(self, limit: int) -> None:
        """Allow another number of requests from now on."""
        self.limit = limit
        self._recent.clear()

    def wait(self, key: str, now: float) -> float:
        """Count a request and return 0 if it is allowed, else return the seconds until the next one is.

        A refused request does not count, so waiting always helps. `now` is monotonic.
        """
        wait = self.remaining(key, now)
        if wait:
            return wait
        recent = self._recent.get(key)
        if recent is None:
            recent = self._recent[key] = deque(maxlen=self.limit)
            if len(self._recent) > self._max_keys:
                self._recent.popitem(last=False)
        recent.append(now)
        self._recent.move_to_end(key)
        return 0.0

    def remaining(self, key: str, now: float) -> float:
        """Return the seconds until the next request is allowed, 0 if it is; nothing is counted."""
        recent = self._recent.get(key)
        if recent is None or len(recent) < self.limit:
            return 0.0
        return max(0.0, self._window - (now - recent[0]))


class ReportBudgets:
    """Token buckets of the agents' reports over HTTP; full ones are dropped, beyond `max_keys` the oldest one.

    Args:
        budget: reports and bytes a second, and the burst.
        max_keys: agents that are remembered.
    """

    def __init__(self, budget: Budget, max_keys: int = _MAX_KEYS) -> None:
        self._budget = budget
        self._max_keys = max_keys
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def __len__(self) -> int:
        """Return the number of remembered agents."""
        return len(self._buckets)

    def use_budget(self, budget: Budget) -> None:
        """Give each agent another budget, full at first."""
        self._budget = budget
        self._buckets.clear()

    def wait(self, agent_id: str, now: float) -> float:
        """Return the seconds until the agent may send its next report; 0 if it may now."""
        bucket = self._buckets.get(agent_id)
        return 0.0 if bucket is None else bucket.wait(now)

    def charge(self, agent_id: str, reports: int, size: int, now: float) -> None:
        """Charge an agent for reports of `size` bytes together."""
        bucket = self._buckets.get(agent_id)
        if bucket is None:
            bucket = self._buckets[agent_id] = TokenBucket(self._budget, now)
        bucket.consume(size, now, reports)
        self._buckets.move_to_end(agent_id)
        oldest = next(iter(self._buckets))
        if len(self._buckets) > self._max_keys or self._buckets[oldest].is_full(now):
            del self._buckets[oldest]

    def refusal(self, wait: float) -> TooManyRequests:
        """Return the error for an agent that must wait."""
        budget = self._budget
        burst = round(budget.messages * budget.burst)
        seconds = math.ceil(wait)
        sentence = (
            f"at most {budget.messages:g} reports a second are taken, {burst} in one burst; try again in {seconds} s"
        )
        return TooManyRequests(sentence, round(budget.messages), seconds)
