"""The threats that were stored last, kept in memory for projections, which need not read them back."""

from collections.abc import Sequence
from operator import itemgetter
from typing import TypeAlias, cast

from manager.engine.batch import ThreatRow

RecentThreat: TypeAlias = tuple[int, str, str, float, float]
"""Agent number, type, severity, time of receipt and event time of a stored threat."""

_MEMBERS = ("agent_number", "type", "severity", "received_at", "event_time")
_members = itemgetter(*map(ThreatRow._fields.index, _MEMBERS))


class RecentThreats:
    """Consecutive threats that were stored last, by sequence.

    Args:
        most: the largest number of threats; the oldest go first.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._first = 0
        self._threats: list[RecentThreat] = []

    def add(self, rows: Sequence[ThreatRow], inserted: int, last: int) -> None:
        """Add the threats of a commit; if not every row became one, nothing is known of their sequences.

        Sequences that do not follow on those in memory, as where another process stored some, replace them.

        Args:
            rows: the rows in the order in which they were inserted.
            inserted: the number of those that were inserted; a repeated one is not.
            last: the sequence of the last row, if all were inserted.
        """
        if not rows:
            return
        first = last - len(rows) + 1
        if inserted != len(rows):
            self._threats.clear()
            return
        if first != self._first + len(self._threats):
            self._threats.clear()
            self._first = first
        self._threats += cast("list[RecentThreat]", map(_members, rows))
        self.forget_up_to(last - self._most)

    def between(self, first: int, last: int) -> Sequence[RecentThreat] | None:
        """Return the threats from one sequence to another, both included; None if not all of them are here."""
        start, end = first - self._first, last - self._first + 1
        return self._threats[start:end] if 0 <= start < end <= len(self._threats) else None

    def clear(self) -> None:
        """Drop all threats. On PostgreSQL those that follow on a rolled back commit follow on its sequences, too."""
        self._threats.clear()

    def forget_up_to(self, last: int) -> None:
        """Drop the threats up to a sequence."""
        gone = last - self._first + 1
        if gone > 0:
            del self._threats[:gone]
            self._first += gone
