"""`panguard manager stop`: stops the manager of a data directory and waits for its end."""

import fcntl
import os
import signal
import time
from pathlib import Path

import typer

from manager.cli.support.failures import CommandFailed, ExitCode
from manager.cli.support.manager_connection import data_directory
from manager.cli.support.options import DataDir

STOP_TIMEOUT = 10.0
"""Seconds after which a manager that got SIGTERM counts as stuck."""

_POLL = 0.05
_LONGEST_PID = 9


def stop(data_dir: DataDir = None) -> None:
    """Stop the manager of a data directory and wait until its process has ended."""
    directory = data_directory(data_dir)
    lock = directory / "manager.pid"
    pid = lock_holder(lock)
    if pid is None:
        raise CommandFailed(ExitCode.NOT_FOUND, f"no manager runs on {directory}")
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        return
    except PermissionError as error:
        raise CommandFailed(ExitCode.FAILURE, f"the manager, process {pid}, belongs to another user") from error
    deadline = time.monotonic() + STOP_TIMEOUT
    while lock_holder(lock) == pid:
        if time.monotonic() >= deadline:
            raise CommandFailed(ExitCode.FAILURE, f"the manager, process {pid}, does not end; its log says why")
        time.sleep(_POLL)
    typer.echo("stopped")


def lock_holder(lock: Path) -> int | None:
    """Return the process that holds a lock file; None for a leftover file, whose process id may be reused."""
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CommandFailed(ExitCode.FAILURE, f"{lock} cannot be read: {error.strerror}") from error
    try:
        text = os.read(descriptor, 32).strip()
        if not text.isdigit() or len(text) > _LONGEST_PID or not _is_locked(descriptor):
            return None
        return int(text)
    finally:
        os.close(descriptor)


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False
