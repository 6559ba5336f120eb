"""A Mosquitto of one's own: on a free loopback port, with a configuration of its own, ended with the block."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.ports import free_port

_READY = 60.0
_STOP = 10.0
_SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])

UNBOUNDED = ("max_inflight_messages 8000", "max_queued_messages 0", "set_tcp_nodelay true")
"""What the manager's session needs: a window above its batch, a queue without an end, no waiting for full segments."""


def mosquitto_path() -> str | None:
    """Return where the broker is installed, or None."""
    return shutil.which("mosquitto", path=_SEARCH_PATH)


class Mosquitto:
    """A context manager around one broker; it keeps its port and its directory from start to start.

    Args:
        lines: lines of configuration beyond the listener; `UNBOUNDED` where none are given.
        anonymous: whether it lets in everybody.
        persistent: whether sessions and retained messages outlive `stop` and `restart` (`kill` loses the newest).
        path: the broker's program; the installed one by default.
        configuration: a file to start with instead, in its own directory, where it says how to listen on `port`.
        port: the port that such a file names.
    """

    def __init__(
        self,
        lines: Sequence[str] = UNBOUNDED,
        *,
        anonymous: bool = True,
        persistent: bool = False,
        path: str | None = None,
        configuration: Path | None = None,
        port: int | None = None,
    ) -> None:
        self.port = port or free_port()
        self._given = configuration
        self._lines = lines
        self._anonymous = anonymous
        self._persistent = persistent
        self._path = path or mosquitto_path()
        self._kept = tempfile.TemporaryDirectory(prefix="mosquitto-")
        self.directory = Path(self._kept.name)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where the broker is, as the manager's settings name it."""
        return f"mqtt://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """The process that runs, or None."""
        return self._process.pid if self._process is not None else None

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it and remove its directory."""
        self.stop()
        self._kept.cleanup()

    def start(self) -> None:
        """Start the broker and wait until it listens.

        Raises:
            RuntimeError: it is not installed, runs already, or does not come up; its log says why.
        """
        if self._path is None:
            raise RuntimeError("mosquitto is not installed")
        if self._process is not None:
            raise RuntimeError("this broker runs already")
        configuration = self._given or self.directory / "mosquitto.conf"
        if self._given is None:
            configuration.write_text("\n".join(self._configuration()) + "\n")
        with self.log_path.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603 -- the installed broker, with a file written here
                [self._path, "-c", str(configuration)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=configuration.parent,
            )
        self._wait_until_it_listens()

    def stop(self) -> None:
        """End it with SIGTERM: a persistent one saves what it has."""
        if self._process is not None:
            self._process.terminate()
            self._reap()

    def kill(self) -> None:
        """End it with SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._reap()

    def restart(self) -> None:
        """Stop it, and start it again on the same port."""
        self.stop()
        self.start()

    @property
    def log_path(self) -> Path:
        """Where the broker writes what it has to say."""
        return self.directory / "mosquitto.log"

    def log(self) -> str:
        """Return what the broker has said since its first start."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def _configuration(self) -> list[str]:
        lines = [
            f"listener {self.port} 127.0.0.1",
            f"allow_anonymous {'true' if self._anonymous else 'false'}",
            "log_dest stderr",
            *self._lines,
        ]
        if self._persistent:
            lines += ["persistence true", f"persistence_location {self.directory}/"]
        if os.geteuid() == 0:
            lines.append("user root")  # it would become `mosquitto`, who may not enter this directory
        return lines

    def _wait_until_it_listens(self) -> None:
        deadline = time.monotonic() + _READY
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                break
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            # the pause between two looks; the deadline above ends it
            time.sleep(0.01)
        self.kill()
        raise RuntimeError(f"mosquitto does not listen on port {self.port}: {self.log()}")

    def _reap(self) -> None:
        if self._process is not None:
            try:
                self._process.wait(_STOP)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
