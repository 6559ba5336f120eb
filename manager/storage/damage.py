"""Detects a damaged store: by SQLite's error codes, by `PRAGMA quick_check`, and by the checksums in the WAL."""

import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

from manager.errors import StoreDamaged
from manager.storage.location import StoreLocation

_DAMAGE_CODES = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_PRIMARY = 0xFF
_WORDS = ("Could not decode to UTF-8", "unsupported file format")
_DETAIL = 200

_WAL_HEADER_SIZE, _FRAME_HEADER_SIZE = 32, 24
_WAL_MAGIC = (0x377F0682, 0x377F0683)
_MASK = 0xFFFFFFFF
_PAGE_SIZES = tuple(1 << power for power in range(9, 17))
_LAST_FRAME = struct.Struct("=I")
_LAST_FRAME_OFFSET = 16
"""Offset of the number of valid frames in the header of the WAL index (the `-shm` file)."""


def is_damage(error: BaseException) -> bool:
    """Return whether an error, or one of its causes, is SQLite's report of a damaged file.

    Two kinds of damage have no error code: text that is not UTF-8, and an unknown schema format.
    """
    return any(
        code_of(each) in _DAMAGE_CODES or (isinstance(each, sqlite3.OperationalError) and str(each).startswith(_WORDS))
        for each in chain(error)
    )


def code_of(error: BaseException) -> int:
    """Return SQLite's primary error code; 0 for an error without a code."""
    return int(getattr(error, "sqlite_errorcode", 0)) & _PRIMARY


def chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and its causes, the first cause last."""
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__ or found.__context__


def damaged(store: StoreLocation, detail: str) -> StoreDamaged:
    """Return the error for a damaged store, with the same message everywhere."""
    if not isinstance(store, Path):
        return StoreDamaged(
            f"the database {store} is damaged ({detail[:_DETAIL]}): stop all managers on it and put a backup in its "
            "place; guards keep unconfirmed reports until then"
        )
    return StoreDamaged(
        f"the store {store} is damaged ({detail[:_DETAIL]}): stop the manager, keep the file with its -wal and -shm, "
        "and put a backup in its place; guards keep unconfirmed reports until then"
    )


def is_empty(path: Path) -> bool:
    """Return whether a file is too short for a single page, so that SQLite would treat it as a new database."""
    return path.stat().st_size < _PAGE_SIZES[0]


def has_wal(path: Path) -> bool:
    """Return whether a store has a WAL that is not empty."""
    wal = path.with_name(f"{path.name}-wal")
    return wal.exists() and wal.stat().st_size > 0


def check_files(path: Path, *, used: bool) -> str | None:
    """Return a description of damage that opening the store with SQLite would hide; None without any.

    Args:
        path: the store's file.
        used: whether a manager has used the store before; then it cannot be empty.
    """
    if not path.exists():
        return None
    if is_empty(path):  # to SQLite a new store, whose WAL it deletes
        return "the file is empty" if used or has_wal(path) else None
    return wal_damage(path)


def quick_check(path: Path) -> str | None:
    """Return the first damage that `PRAGMA quick_check` finds in a store's file; None if it finds none.

    Raises:
        sqlite3.OperationalError: the file cannot be read.
    """
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        try:
            (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.DatabaseError as error:
            if is_damage(error):
                return str(error)
            raise
    return None if found == "ok" else " ".join(str(found).split())


def wal_damage(path: Path) -> str | None:
    """Return a description of committed transactions in the WAL that SQLite would ignore; None without any.

    SQLite reads the WAL up to the first frame with a wrong checksum, because a crash may tear the last transaction. If
    two or more transactions of the same generation end after that frame, the cause was no crash: each transaction is on
    disk before the next one begins. Opening the store for writing would overwrite the ignored transactions.
    """
    wal = path.with_name(f"{path.name}-wal")
    if not wal.exists() or wal.stat().st_size <= _WAL_HEADER_SIZE + _FRAME_HEADER_SIZE:
        return None
    with wal.open("rb") as file:
        header = file.read(_WAL_HEADER_SIZE)
        if not _header_is_valid(header):  # it is on disk before the first frame is
            return f"the header of {wal.name} is not valid"
        commits = _commit_frames(file, header)
    if len(commits) < 2:  # noqa: PLR2004 -- the last transaction may be torn
        return None
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        try:
            connection.execute("BEGIN")
            connection.execute("SELECT 1 FROM sqlite_master").fetchone()
            index = path.with_name(f"{path.name}-shm").read_bytes()
        except sqlite3.DatabaseError:
            return None  # the store itself says what is wrong with it
    (valid,) = _LAST_FRAME.unpack_from(index, _LAST_FRAME_OFFSET)
    lost = sum(frame > valid for frame in commits)
    return f"{lost} committed transactions in {wal.name} cannot be read" if lost > 1 else None


def _commit_frames(file: BinaryIO, header: bytes) -> list[int]:
    """Return the numbers of the frames that end a transaction of the WAL's current generation, counted from 1."""
    page_size, generation = int.from_bytes(header[8:12], "big"), header[16:24]
    commits: list[int] = []
    number = 0
    while len(frame := file.read(_FRAME_HEADER_SIZE)) == _FRAME_HEADER_SIZE:
        number += 1
        if any(frame[4:8]) and frame[8:16] == generation:  # the size of the database after a commit
            commits.append(number)
        file.seek(page_size, 1)
    return commits


def _header_is_valid(header: bytes) -> bool:
    """Return whether a WAL header has its magic number and its checksum (https://sqlite.org/fileformat.html, 4.2)."""
    magic, *_ = struct.unpack(">I", header[:4])
    if magic not in _WAL_MAGIC or int.from_bytes(header[8:12], "big") not in _PAGE_SIZES:
        return False
    words = struct.unpack(f"{'>' if magic & 1 else '<'}6I", header[:24])
    first = second = 0
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & _MASK
        second = (second + odd + first) & _MASK
    return struct.unpack(">2I", header[24:32]) == (first, second)
