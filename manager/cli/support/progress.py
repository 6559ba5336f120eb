"""Shows how far a long command is, on standard error: a bar on a terminal, a line now and then elsewhere."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_LINES = 10


@contextmanager
def progress(doing: str, total: int) -> Iterator[Callable[[int], None]]:
    """Give what is to be told how many of `total` are done."""
    if sys.stderr.isatty():
        columns = (TextColumn(doing), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(file=sys.stderr), transient=True) as bar:
            task = bar.add_task(doing, total=total)
            yield lambda done: bar.update(task, completed=done)
    else:
        yield _Lines(doing, total).show


class _Lines:
    def __init__(self, doing: str, total: int) -> None:
        self._doing = doing
        self._total = total
        self._shown = 0

    def show(self, done: int) -> None:
        """Write a line whenever another tenth is done."""
        tenth = done * _LINES // self._total if self._total else _LINES
        if tenth > self._shown:
            self._shown = tenth
            sys.stderr.write(f"{self._doing} {done} of {self._total}\n")
