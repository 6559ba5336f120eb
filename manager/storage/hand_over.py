"""Hand-over of the threats that ingest workers stored to the leader, which decides on each once.

The progress of the decisions is one value, written in the transaction of the decisions.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from manager.domain.ingest.decided_sequences import DecidedSequences
from manager.engine.batch import Changes, ThreatRow
from manager.engine.ports import WaitingReports
from manager.storage.statements import Statements

PROGRESS = "decided_sequences"
"""Key of the stored value."""


class InsertedThreats(NamedTuple):
    """The result of an insertion of threats.

    Attributes:
        new: The number of those that it did not have.
        last: The sequence of the last one; 0 without any.
        ranges: The ranges of sequences of all, also of those that another process stored meanwhile: the caller has
            decided on them.
    """

    new: int
    last: int
    ranges: list[tuple[int, int]]


class HandOver:
    """The progress of the leader's decisions, as committed.

    Args:
        statements: the statements of the writer's database.
        enabled: whether other processes store threats; else nothing is read and written.
    """

    def __init__(self, statements: Statements, *, enabled: bool) -> None:
        self._statements = statements
        self._enabled = enabled
        self._written: DecidedSequences | None = None
        self._decided: DecidedSequences | None = None

    @property
    def decided(self) -> DecidedSequences:
        """The sequences whose threats were decided."""
        if self._decided is None:
            self._decided = self._stored()
        return self._decided

    def reload(self) -> None:
        """Read the progress again at its next use, as after a commit without an answer."""
        self._decided = None

    def _stored(self) -> DecidedSequences:
        """Return the stored progress; everything in a store without one was decided as it was stored.

        Raises:
            ValueError: the stored value is damaged.
        """
        found = self._statements.rows("meta.get", (PROGRESS,))
        if found:
            return DecidedSequences.of_text(found[0][0])
        decided = DecidedSequences(self._low_water_mark())
        self._statements.execute("meta.upsert", (PROGRESS, decided.to_text()))
        return decided

    def waiting(self, limit: int) -> WaitingReports:
        """Return at most `limit` threats that no commit has decided on, up to the low-water mark."""
        gaps = [] if not self._enabled else list(self.decided.gaps(self._low_water_mark()))
        rows: list[tuple[int, ThreatRow]] = []
        ranges: list[tuple[int, int]] = []
        for first, last in gaps:
            wanted = {"first": first, "last": last, "limit": limit - len(rows)}
            found = [_threat(row) for row in self._statements.rows("threats.between", wanted)]
            rows += found
            if len(rows) >= limit:
                ranges.append((first, found[-1][0]))
                break
            ranges.append((first, last))
        return WaitingReports(rows, ranges)

    def write(self, changes: Changes, own: Iterable[tuple[int, int]]) -> None:
        """Write, in the transaction of the changes, what they decide.

        Args:
            changes: the changes.
            own: the ranges of sequences of the threats that the same transaction stored.
        """
        if not self._enabled:
            return
        corrections = [
            (row.event_time, row.time_known, row.ignored, sequence, row.received_at)
            for sequence, row in changes.corrections.items()
        ]
        if corrections:
            self._statements.execute_many("threats.correct", corrections)
        ranges = [*changes.decided, *own]
        if not ranges:
            return
        decided = self.decided.copy()
        for first, last in ranges:
            decided.add(first, last)
        self._statements.execute("meta.upsert", (PROGRESS, decided.to_text()))
        self._written = decided

    def end(self, *, is_committed: bool) -> None:
        """Take the written progress over after the commit, or drop it."""
        written, self._written = self._written, None
        if is_committed and written is not None:
            self._decided = written
        elif not is_committed:
            self._decided = None  # also the first value may be gone with the transaction

    @property
    def up_to(self) -> int | None:
        """The sequence up to which every threat was decided; None where each is decided as it is stored."""
        return self.decided.up_to if self._enabled else None

    @property
    def decided_elsewhere(self) -> DecidedSequences | None:
        """The sequences whose threats were decided; None where each is decided as it is stored."""
        return self.decided if self._enabled else None

    def _low_water_mark(self) -> int:
        return int(self._statements.rows("threats.low_water_mark")[0][0])


def _threat(row: Sequence[Any]) -> tuple[int, ThreatRow]:
    sequence, agent_number, threat_id, digest, event_time, received_at, time_known, *rest = row
    return sequence, ThreatRow(agent_number, threat_id, bytes(digest), event_time, received_at, bool(time_known), *rest)
