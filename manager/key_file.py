"""The key file: 32 bytes in hexadecimal that seal the secrets in the store, readable by their owner only."""

import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from manager.errors import SetupError

_LENGTH = 32
_MOST = 4096
"""Bytes that are read of a file; a key has 65."""


class KeyFile:
    """The key file at one path.

    A symbolic link is followed; the mode and owner of the file that it leads to count.

    Args:
        path: the file; its mode is 0600 or 0400, and it belongs to the user of this process or to root.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def next(self) -> "KeyFile":
        """The file with the next key, which a rotation writes before it seals with it; beside the file, not a link."""
        target = self._target
        return KeyFile(target.with_name(f"{target.name}.next"))

    @property
    def _target(self) -> Path:
        return self.path.resolve()

    def read(self) -> bytes | None:
        """Return the key; None without a file.

        Raises:
            SetupError: the file is damaged, is not a file, belongs to another user, or can be read by others.
        """
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SetupError(f"the key file {self.path} cannot be read: {error.strerror}") from error
        try:
            self._check(os.fstat(descriptor))
            content = os.read(descriptor, _MOST)
        finally:
            os.close(descriptor)
        with suppress(ValueError):
            key = bytes.fromhex(content.decode("ascii").strip())
            if len(key) == _LENGTH:
                return key
        raise SetupError(
            f"the key file {self.path} is damaged: it holds no 32 bytes in hexadecimal; put it back from a backup, or,"
            " if no store was ever sealed with it, move it aside, and the next start creates another"
        )

    def create(self, key: bytes | None = None) -> bytes:
        """Write a key, durable when this returns, and return it; an existing file is never replaced.

        The file appears whole or not at all.

        Args:
            key: 32 bytes; by default new random ones.

        Raises:
            SetupError: there is a file, or a link, with this name, or it cannot be written.
        """
        key = key or secrets.token_bytes(_LENGTH)
        draft = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}")
        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                with os.fdopen(descriptor, "w", encoding="ascii") as file:
                    file.write(f"{key.hex()}\n")
                    file.flush()
                    os.fsync(file.fileno())
                os.link(draft, self.path, follow_symlinks=False)
            finally:
                draft.unlink()
            _sync(self.path.parent)
        except FileExistsError as error:
            raise SetupError(
                f"the key file {self.path} appeared while it was created, or is a link to no file: start again, or"
                " remove the link"
            ) from error
        except OSError as error:
            raise SetupError(f"the key file {self.path} cannot be created: {error.strerror}") from error
        return key

    def require_replaceable(self, key: bytes) -> None:
        """Replace the file by a copy of itself, which shows that a rotation can replace it; `next` is overwritten.

        Args:
            key: the key that the file holds.

        Raises:
            SetupError: it cannot be replaced: it is a mount of its own, or its directory takes no other file.
        """
        try:
            self.next.path.unlink(missing_ok=True)
            self.next.create(key)
            self.take_next()
        except (OSError, SetupError) as error:
            with suppress(OSError):
                self.next.path.unlink(missing_ok=True)
            raise SetupError(
                f"the key file {self.path} cannot be replaced, and nothing was changed: {error}. Where it is mounted by"
                " itself, as into a container, mount its directory instead, or rotate where the file itself lies"
            ) from error

    def take_next(self) -> None:
        """Put the file with the next key in the place of this one, whose key is lost with this; a link stays a link.

        Raises:
            SetupError: the file cannot be renamed.
        """
        target, following = self._target, self.next.path
        try:
            following.replace(target)
            _sync(target.parent)
        except OSError as error:
            raise SetupError(f"{following} cannot replace {target}: {error.strerror}") from error

    def _check(self, found: os.stat_result) -> None:
        if not stat.S_ISREG(found.st_mode):
            raise SetupError(f"the key file {self.path} is not a file")
        if found.st_uid not in {0, os.geteuid()}:
            raise SetupError(f"the key file {self.path} belongs to another user: give it to the manager's user")
        if stat.S_IMODE(found.st_mode) & 0o077:
            raise SetupError(
                f"other users of this machine may read the key file {self.path}: chmod 600 {self.path}; if they have,"
                " then run `panguard manager key-file rotate`"
            )


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
