"""One open log file: reads complete lines in bounded memory, without blocking."""

import errno
import hashlib
import json
import os
import stat
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple, Self

from agent.sources.rotation import COMPRESSED, unpack, unpacked_head
from agent.sources.source import SourceError

MAX_LINES = 1_000
"""The maximum number of lines returned by one `Tail.read`."""

MAX_BYTES = 1024 * 1024
"""The maximum number of bytes read by one `Tail.read`."""

MAX_LINE = 16 * 1024
"""The maximum size of a line in bytes; longer lines are cut."""

_CHUNK = 64 * 1024
_COUNTED = 1024 * 1024
_HEAD = 256


class Line(NamedTuple):
    """One line without its newline; bytes that are not UTF-8 are replacement characters.

    Attributes:
        text: The line, or the part of it that was read.
        cut: The line's end is missing: it was longer than `MAX_LINE`, or its file was rotated away or truncated before
            the newline came. A parser must not rely on the end of such a line.
    """

    text: str
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Position:
    """The position of the next unread line, kept over restarts of the guard.

    The device number is omitted because it may change at a reboot. The head distinguishes files with the same inode.

    Attributes:
        inode: The file's inode; 0 if there was no file yet.
        offset: The number of bytes before the next unread line.
        head_size: The number of first bytes that `head` covers, at most `offset`.
        head: The SHA-256 of these bytes in hexadecimal.
        at: The time of the last read in epoch seconds; 0 if unknown.
    """

    inode: int
    offset: int
    head_size: int
    head: str
    at: float = 0.0

    def to_json(self) -> str:
        """Return the position as one line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the position from the output of `to_json`.

        Raises:
            ValueError: the text is not a position.
        """
        try:
            fields = json.loads(text)
            position = cls(**fields)
            numbers = (position.inode, position.offset, position.head_size)
            whole = all(type(number) is int and number >= 0 for number in numbers) and type(position.at) in (int, float)
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"not a position in a log file: {text[:200]!r}") from error
        if not whole or position.head_size > min(_HEAD, position.offset) or not isinstance(position.head, str):
            raise ValueError(f"not a position in a log file: {text[:200]!r}")
        return position


class LineBuffer:
    """Collects the lines of one `Tail.read`, within its budget of lines and bytes."""

    def __init__(self, max_lines: int = MAX_LINES) -> None:
        self.lines: list[Line] = []
        self.budget = MAX_BYTES
        self._max_lines = max_lines

    @property
    def full(self) -> bool:
        """Whether a budget is used up."""
        return len(self.lines) >= self._max_lines or self.budget <= 0

    @property
    def room(self) -> int:
        """The number of lines until the budget of lines is used up."""
        return self._max_lines - len(self.lines)


