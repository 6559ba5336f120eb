"""Updates the projections (counts and the threat index) from the stored threats, in pieces.

A piece is written in the transaction that commits threats, together with the progress of its projection. So each
projection processes every threat once and lags by little; queries read the threats that it has not processed yet.
"""

from collections.abc import Callable, Mapping
from typing import TypeAlias

from manager.storage.statements import Statements
from manager.storage.threat_index.bitmaps import SLICE

Add: TypeAlias = Callable[[int, int], None]
"""Updates a projection with the threats from one sequence to another, both included."""


class Projections:
    """Advances the projections in the writer's transaction.

    Args:
        statements: the statements of the writer's database.
        counts: projections that need a threat before it is pruned, by name.
        indexes: projections that drop a pruned threat, by name.
        piece: the number of threats that are processed at a time, and the size of a slice of the threat index.
    """

    def __init__(
        self, statements: Statements, counts: Mapping[str, Add], indexes: Mapping[str, Add], piece: int = SLICE
    ) -> None:
        self._statements = statements
        self._piece = piece
        self._counts = counts
        self._add = {**counts, **indexes}

    def advance(self, stored: int) -> None:
        """Process whole pieces: at most one, and further pieces to keep up with `stored` new threats."""
        lowest, highest = self._extent()
        progress = self._progress()
        for _ in range(1 + len(self._add) * stored // self._piece):
            name = min(progress, key=progress.__getitem__)
            first = max(progress[name] + 1, lowest)
            if highest - first + 1 < self._piece:
                return
            progress[name] = first + self._piece - 1
            self._take_in(name, first, progress[name])

    def before_prune(self, last: int) -> None:
        """Add the threats up to a sequence to the counts, before the threats are deleted; indexes skip them."""
        lowest, _ = self._extent()
        for name, done in self._progress().items():
            first = max(done + 1, lowest)
            if first <= last and name in self._counts:
                self._take_in(name, first, last)
            elif first <= last:
                self._statements.execute("projections.set_progress", (name, last))

    def after_prune(self) -> None:
        """Reset the progress if no threat is left, because the next threat has sequence 1 again."""
        if self._extent() == (0, 0):
            self._statements.execute("projections.restart")

    def _take_in(self, name: str, first: int, last: int) -> None:
        self._add[name](first, last)
        self._statements.execute("projections.set_progress", (name, last))

    def _extent(self) -> tuple[int, int]:
        ((lowest, highest),) = self._statements.rows("threats.sequences")
        return lowest, highest

    def _progress(self) -> dict[str, int]:
        found = dict(self._statements.rows("projections.progress"))
        return {name: found.get(name, 0) for name in self._add}
