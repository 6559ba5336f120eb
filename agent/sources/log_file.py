"""One open log file: from its bytes to complete lines, in bounded memory and without waiting."""

import errno
import hashlib
import json
import os
import stat
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from agent.sources.rotation import COMPRESSED, unpack, unpacked_head
from agent.sources.source import SourceError

MAX_LINES = 1_000
"""Lines returned by one `Tail.read`."""

MAX_BYTES = 1024 * 1024
"""Bytes read by one `Tail.read`."""

MAX_LINE = 16 * 1024
"""Bytes kept of one line; what is longer is cut."""

_CHUNK = 64 * 1024
_COUNTED = 1024 * 1024
_HEAD = 256


@dataclass(frozen=True, slots=True)
class Line:
    """One line without its newline; bytes that are not UTF-8 are replacement characters.

    Attributes:
        text: The line, or what there is of it.
        cut: The line's end is missing: it was longer than `MAX_LINE`, or its file was rotated away or truncated before
            the newline came. Whatever trusts the end of a line must not trust this one.
    """

    text: str
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Position:
    """The position of the next unread line, kept over restarts of the guard.

    The device number is left out: it may change at a reboot. The head tells a file from another one with the same
    inode.

    Attributes:
        inode: The file's inode; 0 if there was no file yet.
        offset: Bytes before the next unread line.
        head_size: How many of the file's first bytes `head` covers, at most `offset`.
        head: SHA-256 of these bytes, hex.
        at: When the file was read last, in epoch seconds; 0 if that is not known.
    """

    inode: int
    offset: int
    head_size: int
    head: str
    at: float = 0.0

    def to_json(self) -> str:
        """The position as one line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Reads what `to_json` wrote.

        Raises:
            ValueError: The text is not a position.
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
    """The lines of one `Tail.read`, within its budget of lines and bytes."""

    def __init__(self, max_lines: int = MAX_LINES) -> None:
        self.lines: list[Line] = []
        self.budget = MAX_BYTES
        self._max_lines = max_lines

    @property
    def full(self) -> bool:
        """Whether one of the budgets is spent."""
        return len(self.lines) >= self._max_lines or self.budget <= 0


class LogFile:
    """One open log file: from its bytes to lines."""

    def __init__(self, descriptor: int, inode: int | None = None) -> None:
        self._descriptor = descriptor
        self.inode = os.fstat(descriptor).st_ino if inode is None else inode
        self._offset = 0  # where the next unread line begins
        self._scanned = 0  # up to where bytes have been read: beyond the offset by the pending line
        self._pending = bytearray()  # the beginning of that line, at most MAX_LINE of it
        self._cut = False
        self._head = b""

    @classmethod
    def open(cls, path: Path, content: Position | None = None) -> Self | None:
        """Opens a regular file, at its beginning; None if there is none. A compressed file is unpacked.

        Args:
            path: The file.
            content: A compressed file that does not begin with the content of this position counts as none.

        Raises:
            SourceError: it cannot be opened, or is no regular file.
            OSError: it cannot be unpacked.
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
        """Closes it; it must not be used any more."""
        os.close(self._descriptor)

    def stat(self) -> os.stat_result:
        """The open file's own status, whatever its name is now."""
        return os.fstat(self._descriptor)

    @property
    def size(self) -> int:
        """Bytes in the file now."""
        return self.stat().st_size

    @property
    def position(self) -> Position:
        """The position of the next unread line."""
        return Position(self.inode, self._offset, len(self._head), _digest(self._head))

    @property
    def unread(self) -> int:
        """Bytes in the file that were not read yet."""
        return max(0, self.size - self._scanned)

    def resume(self, position: Position) -> bool:
        """Goes to a position, if it is one of this file; else stays at the beginning and says False."""
        return self.inode == position.inode and self._go_to_position(position)

    def resume_copy(self, position: Position) -> bool:
        """Goes to a position of another file, if this one begins with the same content; else returns False."""
        return position.head_size > 0 and self._go_to_position(position)

    def _go_to_position(self, position: Position) -> bool:
        head = os.pread(self._descriptor, position.head_size, 0)
        if self.size < position.offset or _digest(head) != position.head:
            return False
        self._go_to(position.offset)
        return True

    def go_back(self, lines: int) -> int:
        """Goes to the beginning of the last lines, at most `lines`; returns how many complete lines follow."""
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
        """Goes to the end, or to where an unfinished last line begins: it will be new when it is finished."""
        size = self.size
        tail = os.pread(self._descriptor, min(size, MAX_LINE), max(0, size - MAX_LINE))
        newline = tail.rfind(b"\n")
        unfinished = len(tail) - newline - 1
        self._go_to(size if newline < 0 and size > MAX_LINE else size - unfinished)

    def was_truncated(self) -> bool:
        """Whether the file is no longer the one read so far: shorter, or with another beginning."""
        return self.size < self._scanned or os.pread(self._descriptor, len(self._head), 0) != self._head

    def restart(self, buffer: LineBuffer) -> None:
        """Goes back to the beginning of a truncated file."""
        self.give_up_pending(buffer)
        self._head = b""
        self._go_to(0)

    def give_up_pending(self, buffer: LineBuffer) -> None:
        """Hands out, marked as cut, the line whose newline will never come."""
        if self._pending:
            self._cut = True
            buffer.lines.append(self._take_pending())

    def drain(self, buffer: LineBuffer) -> None:
        """Reads complete lines up to the end of the file or the buffer."""
        while not buffer.full:
            chunk = os.pread(self._descriptor, min(_CHUNK, buffer.budget), self._scanned)
            if not chunk:
                break
            buffer.budget -= len(chunk)
            self._split(chunk, buffer)
        if len(self._head) < min(_HEAD, self._offset):
            self._head = os.pread(self._descriptor, min(_HEAD, self._offset), 0)

    def _split(self, chunk: bytes, buffer: LineBuffer) -> None:
        begin = 0
        while (end := chunk.find(b"\n", begin)) >= 0:
            self._keep(chunk[begin:end])
            buffer.lines.append(self._take_pending())
            begin = end + 1
            self._offset = self._scanned + begin
            if buffer.full:  # the rest of the chunk is read again by the next call
                self._scanned = self._offset
                return
        self._keep(chunk[begin:])
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


def _digest(head: bytes) -> str:
    return hashlib.sha256(head).hexdigest()


NOWHERE = Position(inode=0, offset=0, head_size=0, head=_digest(b""))
"""The position in a file that is not there yet: when it is, all of it is new."""
