"""Starts a guard in the background and waits until it is registered or has ended."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agent.errors import GuardError, StorageError
from agent.status import problems, read_status
from agent.storage.instance_lock import refuse_foreign

_TOKEN = "PANGUARD_ENROLL_TOKEN"  # noqa: S105 -- the name of a variable
LOG = "guard.log"
"""The log file of a background guard, in its data directory."""

PATIENCE = 20.0
"""Seconds for which the command waits for the registration."""

_ONLINE = "online"
_POLL = 0.05


class DetachError(GuardError):
    """The background guard ended before it was registered."""


@dataclass(frozen=True, slots=True)
class Started:
    """A guard that runs in the background.

    Attributes:
        pid: Its process id.
        agent_id: Its agentId; None if the manager has not answered within `PATIENCE` seconds.
        warnings: Why it is not registered yet, or degraded; empty if all is well.
    """

    pid: int
    agent_id: str | None
    warnings: list[str]


def start_in_background(directory: Path, arguments: Sequence[str], token: str | None) -> Started:
    """Run ``guard start`` in the background with these arguments, and wait until the guard is registered and online.

    Args:
        directory: The guard's data directory.
        arguments: The arguments after ``start``.
        token: The enrollment token, passed through a pipe so that no process list or environment shows it.

    Raises:
        DetachError: the guard ended, for example without a token or because the manager refused it.
        StorageError: its log cannot be written, or root asks for a guard in another user's directory.
    """
    refuse_foreign(directory)
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
            [sys.executable, "-P", "-m", "agent", "start", *arguments, *handed_on],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=True,
        )
    finally:
        os.close(log)
    if process.stdin is not None:
        with suppress(BrokenPipeError), process.stdin as pipe:  # the check below finds a guard that ended at once
            pipe.write((token or "").encode())
    try:
        agent_id = _wait_for_registration(process, directory, begin)
        return Started(process.pid, agent_id, _warnings(directory, agent_id))
    finally:
        if process.returncode is None:
            process.returncode = 0  # the guard runs on its own now; this process does not wait for its end


def _wait_for_registration(process: "subprocess.Popen[bytes]", directory: Path, begin: int) -> str | None:
    """Return the agentId once the guard is online; None if the manager has not answered in time.

    Raises:
        DetachError: the guard ended.
    """
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise DetachError(_last_words(directory / LOG, begin))
        fields = read_status(directory)
        if fields.get("pid") == process.pid and fields.get("state") == _ONLINE:
            return str(fields["agentId"])
        time.sleep(_POLL)
    return None


def _warnings(directory: Path, agent_id: str | None) -> list[str]:
    fields = read_status(directory)
    warnings = [f"degraded: {problem}" for problem in problems(fields)]
    if agent_id is None:
        reason = fields.get("notConnected") or "the manager has not answered"
        warnings.insert(0, f"it is not registered yet and goes on trying: {reason}; see {directory / LOG}")
    return warnings


def _last_words(log: Path, begin: int) -> str:
    with log.open("rb") as file:
        file.seek(begin)
        lines = file.read().decode(errors="replace").strip().splitlines()
    return lines[-1].removeprefix("error: ") if lines else f"the guard ended without a word; see {log}"
