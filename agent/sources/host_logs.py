"""The logs of this host with login records: whether the guard can read each, and whether it proves its writers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.sources import file_source, journal_source
from agent.sources.source import SourceError, SourceState

AUTH_LOGS = (Path("/var/log/auth.log"), Path("/var/log/secure"), Path("/var/log/messages"))
"""The files with logins of syslog daemons: Debian and Ubuntu; Red Hat; BusyBox and SUSE."""

JOURNAL = "journal"


@dataclass(frozen=True, slots=True)
class HostLog:
    """One log of the host.

    Attributes:
        name: ``journal``, or ``file:`` and the path.
        path: The file; None for the journal.
        state: `ok` if it can be read.
        reason: The reason why it cannot be read; None if it can.
        vouches: Whether its records prove their writer.
    """

    name: str
    path: Path | None
    state: SourceState
    reason: str | None
    vouches: bool


def survey(directory: Path | None = None, paths: Sequence[Path] = AUTH_LOGS) -> list[HostLog]:
    """Return the logs with logins that a Linux host may have, in order of preference: the journal, then the files.

    Args:
        directory: The journal's directory; None for the host's own.
        paths: The files.
    """
    problem = journal_source.unreadable(directory)
    if problem is None and directory is None and not journal_source.journald_listens():
        problem = SourceError("systemd-journald does not run", "silent")
    logs = [_log(JOURNAL, None, problem, vouches=True)]
    return logs + [_log(f"file:{path}", path, file_source.unreadable(path), vouches=False) for path in paths]


def choose(logs: Sequence[HostLog]) -> HostLog:
    """Return the log to read if the operator names none: the first readable one.

    The journal also has the lines of the files, so only one of them is read.

    Raises:
        SourceError: no log can be read.
    """
    readable = next((log for log in logs if log.state == "ok"), None)
    if readable is not None:
        return readable
    there = next((log for log in logs if log.state != "missing"), None)
    if there is not None:
        raise SourceError(there.reason or there.name, there.state)
    names = ", ".join(JOURNAL if log.path is None else str(log.path) for log in logs)
    raise SourceError(f"this host has none of the known logs ({names}); name one by --watch-log", "missing")


def _log(name: str, path: Path | None, problem: SourceError | None, *, vouches: bool) -> HostLog:
    if problem is None:
        return HostLog(name, path, "ok", None, vouches)
    return HostLog(name, path, problem.state, str(problem), vouches)
