"""A file of JSON lines with ECS field names, for a SIEM's collector."""

import os
import stat
from pathlib import Path

from manager.domain.notifications.message import Message
from manager.notifications.channels.channel import TIMEOUT, Channel, ChannelError, Deadline
from manager.notifications.rendering.ecs import document
from manager.notifications.rendering.identity import ChannelIdentity
from manager.notifications.rendering.json_values import encoded


class FileChannel(Channel):
    """Appends one line for each message, and syncs it to the disk.

    The file is opened for each message, so that a rotation by renaming needs no signal. It is created with mode 0600;
    the mode of an existing one is left as it is.

    Args:
        path: The file; its folder must exist.
        identity: The sender.
        timeout: Seconds for one delivery.
    """

    def __init__(self, path: Path, identity: ChannelIdentity, timeout: float = TIMEOUT) -> None:
        self._path = path
        self._identity = identity
        self._deadline = Deadline(timeout)

    def deliver(self, message: Message) -> None:
        """Append a message."""
        line = encoded(document(message, self._identity)) + b"\n"
        try:
            self._deadline.run(lambda: _append(self._path, line))
        except OSError as error:
            raise ChannelError(f"the file cannot be written: {error.strerror}", retry=True) from error


def _append(path: Path, line: bytes) -> None:
    """Append a line durably; begin a new line if an earlier one was cut by a full disk or a crash."""
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW
    descriptor = os.open(path, flags, 0o600)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ChannelError("the path is no file", retry=True)  # events wait until it is one again
        if status.st_size and os.pread(descriptor, 1, status.st_size - 1) != b"\n":
            line = b"\n" + line
        while line:
            line = line[os.write(descriptor, line) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
