"""Limited reading of files that commands take: a device or pipe without an end is an error."""

import sys
from pathlib import Path

LARGEST = 8 * 2**20
"""The largest file, in bytes."""


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
        content = sys.stdin.buffer.read(LARGEST + 1)
    else:
        with file.open("rb") as opened:
            content = opened.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise InputTooLargeError
    return str(content, "utf-8")
