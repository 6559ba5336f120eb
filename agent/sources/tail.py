"""Follows a log file: each line once and in order, through rotation and through restarts of the guard."""

import os
import re
from pathlib import Path
from types import TracebackType
from typing import Self

from agent.sources.log_file import MAX_LINES, NOWHERE, Line, LineBuffer, LogFile, Position
from agent.sources.source import SourceError

_NUMBER = re.compile(r"\.[1-9]\d{0,5}", re.ASCII)


class Tail:
    """Follows one log file from `position`, or where there is none, from its end.

    - Rotation by rename: the old file is read until the new one has its first byte, for a writer goes on with the old
      one until it is told to reopen, and then once more to its end. Files named `path.1`, `path.2`, … that went by
      in between are read in their turn, as long as they are not compressed.
    - Truncation in place (copytruncate) and a file put in the place of another: read from the beginning. What was
      truncated before it was read is lost; copytruncate cannot be followed better.
    - A file that does not exist yet is read from its beginning as soon as it does.
    - After a restart the file of `position` is found under its rotated name too.

    Args:
        path: The log file.
        position: What `Tail.position` gave in an earlier run, None at the first start.
        from_start: At the first start, read what is there already.

    Raises:
        SourceError: The path is a symbolic link, not a regular file, or not readable.
    """

    def __init__(self, path: Path, position: Position | None = None, *, from_start: bool = False) -> None:
        self._path = path
        self._at_rest = NOWHERE
        self.at_end = False
        try:
            self._file = LogFile.open(path) if position is None else self._resume(position)
            if self._file is not None and position is None and not from_start:
                self._file.skip_to_last_line()
        except OSError as error:
            raise SourceError(f"{path} cannot be followed: {error}") from error

    @property
    def position(self) -> Position:
        """Where the next unread line begins: keep it once what `read` returned has been dealt with."""
        return self._at_rest if self._file is None else self._file.position

    def read(self, max_lines: int = MAX_LINES) -> list[Line]:
        """Return the complete lines that are new: at most `max_lines` from at most `MAX_BYTES`; empty for none.

        `at_end` says afterwards whether the end of the newest file was reached.

        Raises:
            SourceError: What is now at the path cannot be read. Nothing is lost; a later call tries again.
        """
        buffer = LineBuffer(max_lines)
        try:
            if self._file is not None and self._file.was_truncated():
                self._file.restart(buffer)
            while not buffer.full:
                if self._file is not None:
                    self._file.drain(buffer)
                if buffer.full or not self._go_on(buffer):
                    break
        except (OSError, SourceError) as error:
            self.at_end = False
            if buffer.lines:  # hand them out; the next call will meet the error again
                return buffer.lines
            if isinstance(error, SourceError):
                raise
            raise SourceError(f"{self._path} cannot be followed: {error}") from error
        self.at_end = not buffer.full
        return buffer.lines

    def close(self) -> None:
        """Closes the file. `position` stays."""
        if self._file is not None:
            self._at_rest = self._file.position
            self._file.close()
            self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _resume(self, position: Position) -> LogFile | None:
        """The file of a position, at that position; else, as a new one, what is at the path now."""
        rotated = [path for path, inode in self._siblings() if inode == position.inode]
        for path in (self._path, *rotated):
            file = LogFile.open(path)
            if file is not None:
                if file.resume(position):
                    return file
                file.close()
        # A numbered file with the inode and other contents was truncated, or made after the one that was read had
        # gone: all of it is new, and it came before what is at the path.
        unread = next((path for path in rotated if self._number(path)), self._path)
        return LogFile.open(unread)

    def _go_on(self, buffer: LineBuffer) -> bool:
        """Having read the file to its end, moves on to the one after it; False if there is none yet."""
        if self._file is None:
            self._file = LogFile.open(self._path)
            return self._file is not None
        path = self._successor(self._file)
        following = None if path is None else LogFile.open(path)
        if following is None:
            return False
        moved_meanwhile = self._successor(self._file) != path
        writer_still_here = path == self._path and following.size == 0
        if not moved_meanwhile and not writer_still_here:
            self._file.drain(buffer)  # what the writer added before it went
            if not buffer.full:
                self._file.give_up_pending(buffer)
                self._file.close()
                self._file = following
                return True
        following.close()
        return False

    def _successor(self, file: "LogFile") -> Path | None:
        """The path of the file that was begun after this one; None while this one is the newest."""
        try:
            if os.path.samestat(self._path.lstat(), file.stat()):
                return None
        except FileNotFoundError:
            pass  # renamed, and the new one not made yet; there may be numbered ones in between all the same
        numbered = {number: (path, inode) for path, inode in self._siblings() if (number := self._number(path))}
        inode = file.stat().st_ino
        own = max((number for number, (_, other) in numbered.items() if other == inode), default=0)
        newer = max((number for number in numbered if number < own), default=0)
        return numbered[newer][0] if newer else self._path

    def _number(self, path: Path) -> int:
        """How many rotations ago a file was the log, from its name (`path.1`, `path.2`, …); 0 if it has no number."""
        numbered = path.stem == self._path.name and _NUMBER.fullmatch(path.suffix)
        return int(path.suffix[1:]) if numbered else 0

    def _siblings(self) -> list[tuple[Path, int]]:
        """The regular files beside the log that share the beginning of its name, with their inodes."""
        found: list[tuple[Path, int]] = []
        try:
            with os.scandir(self._path.parent) as entries:
                for entry in entries:
                    rotated = entry.name.startswith(self._path.name) and entry.name != self._path.name
                    if rotated and entry.is_file(follow_symlinks=False):
                        found.append((self._path.with_name(entry.name), entry.stat(follow_symlinks=False).st_ino))
        except FileNotFoundError:
            pass  # the folder is not there yet, or a file went while we looked: the next call looks again
        return found
