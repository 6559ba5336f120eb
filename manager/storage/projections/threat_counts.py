"""Counts of threats that outlive the threats: by severity and type, by agent, by source address.

Threats are counted in buckets of several lengths: a query for a period reads one or two buckets about as long as the
period, or many short ones where a bucket has few rows. So a summary of weeks stays exact after the threats are pruned,
and no query reads a million threats.

An address comes once in many pieces, so a piece would write a row for each address and bucket length. Counts of
addresses are written once, by the hour, and wait there as buckets of 0 seconds; when the hour is over they are rolled
up into the buckets. Queries add what waits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from manager.storage.projections.recent_threats import RecentThreat
from manager.storage.statements import Statements

FIVE_MINUTES = 300
HOUR = 3600
SIX_HOURS = 6 * HOUR
DAY = 86_400
KEPT = 90 * DAY

_SOURCES_KEPT = KEPT + 10 * DAY
_SOURCES_IN_STEP = 2000

_WAITING = 0
"""The bucket length of the counts of addresses that wait; such a bucket has an hour."""

_ROLLED_UP_AT_ONCE = 2048
"""The counts that are rolled up with one piece: as many as a piece of that many threats can add."""


@dataclass(frozen=True, slots=True)
class Counting:
    """The definition of one kind of threat counts.

    Args:
        name: the projection's name, also in the statements `counts.add_{name}` and `counts.prune_{name}`.
        kept: the retention of buckets by bucket length, both in seconds.
    """

    name: str
    kept: Mapping[int, int]


KINDS = Counting("kinds", {FIVE_MINUTES: DAY // 2, HOUR: 2 * DAY, DAY: KEPT})
AGENTS = Counting("agents", {HOUR: 3 * HOUR, SIX_HOURS: 3 * SIX_HOURS, DAY: KEPT})
SOURCES = Counting("sources", {HOUR: 3 * HOUR, SIX_HOURS: 3 * SIX_HOURS, DAY: KEPT})


class ThreatCounts:
    """Writes and prunes one kind of counts in the writer's transaction.

    Args:
        statements: those of the writer's database.
        counting: the kind of counts.
    """

    def __init__(self, statements: Statements, counting: Counting) -> None:
        self._statements = statements
        self._counting = counting

    def add(self, first: int, last: int, _threats: Sequence[RecentThreat] | None = None) -> None:
        """Count the threats from one sequence to another, both included."""
        if self._counting is SOURCES:
            self._statements.execute("counts.number_sources", (first, last))
        self._statements.execute(f"counts.add_{self._counting.name}", (first, last))
        if self._counting is SOURCES:
            self._roll_up(last)

    def _roll_up(self, last: int) -> None:
        """Move waiting counts into the buckets, those of hours that were over when a threat was received."""
        received = self._statements.rows("counts.received_at", (last,))
        if received:
            before = received[0][0] - HOUR
            if self._statements.execute("counts.roll_up_sources", (before, _ROLLED_UP_AT_ONCE)):
                self._statements.execute("counts.prune_sources", (_WAITING, before, _ROLLED_UP_AT_ONCE))

    def prune(self, now: float, limit: int) -> int:
        """Delete at most `limit` outdated counts; return the number of deleted rows."""
        deleted = 0
        for seconds, kept in self._counting.kept.items():
            params = (seconds, now - kept - seconds, limit - deleted)
            deleted += self._statements.execute(f"counts.prune_{self._counting.name}", params)
        return deleted


class SourcePruner:
    """Deletes source addresses without counts, in pieces.

    Args:
        statements: those of the writer's database.
    """

    def __init__(self, statements: Statements) -> None:
        self._statements = statements
        self._checked = 0

    def prune(self, now: float) -> None:
        """Check the next addresses; delete addresses that were last seen before the oldest count."""
        rows = self._statements.rows("counts.source_numbers_after", (self._checked, _SOURCES_IN_STEP))
        numbers = [row[0] for row in rows]
        if numbers:
            params = (numbers[0], numbers[-1], now - _SOURCES_KEPT)
            self._statements.execute("counts.delete_sources", params)
        self._checked = numbers[-1] if len(numbers) == _SOURCES_IN_STEP else 0
