"""Finds the rotated files of a log, oldest first, and unpacks compressed ones."""

import bz2
import gzip
import lzma
import os
import re
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

LARGEST = 256 * 1024 * 1024
"""The maximum number of bytes unpacked from a compressed file; the rest is counted as lost."""

_NUMBERED = re.compile(r"\.(?P<number>[1-9]\d{0,5})", re.ASCII)
_DATED = re.compile(r"[-._](?P<date>\d{8}|\d{4}-\d\d-\d\d|\d{9,11})(?P<rest>(?:[-._T]?\d{2,10})*)", re.ASCII)
_OPENERS: dict[str, Callable[[IO[bytes]], Any]] = {
    ".gz": lambda file: gzip.GzipFile(fileobj=file),
    ".bz2": bz2.BZ2File,
    ".xz": lzma.LZMAFile,
}
COMPRESSED = (*_OPENERS, ".zst", ".Z", ".lz4")
"""The extensions of compressed files; the last three are recognised but cannot be unpacked."""
_CHUNK = 256 * 1024


@dataclass(frozen=True, slots=True, order=True)
class RotatedFile:
    """One rotated file. Files compare by age, the oldest first.

    Attributes:
        age: The position in the order of rotations.
        path: The file.
        inode: The file's inode.
    """

    age: tuple[int, str]
    path: Path
    inode: int

    @property
    def compressed(self) -> bool:
        """Whether the file's extension is that of a compressed file."""
        return self.path.suffix in COMPRESSED

    @property
    def modified(self) -> float:
        """The epoch seconds of the file's last change; 0 if it is gone."""
        try:
            return self.path.lstat().st_mtime
        except OSError:
            return 0.0


def rotated_files(log: Path) -> list[RotatedFile]:
    """Return the rotated files of a log, the oldest first.

    Both schemes of logrotate are supported: numbers (``auth.log.1``, ``auth.log.2.gz``) and dates
    (``auth.log-20240301``). Other files whose names begin with the log's name are ignored.

    Raises:
        OSError: the folder cannot be read.
    """
    found = []
    try:
        with os.scandir(log.parent) as entries:
            for entry in entries:
                age = _age(entry.name.removeprefix(log.name)) if entry.name.startswith(log.name) else None
                if age is not None and entry.is_file(follow_symlinks=False):
                    inode = entry.stat(follow_symlinks=False).st_ino
                    found.append(RotatedFile(age, log.with_name(entry.name), inode))
    except FileNotFoundError:
        return []  # the folder does not exist yet, or a file disappeared during the scan; the next call scans again
    return sorted(found)


def _age(suffix: str) -> tuple[int, str] | None:
    """Return the position of a file's suffix in the order of rotations; None for a suffix of another kind."""
    for extension in COMPRESSED:
        suffix = suffix.removesuffix(extension)
    numbered = _NUMBERED.fullmatch(suffix)
    if numbered:
        return (1_000_000 - int(numbered["number"]), "")
    dated = _DATED.fullmatch(suffix)
    return None if dated is None else (0, dated["date"].replace("-", "") + dated["rest"])


def unpacked_head(descriptor: int, suffix: str, size: int) -> bytes:
    """Return the first bytes of a compressed file's content, at most `size`.

    Raises:
        OSError: see `unpack`.
    """
    with _open_content(descriptor, suffix) as source:
        return _read(source, size)


def unpack(descriptor: int, suffix: str) -> int:
    """Unpack a file into an unnamed temporary file, at most `LARGEST` bytes, and return its descriptor.

    Args:
        descriptor: The compressed file, which is read from its beginning and left open.
        suffix: The file's extension, such as ``.gz``.

    Raises:
        OSError: the compression is not supported, or the file is damaged.
    """
    with tempfile.TemporaryFile() as content, _open_content(descriptor, suffix) as source:
        size = 0
        while size < LARGEST and (chunk := _read(source, _CHUNK)):
            size += content.write(chunk)
        content.flush()
        return os.dup(content.fileno())


@contextmanager
def _open_content(descriptor: int, suffix: str) -> Iterator[Any]:
    opener = _OPENERS.get(suffix)
    if opener is None:
        raise OSError(f"files compressed as {suffix} are not supported")
    with os.fdopen(os.dup(descriptor), "rb") as packed:
        packed.seek(0)
        with opener(packed) as source:
            yield source


def _read(source: Any, size: int) -> bytes:
    try:
        return bytes(source.read(size))
    except (EOFError, lzma.LZMAError, zlib.error) as error:
        raise OSError(f"it is damaged: {error}") from error
