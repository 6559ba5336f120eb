"""Tables that fit the terminal's width: less important columns are left out, hostnames and ids are never broken."""

import sys
from collections.abc import Sequence
from typing import Any

from rich.text import Text

from manager.cli.support.counting import counted
from manager.cli.support.printing import cell, columns_said, console
from manager.cli.support.wrapping import wrapped

_GAP = "  "
_PIPED = 10_000


def print_fitted(
    columns: Sequence[str], rows: Sequence[Sequence[Any]], *, kept: int, wide: bool = False, more: str = "-o json"
) -> None:
    """Print a table, one line for each row; control characters in cells are escaped.

    Columns that say the same in every row are said once below the table. Of the others, the last ones are left out
    until the rest fits the terminal, or `COLUMNS`; piped output has all of them.

    Args:
        columns: the headings, the most important first.
        rows: the cells.
        kept: the number of columns that are always printed, in full: names and ids.
        wide: whether to print every column, whatever the width.
        more: the option that prints the columns that were left out.
    """
    out = console()
    if not rows:
        out.print("none")
        return
    cells = [[cell(value) for value in row] for row in rows]
    same = [] if wide or len(cells) == 1 else _same(cells, kept)
    shown = [index for index in range(len(columns)) if index not in same]
    widths = {i: max(len(columns[i]), *(row[i].cell_len for row in cells)) for i in shown}
    room = _PIPED if wide else _width(out.width)
    while len(shown) > kept and sum(widths[i] + len(_GAP) for i in shown) - len(_GAP) > room:
        shown.pop()
    left_out = len(columns) - len(same) - len(shown)
    out.print(_line([Text(columns[i], "bold") for i in shown], [widths[i] for i in shown]), soft_wrap=True)
    for row in cells:
        out.print(_line([row[i] for i in shown], [widths[i] for i in shown]), soft_wrap=True)
    if same:
        said = ", ".join(f"{columns[i]} {cells[0][i].plain}" for i in same if cells[0][i].plain != "-")
        if said:
            for line in wrapped(f"the same in every row: {said}", room):
                out.print(Text(line, "dim"), soft_wrap=True)
    if left_out:
        out.print(Text(f"{counted(left_out, 'more column')} with {more}", "dim"), soft_wrap=True)


def _same(cells: Sequence[Sequence[Text]], kept: int) -> list[int]:
    columns = range(kept, len(cells[0]))
    return [index for index in columns if len({row[index].plain for row in cells}) == 1]


def _width(console_width: int) -> int:
    """Return the columns that a line may have: the terminal's, or what `COLUMNS` says."""
    return columns_said() or (console_width if sys.stdout.isatty() else _PIPED)


def _line(cells: Sequence[Text], widths: Sequence[int]) -> Text:
    line = Text()
    for number, (text, width) in enumerate(zip(cells, widths, strict=True)):
        last = number == len(cells) - 1
        line.append_text(text)
        line.append("" if last else " " * (width - text.cell_len) + _GAP)
    return line
