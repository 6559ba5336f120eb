"""Output of commands: coloured tables for people, JSON for programs."""

import json
import os
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from manager.cli.support.counting import counted
from manager.cli.support.durations import ago
from manager.cli.support.escaping import printable

_PIPED_WIDTH = 400

STYLES = {
    "online": "green", "stale": "bold yellow", "offline": "dim",
    "critical": "bold red", "high": "red", "medium": "yellow", "low": "dim",
    "applied": "green", "partial": "yellow", "failed": "bold red",
    "pending_approval": "bold yellow", "refused": "yellow", "simulated": "dim", "undone": "dim",
}  # fmt: skip
"""Colours of status words."""


def console() -> Console:
    """Return the console for tables, as wide as `COLUMNS` or the terminal; piped output is wider."""
    width = columns_said() or (None if sys.stdout.isatty() else _PIPED_WIDTH)
    return Console(file=sys.stdout, highlight=False, markup=False, width=width)


def columns_said() -> int | None:
    """Return the width that the environment variable `COLUMNS` says, in characters."""
    said = os.environ.get("COLUMNS", "")
    return int(said) if said.isdecimal() and int(said) else None


def print_json(value: Any) -> None:
    """Print JSON in ASCII, so that no control character reaches the terminal."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=True) + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, whole: int = 0) -> None:
    """Print a table; control characters in cells are escaped.

    Args:
        columns: the headings.
        rows: the cells.
        whole: the number of first columns, names and ids, that are wrapped only where the others leave no room.
    """
    table = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, overflow="fold", no_wrap=number < whole)
    for row in rows:
        table.add_row(*(cell(value) for value in row))
    console().print(table if table.row_count else "none")


def print_lines(*lines: Any) -> None:
    """Print lines of text; control characters are escaped."""
    out = console()
    for line in lines:
        out.print(line if isinstance(line, Text) else cell(line), soft_wrap=True)


def cell(value: Any) -> Text:
    """Return a value as escaped text; status words are coloured."""
    if isinstance(value, Text):
        return value
    if value is None:
        return Text("-", "dim")
    if isinstance(value, list):
        value = ", ".join(str(item) for item in value)
    text = printable(str(value))
    return Text(text, STYLES.get(text, ""))


def percent(value: float | None) -> str | None:
    """Format a percentage for a table."""
    return None if value is None else f"{value:.0f} %"


if TYPE_CHECKING:
    from manager.cli.support.client import Record


def refused_text(record: "Record", now: datetime) -> str:
    """Describe refused registrations of one host: the host, the number, the first time, and the reason."""
    host = record["hostname"] or f"a host at {record['origin']}"
    organization = f" ({record['organizationId']})" if record["organizationId"] else ""
    times = f"{counted(record['count'], 'registration')} over {record['door'].upper()}"
    return f"{host}{organization}: {times}, the last {ago(record['lastAt'], now)}: {record['reason']}"


def clone_text(clone: "Record") -> str:
    """Describe the instances of a cloned agent by their start times, and the remedy."""
    started = " and ".join(clone["instances"])
    return f"started at {started}; keep one, give each other machine its own hostname and an empty data directory"
