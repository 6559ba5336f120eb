"""A checker of histories of the lease: whether one row explains the calls in some order (Wing and Gong's search)."""

import itertools
from dataclasses import dataclass

from manager.domain.lease import LeaseRow

_ticks = itertools.count()


@dataclass(eq=False)
class Operation:
    """One call, with effect once between `begun` and `ended`; without an answer, after its begin or never."""

    kind: str
    given: LeaseRow | None
    holder: str
    begun: int
    ended: int | None = None
    result: LeaseRow | None = None

    @classmethod
    def begin(cls, kind: str, given: LeaseRow | None, holder: str = "") -> "Operation":
        """Return a call that begins now."""
        return cls(kind, given, holder, next(_ticks))

    def end(self, result: LeaseRow | None) -> None:
        """Record the answer."""
        self.result, self.ended = result, next(_ticks)

    def lose(self) -> None:
        """Record that no answer came."""
        self.ended = None


def after(operation: Operation, row: LeaseRow) -> tuple[LeaseRow, LeaseRow | None]:
    """Return the row after a call on `row`, and the call's result, by the words of the interface."""
    given = operation.given
    if operation.kind == "read":
        return row, row
    assert given is not None
    if operation.kind == "take":
        new = row._replace(epoch=row.epoch + 1, holder=operation.holder, beat=row.beat + 1)
        return (new, new) if row == given else (row, None)
    is_held = row.epoch == given.epoch and row.holder == given.holder
    if operation.kind == "release":
        return (row._replace(holder=None, beat=row.beat + 1), None) if is_held else (row, None)
    new = row._replace(beat=row.beat + 1)
    return (new, new) if is_held and row.beat >= given.beat else (row, None)


def is_linearizable(history: list[Operation], first: LeaseRow | None = None) -> bool:
    """Return whether a history has an order of its calls, true to their times, in which every result is right."""
    if first is None:
        timeline = next(each.result.timeline for each in history if each.result is not None)
        first = LeaseRow(timeline, 0, None, 0)
    indexes = {id(operation): number for number, operation in enumerate(history)}
    visited: set[tuple[int, LeaseRow]] = set()
    stack = [(0, first)]
    answered = sum(1 << indexes[id(each)] for each in history if each.ended is not None)
    while stack:
        done, row = stack.pop()
        if (done, row) in visited:
            continue
        visited.add((done, row))
        if done & answered == answered:
            return True
        waiting = [each for each in history if not done >> indexes[id(each)] & 1]
        first_end = min(each.ended for each in waiting if each.ended is not None)
        for each in waiting:
            if each.begun > first_end:
                continue
            new, result = after(each, row)
            if each.ended is None:
                if new != row:  # a lost call without an effect explains nothing
                    stack.append((done | 1 << indexes[id(each)], new))
            elif result == each.result:
                stack.append((done | 1 << indexes[id(each)], new))
    return False
