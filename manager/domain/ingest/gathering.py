"""Gathering: processes that share the agents' messages take batches at intervals, in place of one for each message."""

import math

INTERVAL = 0.05
"""Seconds between two batches of a process, for each process that shares the messages."""


class Gathering:
    """The time of a process's next batch; times are monotonic seconds.

    The interval grows with the number of processes: batches then have the same size with any number of them, and a
    report costs the same. What arrives after a pause waits for nothing.

    Args:
        interval: seconds for each process; 0 to gather nothing.
        longest: the maximum number of seconds between two batches.
    """

    def __init__(self, interval: float, longest: float = math.inf) -> None:
        self._interval = interval
        self._longest = longest
        self._next = 0.0
        self.processes = 1
        """The number of processes that share the messages; with 0 nothing is gathered."""

    def begin(self, now: float) -> None:
        """Note that a batch is taken."""
        self._next = now + min(self._interval * self.processes, self._longest)

    def left(self, now: float) -> float:
        """Return the seconds until the next batch is due; 0 if it is."""
        return max(0.0, self._next - now)
