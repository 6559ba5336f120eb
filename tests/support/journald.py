"""A real systemd-journald with a /run of its own, in a mount namespace: what it stores is read from outside."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Self

import pytest

from tests.support.waiting import eventually

_DAEMON = Path("/usr/lib/systemd/systemd-journald")
_START = 'mount --make-rprivate / && mount --bind "$1" /run && exec "$2"'


class Journald:
    """A context manager around one journald."""

    def __init__(self) -> None:
        self._home = Path(tempfile.mkdtemp(prefix="jd-"))  # short: a socket's path has at most 107 bytes
        self.run = self._home / "run"
        (self.run / "log" / "journal").mkdir(parents=True)
        (self.run / "systemd" / "journal").mkdir(parents=True)
        self.socket = self.run / "systemd" / "journal" / "socket"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_details: object) -> None:
        self.stop()
        shutil.rmtree(self._home)

    @property
    def directory(self) -> Path:
        """The directory of the journal's files."""
        return next((self.run / "log" / "journal").iterdir())

    def start(self) -> None:
        """Start it, and wait until it takes messages."""
        words = ["unshare", "--mount", "sh", "-c", _START, "sh", str(self.run), str(_DAEMON)]
        self._process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603
        eventually(self._takes, what="journald")

    def stop(self) -> None:
        """End it; its files stay."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(60)
            self._process = None

    def rotate(self) -> None:
        """Have it begin a new file, once it has stored what was logged."""
        assert self._process is not None
        self.settle()
        before = len(list(self.directory.glob("system*.journal")))
        os.kill(self._process.pid, signal.SIGUSR2)
        eventually(lambda: len(list(self.directory.glob("system*.journal"))) > before, what="a rotated journal")

    def vacuum(self) -> None:
        """Remove what was rotated."""
        for file in self.directory.glob("system@*.journal"):
            file.unlink()

    def settle(self) -> None:
        """Wait until everything that was logged is stored."""
        marker = secrets.token_hex(8)
        self.log("marker", marker, priority=30)
        words = ["journalctl", f"--directory={self.directory}", "--output=cat", "--lines=20"]
        eventually(lambda: marker in subprocess.check_output(words, text=True), what="the marker stored")  # noqa: S603

    def log(self, identifier: str, *messages: str, priority: int = 38) -> None:
        """Log as a daemon does by syslog(3), by default to `auth.info`; the writer is this process."""
        path = str(self.run / "systemd" / "journal" / "dev-log")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.connect(path)
            for message in messages:
                out.send(f"<{priority}>{identifier}[{os.getpid()}]: {message}".encode())

    def _takes(self) -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect(str(self.socket))
            except OSError:
                return False
        return any((self.run / "log" / "journal").iterdir())


def require_journald() -> None:
    """Skip where journald cannot be run."""
    if os.geteuid() != 0 or not _DAEMON.exists() or shutil.which("unshare") is None:
        pytest.skip("a journald of its own takes root, systemd and unshare")
