"""Text and details wrapped between words to the terminal's width: ids, hostnames and addresses are never broken."""

import re
from collections.abc import Iterable, Sequence
from textwrap import wrap
from typing import Any

from rich.text import Text

from manager.cli.support.printing import cell, console

_COMMAND = re.compile(r"\s+[\w ]+: panguard ")
"""The beginning of a line with a command to copy."""


def wrapped(text: str, width: int, *, first: str = "", rest: str = "  ") -> list[str]:
    """Return a text in lines of at most `width` columns; a longer word stands alone in a line of its own length.

    Args:
        text: the text.
        width: the columns of a line.
        first: the beginning of the first line.
        rest: the beginning of each further line.
    """
    return wrap(
        text, width, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )


def print_wrapped(texts: Iterable[str]) -> None:
    """Print texts, each in as many lines as it needs; control characters are escaped."""
    out = console()
    for text in texts:
        for line in wrapped(cell(text).plain, out.width):
            out.print(Text(line), soft_wrap=True)


def print_indented(*lines: Text | str, rest: int = 2) -> None:
    """Print lines, each wrapped below its own indentation; one with a command to copy stays whole.

    Args:
        lines: the lines; control characters in them are escaped.
        rest: the columns by which further lines are indented beyond the first one.
    """
    out = console()
    for line in lines:
        if isinstance(line, Text) or _COMMAND.match(line):
            out.print(line if isinstance(line, Text) else cell(line), soft_wrap=True)
            continue
        text = cell(line).plain
        first = text[: len(text) - len(text.lstrip())]
        for part in wrapped(text.lstrip(), out.width, first=first, rest=first + " " * rest):
            out.print(Text(part), soft_wrap=True)


def print_details(title: str, rows: Sequence[tuple[str, Any]]) -> None:
    """Print one record: a title, then a line for each member, with further lines where its value is longer."""
    out = console()
    out.print(Text(cell(title).plain, "bold"), soft_wrap=True)
    labels = max((len(name) for name, _ in rows), default=0) + 2
    for name, value in rows:
        text = cell(value)
        lines = wrapped(text.plain, max(out.width - labels - 2, 1), rest="") or ["-"]
        for number, line in enumerate(lines):
            label = Text(f"  {'' if number else name:{labels}}")
            out.print(label.append(Text(line, text.style)), soft_wrap=True)
