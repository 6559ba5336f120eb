"""Starts a guard in the background and waits until it owns its data directory, or says why it does not."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from agent.errors import GuardError, StorageError
from agent.storage.instance import running_pid

_TOKEN = "PANGUARD_ENROLL_TOKEN"  # noqa: S105 -- the name of a variable
LOG = "guard.log"
"""Where a guard in the background writes its log, within its data directory."""

_PATIENCE = 15.0
_POLL = 0.05


class DetachError(GuardError):
    """The guard in the background ended at once."""


def start_in_background(directory: Path, arguments: Sequence[str], token: str | None) -> int:
    """Start ``guard start`` with these arguments; return its process id.

    Args:
        directory: Its data directory.
        arguments: What follows ``start``.
        token: The enrollment token, handed on through a pipe: it stands in no list of processes and no environment.

    Raises:
        DetachError: it ended at once.
        StorageError: its log cannot be written.
    """
    environment = {name: value for name, value in os.environ.items() if name != _TOKEN}
    handed_on = ["--enroll-token-file", "/dev/stdin"] if token else []
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        log = os.open(directory / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StorageError(directory, error.strerror or str(error)) from error
    try:
        begin = os.fstat(log).st_size
        process = subprocess.Popen(  # noqa: S603 -- this program itself, with arguments that were checked
            [sys.executable, "-m", "agent", "start", *arguments, *handed_on],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=True,
        )
    finally:
        os.close(log)
    if process.stdin is not None:
        with suppress(BrokenPipeError), process.stdin as pipe:  # one that ended at once is looked for below
            pipe.write((token or "").encode())
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise DetachError(_last_words(directory / LOG, begin))
        if running_pid(directory) == process.pid:
            break
        time.sleep(_POLL)
    process.returncode = 0  # it is on its own now; nobody here waits for it
    return process.pid


def _last_words(log: Path, begin: int) -> str:
    with log.open("rb") as file:
        file.seek(begin)
        lines = file.read().decode(errors="replace").strip().splitlines()
    return lines[-1].removeprefix("error: ") if lines else f"the guard ended without a word; see {log}"
