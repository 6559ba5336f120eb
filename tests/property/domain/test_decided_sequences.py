"""Progress of the leader's decisions, against a plain set of numbers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manager.domain.ingest.decided_sequences import DecidedSequences

RANGES = st.lists(
    st.tuples(st.integers(1, 40), st.integers(-1, 6)).map(lambda pair: (pair[0], pair[0] + pair[1])), max_size=20
)


@given(RANGES, st.integers(0, 50))
def test_ranges_hold_what_was_added(ranges: list[tuple[int, int]], last: int) -> None:
    """Ranges in any order and overlap hold the numbers of a set; the gaps are the rest; a stored text gives them back.

    Everything up to `up_to` was decided and the next number was not, so no range is kept that `up_to` has.
    """
    progress, decided = DecidedSequences(), set[int]()
    for first, end in ranges:
        progress.add(first, end)
        decided |= set(range(first, end + 1))
    assert [number in progress for number in range(1, 60)] == [number in decided for number in range(1, 60)]
    assert progress.up_to == next(number for number in range(60) if number + 1 not in decided)
    assert {number for first, end in progress for number in range(first, end + 1)} - {0} == decided
    gaps = [number for first, end in progress.gaps(last) for number in range(first, end + 1)]
    assert gaps == [number for number in range(1, last + 1) if number not in decided]
    assert all(first <= end for first, end in progress.gaps(last))
    again = DecidedSequences.of_text(progress.to_text())
    assert again.to_text() == progress.to_text()
    copy = progress.copy()
    copy.add(1, 60)
    assert again.to_text() == progress.to_text()


@given(RANGES)
def test_adjacent_ranges_are_one(ranges: list[tuple[int, int]]) -> None:
    """The text of a progress depends on the decided numbers alone: no two ranges touch."""
    progress = DecidedSequences(0, ranges)
    numbers = {number for first, end in ranges for number in range(first, end + 1)}
    one_by_one = DecidedSequences()
    for number in sorted(numbers, reverse=True):
        one_by_one.add(number, number)
    assert one_by_one.to_text() == progress.to_text()


@pytest.mark.parametrize("text", ["", "3", "[1]", "[1,[[5]]]", '["a",[]]', "[5,[[2,3]]]", "[1,[[9,4]]]", "null"])
def test_a_damaged_text_is_refused(text: str) -> None:
    """A text that no progress has is refused, not read as another progress."""
    with pytest.raises(ValueError, match=r".+"):
        DecidedSequences.of_text(text)
