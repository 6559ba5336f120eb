"""Limited reading of files that commands take: a device or pipe without an end is an error."""

import sys
from pathlib import Path
from typing import BinaryIO

LARGEST = 8 * 2**20
"""The largest file, in bytes."""

_PIECE = 64 * 2**10


class InputTooLargeError(ValueError):
    """The input is larger than 8 MiB; nothing of it is used."""

    def __init__(self) -> None:
        super().__init__(f"it is larger than {LARGEST // 2**20} MiB: split it")


def read_text(file: Path) -> str:
    """Return the text of a file, or of standard input for ``-``.

    Raises:
        OSError: it cannot be read.
        UnicodeDecodeError: it is not UTF-8.
        InputTooLargeError: it is larger than `LARGEST`.
    """
    if str(file) == "-":
        return _read(sys.stdin.buffer)
    with file.open("rb") as opened:
        return _read(opened)


def _read(opened: BinaryIO) -> str:
    content = bytearray()
    while piece := opened.read(_PIECE):  # one large read would take its whole size at once
        content += piece
        if len(content) > LARGEST:
            raise InputTooLargeError
    return str(content, "utf-8")
