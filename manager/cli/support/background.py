"""Starts a manager in the background and waits until it is ready or has ended."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manager.cli.support.escaping import printable
from manager.cli.support.failures import CommandFailed, ExitCode

LOG = "manager.log"
"""The log file of a background manager, in its data directory."""

PATIENCE = 60.0
"""Seconds for which the command waits until the manager is ready."""

_READY = "manager.ready"
_POLL = 0.05
_LOG_END = 10
_LOG_BYTES = 64 * 1024
_ROUTINE = " level=info "


@dataclass(frozen=True, slots=True)
class Started:
    """A manager that runs in the background and is ready.

    Attributes:
        pid: Its process id.
        http: The URL of its HTTP server.
        mqtt: The URL of its broker.
        log: Its log file.
    """

    pid: int
    http: str
    mqtt: str
    log: Path


def start_in_background(directory: Path, arguments: Sequence[str], environment: Mapping[str, str]) -> Started:
    """Run ``manager start`` in the background with these arguments, and wait until it is ready.

    Args:
        directory: The manager's data directory.
        arguments: The arguments after ``start``, without secrets.
        environment: The environment of the manager.

    Raises:
        CommandFailed: the manager ended, or is not ready within `PATIENCE` seconds, in which case it runs on; what its
            last log lines say beyond the reason is printed on standard error. Or its log cannot be written.
    """
    path = directory / LOG
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CommandFailed(ExitCode.FAILURE, f"the log {path} cannot be written: {error.strerror}") from error
    try:
        begin = os.fstat(log).st_size
        process = subprocess.Popen(  # noqa: S603 -- this program itself, with arguments that were checked
            [sys.executable, "-P", "-m", "panguard", "manager", "start", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=dict(environment),
            start_new_session=True,
        )
    finally:
        os.close(log)
    try:
        ready = _wait(process, directory)
        if ready is not None:
            return Started(process.pid, str(ready["http"]), str(ready["mqtt"]), path)
        lines = _last_lines(path, begin)
        code = process.poll()
    finally:
        if process.returncode is None:
            process.returncode = 0  # the manager runs on its own now; this process does not wait for its end
    raise _failure(process.pid, code, lines, directory)


def _wait(process: "subprocess.Popen[bytes]", directory: Path) -> Mapping[str, Any] | None:
    """Return the content of the ready file once this process has written it; None if it ended, or is not ready."""
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        try:
            found = json.loads((directory / _READY).read_text("utf-8"))
        except (OSError, ValueError):
            found = None
        if isinstance(found, dict) and found.get("pid") == process.pid:
            return found
        time.sleep(_POLL)
    return None


def _last_lines(path: Path, begin: int) -> list[str]:
    """Return the last lines that this start has written into the log."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(begin, end - _LOG_BYTES))
        return file.read().decode(errors="replace").strip().splitlines()[-_LOG_END:]


def _failure(pid: int, code: int | None, lines: list[str], directory: Path) -> CommandFailed:
    """Print the log's end, and return the error: the reason is the last error message of a manager that ended.

    Where there is a reason, the migrations of a new store and other routine before it are left to the log.
    """
    log = directory / LOG
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    for line in lines:
        if not line.startswith("error: ") and not (errors and _ROUTINE in line):
            sys.stderr.write(f"{printable(line)}\n")
    if code is None:
        return CommandFailed(
            ExitCode.FAILURE,
            f"the manager, process {pid}, is not ready after {PATIENCE:.0f} s and goes on trying: its log {log}"
            f" says why; panguard manager stop --data-dir {directory} ends it",
        )
    ended = f"the manager ended with code {code}; see {log}"
    return CommandFailed(_exit_code(code), f"{errors[-1]} (its log is {log})" if errors else ended)


def _exit_code(code: int) -> ExitCode:
    return ExitCode(code) if code in set(ExitCode) - {ExitCode.OK} else ExitCode.FAILURE
