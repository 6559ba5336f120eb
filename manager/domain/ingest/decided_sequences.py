"""Progress of the leader's decisions on stored threats: the sequences that were decided, as few ranges.

Ranges above the first gap are threats that the leader stored itself together with its decisions, and those that were
decided while an earlier one waited for its agent's clock offset.
"""

import json
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from operator import itemgetter

_first, _last = itemgetter(0), itemgetter(1)


class DecidedSequences:
    """The sequences of the threats that were decided: all up to one, and ranges above it.

    Args:
        up_to: every sequence up to this one was decided.
        ranges: further decided ranges, as first and last sequence, both included.
    """

    def __init__(self, up_to: int = 0, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self.up_to = up_to
        self._ranges: list[tuple[int, int]] = []
        for first, last in ranges:
            self.add(first, last)

    @classmethod
    def of_text(cls, text: str) -> "DecidedSequences":
        """Return the progress in a stored text.

        Raises:
            ValueError: it is no text of `to_text`.
        """
        try:
            up_to, ranges = json.loads(text)
            progress = cls(int(up_to), [(int(first), int(last)) for first, last in ranges])
        except TypeError as error:
            raise ValueError(f"no progress of decisions: {text[:64]!r}") from error
        if progress.to_text() != text:
            raise ValueError(f"no progress of decisions: {text[:64]!r}")
        return progress

    def to_text(self) -> str:
        """Return the progress as one text, equal for equal progress."""
        return json.dumps([self.up_to, self._ranges], separators=(",", ":"))

    def copy(self) -> "DecidedSequences":
        """Return a copy that changes by itself."""
        other = DecidedSequences(self.up_to)
        other._ranges = list(self._ranges)
        return other

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield the decided ranges in order, as first and last sequence."""
        yield 0, self.up_to
        yield from self._ranges

    def __contains__(self, sequence: int) -> bool:
        """Return whether a sequence was decided."""
        if sequence <= self.up_to:
            return True
        at = bisect_right(self._ranges, sequence, key=_first) - 1
        return at >= 0 and sequence <= self._ranges[at][1]

    def add(self, first: int, last: int) -> None:
        """Add a range of sequences, both ends included; an empty one changes nothing."""
        if last < first or last <= self.up_to:
            return
        begin = bisect_left(self._ranges, first - 1, key=_last)
        end = bisect_right(self._ranges, last + 1, key=_first)
        if begin < end:
            first, last = min(first, self._ranges[begin][0]), max(last, self._ranges[end - 1][1])
        if first <= self.up_to + 1:
            self.up_to = last
            del self._ranges[:end]
        else:
            self._ranges[begin:end] = [(first, last)]

    def gaps(self, last: int) -> Iterator[tuple[int, int]]:
        """Yield the ranges up to a sequence that were not decided, in order."""
        first = self.up_to + 1
        for begin, end in self._ranges:
            if first > last:
                return
            yield first, min(begin - 1, last)
            first = end + 1
        if first <= last:
            yield first, last
