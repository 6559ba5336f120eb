"""A file that holds disk space, so that the database can still be checkpointed once when the disk is full."""

import os
from contextlib import suppress
from pathlib import Path

from agent.logs import EventLog

_log = EventLog("disk_reserve")

RESERVE = "disk.reserve"
"""The file's name in the data directory."""

SIZE = 5 * 1024 * 1024
"""Bytes: more than the WAL has before SQLite's own checkpoint at 1,000 pages."""


class DiskReserve:
    """The reserve of one data directory.

    Args:
        path: The file.
        size: Its size in bytes; 0 for no reserve.
    """

    def __init__(self, path: Path, size: int = SIZE) -> None:
        self._path = path
        self._size = size

    def fill(self) -> None:
        """Allocate the file if it is missing and there is room for twice its size."""
        with suppress(OSError):
            status = os.statvfs(self._path.parent)
            if not self._size or self._path.exists() or status.f_bavail * status.f_frsize < 2 * self._size:
                return
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, self._size)
            except OSError as error:
                _log.warning("disk_reserve_not_allocated", reason=error.strerror)
                self._path.unlink()
            finally:
                os.close(descriptor)

    def release(self) -> None:
        """Give the space back."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
