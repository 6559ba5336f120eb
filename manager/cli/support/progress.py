"""Progress of long commands on standard error: a bar on a terminal, else lines."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_TENTHS = 10


@contextmanager
def progress(doing: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show progress on standard error: a bar on a terminal, else a line at each tenth. Yields its update function."""
    from rich.console import Console  # noqa: PLC0415 -- rich takes a while to load
    from rich.progress import (  # noqa: PLC0415 -- the same
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    if sys.stderr.isatty():
        columns = (TextColumn(doing), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(file=sys.stderr), transient=True) as bar:
            task = bar.add_task(doing, total=total)
            yield lambda done: bar.update(task, completed=done)
    else:
        yield _Lines(doing, total).show


class _Lines:
    """Progress as lines of text."""

    def __init__(self, doing: str, total: int) -> None:
        self._doing = doing
        self._total = total
        self._shown = 0

    def show(self, done: int) -> None:
        """Print a line at each further tenth."""
        tenth = done * _TENTHS // self._total if self._total else _TENTHS
        if tenth > self._shown:
            self._shown = tenth
            sys.stderr.write(f"{self._doing} {done} of {self._total}\n")
