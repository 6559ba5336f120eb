"""Text from outside reaches a terminal only escaped."""

import io
import unicodedata

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from manager.cli.support.escaping import printable
from manager.cli.support.printing import cell


@given(st.text())
def test_nothing_that_acts_on_a_terminal_is_left(text: str) -> None:
    """For any input, the output has only visible characters and plain spaces."""
    shown = printable(text)
    assert all(char == " " or unicodedata.category(char)[0] not in "CZ" for char in shown)


@given(st.text(alphabet=st.characters(categories=["L", "N", "P", "S"])))
def test_plain_text_stays_as_it_is(text: str) -> None:
    """Letters, digits, punctuation and symbols of any script are not touched."""
    assert printable(text) == text


def test_escapes_show_what_was_there() -> None:
    """Colour codes, line breaks and characters that turn the reading direction stand as their escapes."""
    assert printable("\x1b[31mred\r\n") == r"\x1b[31mred\r\n"
    assert printable("gpj.\u202eexe") == r"gpj.\u202eexe"
    assert printable("a\u00a0b\u2028") == r"a\xa0b\u2028"
    assert printable("\ud800") == r"\ud800"
    assert printable("\x9b31m") == r"\x9b31m"


@given(st.text(alphabet="[]/\\:abredlink= \x1b"))
def test_markup_in_a_cell_is_only_text(text: str) -> None:
    """A cell shows brackets, tags and emoji codes as they were written, without a style or a link of their own."""
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=1000, highlight=False, color_system="truecolor")
    console.print(cell(f"<{text}>"), end="")
    assert out.getvalue() == f"<{printable(text)}>"
