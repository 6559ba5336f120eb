"""A log file as a source of records."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

from agent.events import Record, RecordOrigin
from agent.sources.log_file import Position
from agent.sources.source import Batch, ReadPace, SourceError, SourceState
from agent.sources.tail import Tail

_LIVE_WITHIN = 10.0
"""Seconds after reaching the end of the file within which a new line counts as live."""

_SILENT_AFTER = 30.0
"""Seconds after which the file counts as silent if another log got a record or a line stays without its end."""

_COMPARE_EVERY = 15.0
_LOOK_FOR = 600.0


class FileSource:
    """Reads one log file; see `agent.sources.source.Source`.

    Args:
        path: The log file.
        cursor: The cursor of an earlier run; None at the first start.
        interval: Seconds between two reads at rest; see `ReadPace`.
        now: The time of the first read, on the monotonic clock.
        wall: Returns the epoch seconds.
        look_back: At the first start, the epoch seconds from which files are read; None to start at the end of the log.
        vouched: The operator vouches for every line of this file.
        elsewhere: Returns whether another log got records of the same writers between two times in epoch seconds;
            None if there is no other log.

    Raises:
        SourceError: the path is a symbolic link, not a regular file, or not readable.
    """

    def __init__(
        self,
        path: Path,
        cursor: str | None,
        *,
        interval: float,
        now: float,
        wall: Callable[[], float],
        look_back: float | None = None,
        vouched: bool = False,
        elsewhere: Callable[[float, float], bool] | None = None,
    ) -> None:
        self.name = f"file:{path}"
        self.needs = f"read access to {path}"
        self.due = now
        self._path = path
        self._pace = ReadPace(interval)
        self._wall = wall
        self._vouched = vouched
        self._elsewhere = elsewhere
        self._last_line = wall()
        self._compared = now
        self._stalled = False
        self._origin = RecordOrigin(self.name)
        self._at_end: float | None = None
        self._kept = False
        position = _position(cursor)
        self.looking_back = position is None and look_back is not None
        self._tail = Tail(path, position, at=wall(), look_back=look_back)

    @property
    def cursor(self) -> str:
        """The position of the next unread line."""
        return self._tail.position.to_json()

    def read(self, budget: int, now: float) -> Batch:
        """Return the new lines; see `agent.sources.source.Source`."""
        self.due = self._pace.next(now)
        try:
            lines = self._tail.read(budget, self._wall())
        except SourceError as error:
            raise unreadable(self._path) or error from error  # the first one says what to do
        if lines:
            self.due = self._pace.next(now, has_records=True)
        live = self._at_end is not None and now - self._at_end <= _LIVE_WITHIN
        if self._tail.at_end:
            self._at_end, self.looking_back = now, False
        else:
            self.due = now
        origin, vouched = self._origin, self._vouched
        records = [Record(text, origin, None, live, vouched, False, cut) for text, cut in lines]
        if records:
            self._last_line, self._stalled = self._wall(), False
        keep, self._kept = not self._kept, True
        return Batch(records, self.cursor, self._tail.take_lost(), more=not self._tail.at_end, keep=keep)

    def skip_to_end(self) -> None:
        """Skip the unread lines; ends a look back that takes too long."""
        self._tail.close()
        self._tail = Tail(self._path, at=self._wall())
        self.looking_back = False

    def check(self, now: float) -> tuple[SourceState, str] | None:
        """Return the problem if new lines cannot arrive or are missing; None without a problem."""
        problem = unreadable(self._path)
        if problem is not None:
            return problem.state, str(problem)
        if self._tail.stuck(self._wall() - _SILENT_AFTER):
            return "silent", f"{self._path} has text without an end of line: its writer does not write lines"
        if self._elsewhere is not None and now - self._compared >= _COMPARE_EVERY:
            self._compared, end = now, self._wall() - _SILENT_AFTER
            self._stalled = self._last_line < end and self._elsewhere(max(self._last_line, end - _LOOK_FOR), end)
        if self._stalled:
            return "silent", f"the journal has records of logins that did not reach {self._path}: does its writer run?"
        return None

    def close(self) -> None:
        """Close the file."""
        self._tail.close()


def unreadable(path: Path) -> SourceError | None:
    """Return the reason why this process cannot read a log file; None if it can."""
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC))
    except FileNotFoundError:
        return SourceError(f"there is no {path}; see that a syslog daemon writes it", "missing")
    except OSError as error:
        if error.errno == errno.EACCES:
            return SourceError(f"{path} cannot be read: add the guard's user to the file's group, such as adm")
        return SourceError(f"{path} cannot be read: {error.strerror}")
    return None


def _position(cursor: str | None) -> Position | None:
    try:
        return None if cursor is None else Position.from_json(cursor)
    except ValueError:
        return None
