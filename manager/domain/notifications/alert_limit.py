"""Limit on the events that the reports of one agent make, so that a hijacked agent does not flood the event table."""

from collections import Counter

MOST_IN_MINUTE = 30
"""The number of events a minute of one agent; further reports of it are only counted."""

_MINUTE = 60.0


class AlertLimit:
    """Counts the events of each agent in the current minute."""

    def __init__(self) -> None:
        self._minute = 0.0
        self._told: Counter[int] = Counter()

    def admit(self, agent_number: int, monotonic: float) -> bool:
        """Return whether another report of an agent is told, and count it."""
        minute = monotonic // _MINUTE
        if minute != self._minute:
            self._minute = minute
            self._told.clear()
        self._told[agent_number] += 1
        return self._told[agent_number] <= MOST_IN_MINUTE
