"""How often each identity may ask: never more than its limit within any minute."""

from collections import OrderedDict, deque

MINUTE = 60.0
_MOST_KEPT = 100_000


class RateLimit:
    """Counts requests by identity, over a window that slides.

    Memory is bounded: beyond so many identities, the one that was silent longest is forgotten.

    Args:
        limit: requests that one identity may make within `window` seconds.
        window: seconds.
        most_kept: identities that are remembered.
    """

    def __init__(self, limit: int, window: float = MINUTE, most_kept: int = _MOST_KEPT) -> None:
        self.limit = limit
        self._window = window
        self._most_kept = most_kept
        self._recent: OrderedDict[str, deque[float]] = OrderedDict()

    def __len__(self) -> int:
        """Return how many identities are remembered."""
        return len(self._recent)

    def wait(self, identity: str, now: float) -> float:
        """Take a request into account; return 0 if it may pass, else the seconds until the next one may.

        A request that may not pass counts for nothing, so that waiting always helps. `now` is monotonic.
        """
        recent = self._recent.get(identity)
        if recent is None:
            recent = self._recent[identity] = deque(maxlen=self.limit)
            if len(self._recent) > self._most_kept:
                self._recent.popitem(last=False)
        if len(recent) == self.limit and now - recent[0] < self._window:
            return self._window - (now - recent[0])
        recent.append(now)
        self._recent.move_to_end(identity)
        return 0.0
