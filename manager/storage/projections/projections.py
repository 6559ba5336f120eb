"""Updates the projections (counts and the threat index) from the stored threats, in pieces.

A piece is written in the transaction that commits threats, together with the progress of its projection. So each
projection processes every threat once and lags by little; queries read the threats that it has not processed yet.
Slices of the index are made from the threats in memory; those that are not there, as after a start, are read from the
store. Counts are grouped by the store, which does that in half of the time (docs/decisions/0010).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from manager.engine.batch import ThreatRow
from manager.storage.projections.recent_threats import RecentThreat, RecentThreats
from manager.storage.statements import Statements
from manager.storage.threat_index.bitmaps import SLICE

REMEMBERED = 8 * SLICE
"""The number of stored threats that are kept in memory until every index has processed them."""

Add: TypeAlias = Callable[[int, int, Sequence[RecentThreat] | None], None]
"""Updates a projection with the threats from one sequence to another, both included; they are given if in memory."""


class Projections:
    """Advances the projections in the writer's transaction.

    Args:
        statements: the statements of the writer's database.
        counts: projections that need a threat before it is pruned, by name.
        indexes: projections that drop a pruned threat, by name.
        piece: the number of threats that are processed at a time, and the size of a slice of the threat index.
        remembered: the number of threats kept in memory; with 0 all are read from the store.
    """

    def __init__(
        self,
        statements: Statements,
        counts: Mapping[str, Add],
        indexes: Mapping[str, Add],
        piece: int = SLICE,
        remembered: int = REMEMBERED,
    ) -> None:
        self._statements = statements
        self._piece = piece
        self._counts = counts
        self._indexes = indexes
        self._recent = RecentThreats(remembered)

    def advance(
        self, rows: Sequence[ThreatRow] = (), inserted: int = 0, last: int = 0, up_to: int | None = None
    ) -> None:
        """Process whole pieces: at most one, and further pieces to keep up with new threats.

        Where several processes store threats, pieces end at the sequence up to which none can appear any more.

        Args:
            rows: the threats of this commit, in the order in which they were inserted.
            inserted: the number of those that the store did not have.
            last: the sequence of the last of these rows; without any, 0.
            up_to: the sequence up to which threats have their final values; None for all.
        """
        lowest, highest = self._extent()
        highest = highest if up_to is None else min(highest, up_to)
        self._recent.add(rows, inserted, last)
        progress = self._progress()
        for _ in range(1 + len(progress) * len(rows) // self._piece):
            name = min(progress, key=progress.__getitem__)
            first = max(progress[name] + 1, lowest)
            if highest - first + 1 < self._piece:
                break
            progress[name] = first + self._piece - 1
            self._take_in(name, first, progress[name])
        self._recent.forget_up_to(min(progress[name] for name in self._indexes))

    def forget_recent(self) -> None:
        """Forget the threats in memory: a transaction was rolled back, and some of them may not be stored."""
        self._recent.clear()

    def before_prune(self, last: int) -> None:
        """Add the threats up to a sequence to the counts, before the threats are deleted; indexes skip them."""
        lowest, _ = self._extent()
        for name, done in self._progress().items():
            first = max(done + 1, lowest)
            if first <= last and name in self._counts:
                self._take_in(name, first, last)
            elif first <= last:
                self._statements.execute("projections.set_progress", (name, last))

    def complete_up_to(self, last: int) -> None:
        """Process all threats up to a sequence, before some of them are deleted and others stay."""
        lowest, _ = self._extent()
        for name, done in self._progress().items():
            first = max(done + 1, lowest)
            while first <= last:
                self._take_in(name, first, min(first + self._piece - 1, last))
                first += self._piece

    def after_prune(self) -> None:
        """Reset the progress if no threat is left, because the next threat has sequence 1 again."""
        if self._extent() == (0, 0):
            self._statements.execute("projections.restart")

    def _take_in(self, name: str, first: int, last: int) -> None:
        add = self._counts[name] if name in self._counts else self._indexes[name]
        add(first, last, self._recent.between(first, last))
        self._statements.execute("projections.set_progress", (name, last))

    def _extent(self) -> tuple[int, int]:
        ((lowest, highest),) = self._statements.rows("projections.extent")
        return lowest, highest

    def _progress(self) -> dict[str, int]:
        found = dict(self._statements.rows("projections.progress"))
        return {name: found.get(name, 0) for name in (*self._counts, *self._indexes)}
