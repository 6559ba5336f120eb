"""Atomic replacement of private files (mode 0600) in the data directory."""

import os
from pathlib import Path

from agent.errors import StorageError


def write_private(path: Path, content: bytes, *, durable: bool) -> None:
    """Replace a file atomically by one with `content` and mode 0600.

    Args:
        path: The file.
        content: The complete content.
        durable: Return only when the file is on the disk.

    Raises:
        StorageError: the file cannot be written; the old one is unchanged.
    """
    fresh = path.with_name(path.name + ".new")
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        fresh.replace(path)
        if durable:
            _sync_folder(path.parent)
    except OSError as error:
        raise StorageError(path, error.strerror or str(error)) from error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
