"""Files of the data directory: replaced atomically, and used as the directory's owner where root asks."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def as_owner(directory: Path) -> Iterator[None]:
    """Run the block with the rights of a data directory's owner where root asks; for any other user nothing changes.

    The owner can put a link to any file of the host into its directory, which root would follow.

    Raises:
        StorageError: the rights cannot be given up.
    """
    owner = foreign_owner(directory)
    if owner is None:
        yield
        return
    groups, group = os.getgroups(), os.getegid()
    try:
        try:
            os.setgroups([])
            os.setegid(owner.st_gid)
            os.seteuid(owner.st_uid)
        except OSError as error:
            reason = f"root cannot take the rights of its owner here ({error.strerror}): run this as that user"
            raise StorageError(directory, reason) from error
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)


def foreign_owner(directory: Path) -> os.stat_result | None:
    """Return the state of a data directory that belongs to another user than root, where root asks; else None.

    Raises:
        StorageError: the directory cannot be looked at.
    """
    try:
        state = directory.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(directory, error.strerror or str(error)) from error
    return state if os.geteuid() == 0 and state.st_uid != 0 else None


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
