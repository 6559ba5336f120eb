"""The lock on a data directory: one guard at a time; finds and stops the guard that holds it."""

import fcntl
import os
import signal
import time
from pathlib import Path

from agent.errors import AlreadyRunningError, NotRunningError, StillRunningError, StorageError
from agent.storage.files import as_owner, foreign_owner

_LOCK = "guard.pid"
_POLL = 0.05
_LONGEST_PID = 9
# Seconds for which a starting guard retries the lock, because a status query holds it for a moment.
_PROBES_END = 0.3


def default_data_directory() -> Path:
    """Return the default data directory: the system's for root, else the user's."""
    if os.geteuid() == 0:
        return Path("/var/lib/panguard/guard")
    state = os.environ.get("XDG_STATE_HOME", "")
    return (Path(state) if state.startswith("/") else Path.home() / ".local" / "state") / "panguard" / "guard"


def refuse_foreign(directory: Path) -> None:
    """Refuse to run a guard as root in the data directory of another user, who could put links into it.

    Raises:
        StorageError: root asks, and the directory belongs to another user.
    """
    owner = foreign_owner(directory)
    if owner is not None:
        reason = f"it belongs to the user with id {owner.st_uid}, who runs its guard: systemctl start panguard-guard"
        raise StorageError(directory, reason)


class InstanceLock:
    """A held lock on a data directory, until `release` or the end of the process."""

    def __init__(self, directory: Path, descriptor: int) -> None:
        self.directory = directory
        self._descriptor = descriptor

    @classmethod
    def claim(cls, directory: Path) -> "InstanceLock":
        """Create the directory (0700) if missing, and lock it.

        Raises:
            AlreadyRunningError: another guard holds it.
            StorageError: the directory cannot be made or used, or belongs to another user than root, who asks.
        """
        refuse_foreign(directory)
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            directory.chmod(0o700)
            descriptor = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageError(directory, error.strerror or str(error)) from error
        deadline = time.monotonic() + _PROBES_END
        while not _lock(descriptor):
            if time.monotonic() > deadline:
                pid = _read_pid(descriptor)
                os.close(descriptor)
                raise AlreadyRunningError(directory, pid)
            time.sleep(_POLL)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        return cls(directory, descriptor)

    def release(self) -> None:
        """Release the lock."""
        os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)


def running_pid(directory: Path) -> int | None:
    """Return the process id of the guard that owns a directory; None if there is none."""
    try:
        descriptor = os.open(directory / _LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(directory, error.strerror or str(error)) from error
    try:
        return None if _lock(descriptor) else _read_pid(descriptor)
    finally:
        os.close(descriptor)


def stop(directory: Path, patience: float) -> int:
    """Stop the guard that owns a data directory and wait for its end; return its process id.

    Args:
        directory: The guard's data directory.
        patience: The maximum wait for its sign-off in seconds.

    Raises:
        NotRunningError: no guard is running.
        StillRunningError: the guard is still running after `patience`.
    """
    with as_owner(directory):
        pid = running_pid(directory)
    if pid is None:
        raise NotRunningError(directory)
    try:
        if Path(f"/proc/{pid}").stat().st_uid != directory.stat().st_uid:
            raise StorageError(directory, f"process {pid}, which its lock file names, is not of the directory's owner")
        os.kill(pid, signal.SIGTERM)
    except PermissionError as error:
        raise StorageError(directory, "its guard belongs to another user") from error
    except (ProcessLookupError, FileNotFoundError):
        return pid  # the process has just ended
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        with as_owner(directory):
            if running_pid(directory) != pid:
                return pid
        time.sleep(_POLL)
    raise StillRunningError(pid, patience)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read_pid(descriptor: int) -> int | None:
    text = os.pread(descriptor, 32, 0).strip()
    return int(text) if text.isdigit() and len(text) <= _LONGEST_PID else None
