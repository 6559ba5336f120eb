"""Cursors say where a page ended, and nothing else is one."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manager.errors import Invalid
from manager.storage.queries.reader import cursor_after, read_cursor


@given(st.integers(0, 2**63 - 1))
def test_a_cursor_says_where_its_page_ended(last: int) -> None:
    """What went in comes out."""
    assert read_cursor(cursor_after(last), int) == [last]


@given(st.floats(0, 1e10), st.text())
def test_a_cursor_of_two_parts_keeps_both(moment: float, name: str) -> None:
    """A time and a name, to the last bit."""
    assert read_cursor(cursor_after(moment, name), float, str) == [moment, name]


@given(st.text())
def test_no_other_text_is_a_cursor(text: str) -> None:
    """It is refused by name, or it is the cursor of some page."""
    with suppress(Invalid):
        (last,) = read_cursor(text, int)
        assert type(last) is int
        assert 0 <= last < 2**63


@pytest.mark.parametrize("parts", [(-1,), (2**63,), (1.0,), ("1",), (1, 2), (True,), (None,), ()])
def test_the_cursor_of_another_list_is_refused(parts: tuple[object, ...]) -> None:
    """Kind, number and range of its parts must fit."""
    with pytest.raises(Invalid, match="cursor: pass the value"):
        read_cursor(cursor_after(*parts), int)  # type: ignore[arg-type]  # that is the point