class LogFile:
    """One open log file, read as lines."""

    def __init__(self, descriptor: int, inode: int | None = None) -> None:
        self._descriptor = descriptor
        self.inode = os.fstat(descriptor).st_ino if inode is None else inode
        self._offset = 0  # the start of the next unread line
        self._scanned = 0  # the end of the bytes read: the offset plus the pending line
        self._pending = bytearray()  # the beginning of that line, at most MAX_LINE bytes
        self._cut = False
        self._head = b""

    @classmethod
    def open(cls, path: Path, content: Position | None = None) -> Self | None:
        """Open a regular file at its beginning; return None if there is none. A compressed file is unpacked.

        Args:
            path: The file.
            content: A compressed file that does not begin with the content of this position is treated as missing.

        Raises:
            SourceError: the file cannot be opened, or is not a regular file.
            OSError: the file cannot be unpacked.
        """
        try:
            # Not blocking: to open a named pipe would wait for its writer. Not following: whoever may write to a log's
            # folder must not choose which file a guard reads as root.
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise SourceError(f"{path} is a symbolic link: name the file it points to") from error
            raise SourceError(f"{path} cannot be opened: {error.strerror}") from error
        file = cls(descriptor)
        if not stat.S_ISREG(file.stat().st_mode):
            file.close()
            raise SourceError(f"{path} is not a regular file: name a log file")
        if path.suffix not in COMPRESSED:
            return file
        try:
            if content is not None:
                head = unpacked_head(file._descriptor, path.suffix, content.head_size)
                if _digest(head) != content.head:
                    return None
            return cls(unpack(file._descriptor, path.suffix), file.inode)
        finally:
            file.close()

    def close(self) -> None:
        """Close the file; it must not be used any more."""
        os.close(self._descriptor)

    def stat(self) -> os.stat_result:
        """Return the status of the open file, which may have been renamed."""
        return os.fstat(self._descriptor)

    @property
    def size(self) -> int:
        """The current size of the file in bytes."""
        return self.stat().st_size

    @property
    def position(self) -> Position:
        """The position of the next unread line."""
        return Position(self.inode, self._offset, len(self._head), _digest(self._head))

    @property
    def unread(self) -> int:
        """The number of unread bytes in the file."""
        return max(0, self.size - self._scanned)

    def resume(self, position: Position) -> bool:
        """Go to a position of this file; return False and stay at the beginning if the position is in another file."""
        return self.inode == position.inode and self._go_to_position(position)

    def resume_copy(self, position: Position) -> bool:
        """Go to a position of another file if both files begin with the same content; else return False."""
        return position.head_size > 0 and self._go_to_position(position)

    def _go_to_position(self, position: Position) -> bool:
        head = os.pread(self._descriptor, position.head_size, 0)
        if self.size < position.offset or _digest(head) != position.head:
            return False
        self._go_to(position.offset)
        return True

    def go_back(self, lines: int) -> int:
        """Go to the beginning of the last lines, at most `lines`; return the number of complete lines that follow."""
        found, end = 0, self.size
        while end > 0:
            begin = max(0, end - _COUNTED)
            chunk = os.pread(self._descriptor, end - begin, begin)
            newlines = chunk.count(b"\n")
            if found + newlines > lines:
                place = len(chunk)
                for _ in range(lines + 1 - found):
                    place = chunk.rfind(b"\n", 0, place)
                self._go_to(begin + place + 1)
                return lines
            found += newlines
            end = begin
        self._go_to(0)
        return found

    def skip_to_last_line(self) -> None:
        """Go to the end, or to the beginning of an unfinished last line, which is read when it is complete."""
        size = self.size
        tail = os.pread(self._descriptor, min(size, MAX_LINE), max(0, size - MAX_LINE))
        newline = tail.rfind(b"\n")
        unfinished = len(tail) - newline - 1
        self._go_to(size if newline < 0 and size > MAX_LINE else size - unfinished)

    def was_truncated(self) -> bool:
        """Return whether the file was truncated: it is shorter, or its beginning has changed."""
        return self.size < self._scanned or os.pread(self._descriptor, len(self._head), 0) != self._head

    def restart(self, buffer: LineBuffer) -> None:
        """Go back to the beginning of a truncated file."""
        self.give_up_pending(buffer)
        self._head = b""
        self._go_to(0)

    def give_up_pending(self, buffer: LineBuffer) -> None:
        """Add the pending line, whose newline will never come, marked as cut."""
        if self._pending:
            self._cut = True
            buffer.lines.append(self._take_pending())

    def drain(self, buffer: LineBuffer) -> None:
        """Read complete lines up to the end of the file or until the buffer is full."""
        while not buffer.full:
            chunk = os.pread(self._descriptor, min(_CHUNK, buffer.budget), self._scanned)
            if not chunk:
                break
            buffer.budget -= len(chunk)
            self._split(chunk, buffer)
        if len(self._head) < min(_HEAD, self._offset):
            self._head = os.pread(self._descriptor, min(_HEAD, self._offset), 0)

    def _split(self, chunk: bytes, buffer: LineBuffer) -> None:
        *pieces, rest = chunk.split(b"\n", buffer.room)
        if pieces:
            self._keep(pieces[0])
            buffer.lines.append(self._take_pending())
            buffer.lines += _lines(pieces[1:])
            self._offset = self._scanned + len(chunk) - len(rest)
        if buffer.room <= 0:  # the rest of the chunk is read again by the next call
            self._scanned = self._offset
            return
        self._keep(rest)
        self._scanned += len(chunk)

    def _keep(self, piece: bytes) -> None:
        room = MAX_LINE - len(self._pending)
        self._pending += piece[:room]
        self._cut = self._cut or len(piece) > room

    def _take_pending(self) -> Line:
        line = Line(self._pending.decode(errors="replace"), self._cut)
        self._pending.clear()
        self._cut = False
        return line

    def _go_to(self, offset: int) -> None:
        self._offset = self._scanned = offset
        self._head = os.pread(self._descriptor, min(_HEAD, offset), 0)


def _lines(pieces: list[bytes]) -> list[Line]:
    if max(map(len, pieces), default=0) > MAX_LINE:
        return [Line(piece[:MAX_LINE].decode(errors="replace"), len(piece) > MAX_LINE) for piece in pieces]
    # In UTF-8 no character contains the byte of a newline, so the lines can be decoded together.
    return list(map(Line, b"\n".join(pieces).decode(errors="replace").split("\n"))) if pieces else []


def _digest(head: bytes) -> str:
    return hashlib.sha256(head).hexdigest()


NOWHERE = Position(inode=0, offset=0, head_size=0, head=_digest(b""))
"""The position in a missing file: all content of a later file is new."""
