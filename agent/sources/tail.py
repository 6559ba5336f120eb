"""Follows a log file through rotations and restarts of the guard; returns each line once and in order."""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from agent.sources.log_file import MAX_LINES, NOWHERE, Line, LineBuffer, LogFile, Position
from agent.sources.rotation import RotatedFile, rotated_files
from agent.sources.source import LOOK_BACK_RECORDS, SourceError

# Seconds by which a file's modification time may lag behind the clock, because the kernel's clock is coarse.
_CLOCK_GRAIN = 0.02


class Tail:
    """Follows one log file from `position`, or without one from its end.

    - Rotation by rename: the old file is read until the new one has its first byte, because a writer uses the old one
      until it reopens the log, and then once more to its end. Rotated files (numbered or dated, compressed or not)
      that were made in between are read in order.
    - copytruncate: lines that were unread at the truncation are read from the copy, then the file from its beginning.
    - A file that does not exist yet is read from its beginning as soon as it does.
    - After a restart the file of `position` is found under its rotated name, as a copy, or compressed.

    `lost` describes each gap: lines that can no longer be read.

    Args:
        path: The log file.
        position: The `Tail.position` of an earlier run, None at the first start.
        at: Current time in epoch seconds; see `read`.
        look_back: At the first start, seconds since 1970: rotated files that changed later, and the log itself, are
            read from their beginning.
        most: At the first start, the maximum number of lines to read back: the newest ones.

    Raises:
        SourceError: The path is a symbolic link, not a regular file, or not readable.
    """

    def __init__(
        self,
        path: Path,
        position: Position | None = None,
        *,
        at: float = 0.0,
        look_back: float | None = None,
        most: int = LOOK_BACK_RECORDS,
    ) -> None:
        self._path = path
        self._at_rest = NOWHERE
        self._read_at = at if position is None else position.at
        self._unread = 0  # bytes that were in the file and not read when the last `read` returned
        self.at_end = False
        self.lost: list[str] = []
        try:
            if position is not None:
                self._file = self._resume(position)
            elif look_back is not None:
                self._file = self._begin_at(look_back, most)
            else:
                self._file = LogFile.open(path)
                if self._file is not None:
                    self._file.skip_to_last_line()
        except OSError as error:
            raise SourceError(f"{path} cannot be followed: {error}") from error

    @property
    def position(self) -> Position:
        """The position of the next unread line; store it after the lines that `read` returned were processed."""
        if self._file is None:
            return replace(self._at_rest, at=self._read_at)
        return replace(self._file.position, at=self._read_at)

    def read(self, max_lines: int = MAX_LINES, at: float = 0.0) -> list[Line]:
        """Return the complete lines that are new: at most `max_lines` from at most `MAX_BYTES`; empty for none.

        Afterwards `at_end` tells whether the end of the newest file was reached.

        Args:
            max_lines: The largest number of lines to return.
            at: Current time in epoch seconds, stored in the position to recognise files that were written later.

        Raises:
            SourceError: The file at the path cannot be read now. Nothing is lost; a later call tries again.
        """
        buffer = LineBuffer(max_lines)
        try:
            if self._file is not None and self._file.was_truncated():
                self._file = self._after_truncation(self._file, buffer)
            while not buffer.full:
                if self._file is not None:
                    self._file.drain(buffer)
                if buffer.full or not self._go_on(buffer):
                    break
            self._unread = 0 if self._file is None else self._file.unread
        except (OSError, SourceError) as error:
            self.at_end = False
            if buffer.lines:  # return the lines; the next call will get the error again
                return buffer.lines
            if isinstance(error, SourceError):
                raise
            raise SourceError(f"{self._path} cannot be followed: {error}") from error
        self.at_end = not buffer.full
        self._read_at = at
        return buffer.lines

    def stuck(self, since: float) -> bool:
        """Return whether the newest file has had an incomplete last line since a time in epoch seconds."""
        if self._file is None or not self.at_end:
            return False
        state = self._file.stat()
        return state.st_mtime < since and state.st_size > self._file.position.offset

    def take_lost(self) -> list[str]:
        """Return and clear the found gaps."""
        lost, self.lost = self.lost, []
        return lost

    def close(self) -> None:
        """Close the file. `position` stays."""
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

    def _begin_at(self, since: float, most: int) -> LogFile | None:
        """Open the oldest file of the look back, at the line after which at most `most` lines follow."""
        recent = [other.path for other in rotated_files(self._path) if other.modified >= since]
        oldest: LogFile | None = None
        for path in (self._path, *reversed(recent)):
            file = _open_quietly(path) if path != self._path else LogFile.open(path)
            if file is None:
                continue
            if oldest is not None:
                oldest.close()
            oldest = file
            most -= file.go_back(most)
            if most <= 0:
                break
        return oldest

    def _resume(self, position: Position) -> LogFile | None:
        """Open the file of a position at that position; if it is gone, open its successor at the beginning."""
        rotated = rotated_files(self._path)
        for path in (self._path, *self._renamed(position.inode)):
            file = LogFile.open(path)
            if file is not None:
                if file.resume(position):
                    return file
                file.close()
        copy = _find_copy(rotated, position)
        if copy is not None:
            return copy
        # A rotated file with the inode and other contents was truncated, or made after the one that was read had
        # gone: all of it is new, and it came before the file at the path.
        unread = next((other.path for other in rotated if other.inode == position.inode), None)
        if unread is None and position.inode:
            if position.at:
                unread = next((other.path for other in rotated if other.modified > position.at - _CLOCK_GRAIN), None)
            if unread is None or position.offset:
                self._lose("the file that was read last is gone; lines written to it after the guard stopped are lost")
        return (None if unread is None else _open_quietly(unread)) or LogFile.open(self._path)

    def _renamed(self, inode: int) -> Iterator[Path]:
        """Yield the regular files with this inode whose names begin with the log's name."""
        with suppress(FileNotFoundError), os.scandir(self._path.parent) as entries:
            for entry in entries:
                if entry.name.startswith(self._path.name) and entry.name != self._path.name and entry.inode() == inode:
                    yield self._path.with_name(entry.name)

    def _after_truncation(self, file: LogFile, buffer: LineBuffer) -> LogFile:
        """Return the copy made by copytruncate, at the position where reading ended; else the file at its beginning."""
        copy = _find_copy(rotated_files(self._path), file.position)
        if copy is not None:
            file.close()
            return copy
        if self._unread:
            self._lose(f"it was truncated with {self._unread} bytes unread")
        file.restart(buffer)
        return file

    def _lose(self, gap: str) -> None:
        self.lost.append(f"{self._path}: {gap}")

    def _go_on(self, buffer: LineBuffer) -> bool:
        """Open the next file after the current one was read to its end; return False if there is none yet."""
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
            self._file.drain(buffer)  # lines that the writer added before the file was rotated
            if not buffer.full:
                self._file.give_up_pending(buffer)
                self._file.close()
                self._file = following
                return True
        following.close()
        return False

    def _successor(self, file: LogFile) -> Path | None:
        """Return the path of the file that follows this one; None while this one is the newest."""
        try:
            if os.path.samestat(self._path.lstat(), file.stat()):
                return None
        except FileNotFoundError:
            pass  # renamed, and the new file does not exist yet; there may still be rotated files in between
        rotated = rotated_files(self._path)
        own = next((place for place, other in enumerate(rotated) if other.inode == file.inode), None)
        if own is None:  # the file was compressed or removed
            own = next((place for place, other in enumerate(rotated) if _has_content(other, file.position)), None)
        return self._path if own is None or own + 1 == len(rotated) else rotated[own + 1].path


def _find_copy(rotated: list[RotatedFile], position: Position) -> LogFile | None:
    """Open the newest rotated file with the content of a position and another inode, a copied or compressed one."""
    if not position.head_size:
        return None
    for other in reversed(rotated):
        file = _open_quietly(other.path, position)
        if file is not None:
            if file.resume_copy(position):
                return file
            file.close()
    return None


def _has_content(rotated: RotatedFile, position: Position) -> bool:
    """Return whether a rotated file begins with the content of a position."""
    found = _find_copy([rotated], position)
    if found is not None:
        found.close()
    return found is not None


def _open_quietly(path: Path, content: Position | None = None) -> LogFile | None:
    """Open a rotated file; return None if it cannot be read, because a damaged archive must not stop the source."""
    with suppress(OSError, SourceError):
        return LogFile.open(path, content)
    return None
