"""What commands print: tables and colour for people, JSON for programs."""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from manager.cli.support.escaping import printable

_PIPED_WIDTH = 400

STYLES = {
    "online": "green", "stale": "bold yellow", "offline": "dim",
    "critical": "bold red", "high": "red", "medium": "yellow", "low": "dim",
    "applied": "green", "partial": "yellow", "failed": "bold red",
    "pending_approval": "bold yellow", "refused": "yellow", "simulated": "dim", "undone": "dim",
}  # fmt: skip
"""The colours of words that stand for how well something is."""


def console() -> Console:
    """Return where tables go; what is piped is not squeezed into a terminal's width."""
    on_terminal = sys.stdout.isatty()
    return Console(file=sys.stdout, highlight=False, markup=False, width=None if on_terminal else _PIPED_WIDTH)


def print_json(value: Any) -> None:
    """Print JSON in ASCII, so that nothing in it can act on a terminal."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=True) + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table; every cell is text that acts on nothing, whoever wrote it."""
    table = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(cell(value) for value in row))
    console().print(table if table.row_count else "none")


def print_lines(*lines: Any) -> None:
    """Print lines of text, each safe for a terminal."""
    out = console()
    for line in lines:
        out.print(line if isinstance(line, Text) else cell(line), soft_wrap=True)


def cell(value: Any) -> Text:
    """Return a value as safe text, coloured where it is a word of how well something is."""
    if isinstance(value, Text):
        return value
    if value is None:
        return Text("-", "dim")
    if isinstance(value, list):
        value = ", ".join(str(item) for item in value)
    text = printable(str(value))
    return Text(text, STYLES.get(text, ""))


def percent(value: float | None) -> str | None:
    """Return a percentage as it stands in a table."""
    return None if value is None else f"{value:.0f} %"


if TYPE_CHECKING:
    from manager.cli.support.client import Record


def clone_text(clone: "Record") -> str:
    """Return the instances, by when they were started, and the way out."""
    started = " and ".join(clone["instances"])
    return f"started at {started}; keep one, give each other machine its own hostname and an empty data directory"
