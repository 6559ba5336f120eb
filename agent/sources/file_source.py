"""A log file as a source of records."""

from pathlib import Path

from agent.events import Origin, Record
from agent.sources.log_file import Position
from agent.sources.source import Batch
from agent.sources.tail import Tail

_LIVE_WITHIN = 10.0
"""Seconds: a line that comes within this time after the end of the file was reached was written just now."""


class FileSource:
    """Reads one log file; see `agent.sources.source.Source`.

    Args:
        path: The log file.
        cursor: The cursor of an earlier run; None at the first start, which begins at the end of the file.
        interval: Seconds between two reads.
        now: The time of the first read, on the monotonic clock.
        vouched: The operator vouches for every line of this file.

    Raises:
        SourceError: the path is a symbolic link, not a regular file, or not readable.
    """

    def __init__(self, path: Path, cursor: str | None, *, interval: float, now: float, vouched: bool = False) -> None:
        self.name = f"file:{path}"
        self.needs = f"read access to {path}"
        self.due = now
        self._interval = interval
        self._vouched = vouched
        self._origin = Origin(self.name)
        self._at_end: float | None = None
        self._tail = Tail(path, _position(cursor))

    @property
    def cursor(self) -> str:
        """The position of the next unread line."""
        return self._tail.position.to_json()

    def read(self, budget: int, now: float) -> Batch:
        """Return the new lines; see `agent.sources.source.Source`."""
        self.due = now + self._interval
        lines = self._tail.read(budget)
        if not self._tail.at_end:
            self.due = now
        live = self._at_end is not None and now - self._at_end <= _LIVE_WITHIN
        if self._tail.at_end:
            self._at_end = now
        records = [Record(line.text, self._origin, live=live, vouched=self._vouched, cut=line.cut) for line in lines]
        return Batch(records, self.cursor, more=not self._tail.at_end)

    def close(self) -> None:
        """Close the file."""
        self._tail.close()


def _position(cursor: str | None) -> Position | None:
    try:
        return None if cursor is None else Position.from_json(cursor)
    except ValueError:
        return None
