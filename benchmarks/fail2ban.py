"""fail2ban as a peer of benchmarks: its filter alone, and its server on one log file."""

import os
import resource
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import psutil

CONFIGURATION = Path(os.environ.get("FAIL2BAN_CONFIGURATION", "/etc/fail2ban"))
_JAIL = """[DEFAULT]
banaction = none
action =
usedns = no
maxretry = 5
findtime = 1d
backend = polling
[sshd]
enabled = true
logpath = {log}
"""
_LOCAL = """[Definition]
logtarget = {folder}/fail2ban.log
dbfile = {folder}/fail2ban.sqlite3
"""
_PATIENCE = 60.0
_QUIET = 3.0
_LOOK = 0.25


class Fail2ban:
    """The fail2ban in PATH.

    Args:
        configuration: Its configuration; a wrapper script with an option ``-c`` may stand in PATH for another place.
    """

    def __init__(self, configuration: Path = CONFIGURATION) -> None:
        self._configuration = configuration

    @classmethod
    def find(cls) -> Self | None:
        """Return fail2ban if it is installed, else None."""
        return cls() if shutil.which("fail2ban-regex") else None

    def filter_seconds(self, log: Path) -> float:
        """Return the CPU time in which ``fail2ban-regex`` reads a log with the sshd filter, without its start."""
        spent = []
        for lines in (log, Path("/dev/null")):  # the second one is its start
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(["fail2ban-regex", str(lines), "sshd"], check=False, capture_output=True)  # noqa: S603, S607 -- fail2ban itself
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        return spent[0] - spent[1]

    def server_seconds(self, log: Path, folder: Path) -> float | None:
        """Return the CPU time in which a server with an sshd jail and no action has read a log; None without one.

        The log is put in place once the server rests.
        """
        folder.mkdir()
        watched = folder / "auth.log"
        watched.touch()
        with self.server(watched, folder) as process:
            if process is None:
                return None
            begin = _at_rest(process)
            shutil.copy(log, folder / "copy")
            with watched.open("ab") as target, (folder / "copy").open("rb") as source:
                shutil.copyfileobj(source, target)
            return _at_rest(process) - begin

    @contextmanager
    def server(self, log: Path, folder: Path) -> Iterator[psutil.Process | None]:
        """Run a server with an sshd jail on a log, in a folder of its own; yields None where it cannot be started."""
        if not self._configuration.is_dir() or shutil.which("fail2ban-server") is None:
            yield None
            return
        configuration = folder / "etc"
        shutil.copytree(self._configuration, configuration)
        shutil.rmtree(configuration / "jail.d", ignore_errors=True)
        (configuration / "jail.local").write_text(_JAIL.format(log=log))
        (configuration / "fail2ban.local").write_text(_LOCAL.format(folder=folder))
        words = ["fail2ban-server", "-c", str(configuration), "-s", str(folder / "socket"), "-p", str(folder / "pid")]
        process = subprocess.Popen(  # noqa: S603 -- fail2ban itself
            [*words, "-f", "start"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            yield psutil.Process(process.pid) if _appears(folder / "socket", process) else None
        finally:
            process.terminate()
            process.wait(_PATIENCE)


def _appears(socket: Path, process: "subprocess.Popen[bytes]") -> bool:
    deadline = time.monotonic() + _PATIENCE
    while not socket.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            return False
        time.sleep(_LOOK)
    return True


def _at_rest(process: psutil.Process) -> float:
    """Return a process's CPU time once it has rested for `_QUIET` seconds."""
    seen, since = _cpu(process), time.monotonic()
    while time.monotonic() - since < _QUIET:
        time.sleep(_LOOK)
        if _cpu(process) - seen > 0.02 * (time.monotonic() - since + _LOOK):  # polling the file is rest, too
            seen, since = _cpu(process), time.monotonic()
    return _cpu(process)


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
