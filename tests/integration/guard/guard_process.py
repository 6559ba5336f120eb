"""A guard as a process of its own, with a data directory and an sshd log, that a test may kill and start again."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from agent.status import inspect_guard
from tests.integration.guard.sshd_log import SshdLog

PATIENCE = 120.0

QUICK = {
    "PANGUARD_HEARTBEAT_INTERVAL": "0.2",
    "PANGUARD_LOG_POLL_INTERVAL": "0.02",
    "PANGUARD_CONNECT_TIMEOUT": "2",
    "PANGUARD_RECONNECT_BASE": "0.1",
    "PANGUARD_RECONNECT_CAP": "0.3",
    "PANGUARD_REGISTRATION_TIMEOUT": "0.5",
    "PANGUARD_RECEIPT_TIMEOUT": "1",
}


class GuardProcess:
    def __init__(self, directory: Path, url: str, token: str | None) -> None:
        self.directory = directory / "data"
        self.log = SshdLog(directory / "auth.log")
        self.url = url
        self.token = token
        self.mode = "learning"
        self.flags: list[str] = []
        self.settings: dict[str, str] = {}
        self._process: subprocess.Popen[str] | None = None
        self._errors = directory / "stderr"

    def start(self) -> "GuardProcess":
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PANGUARD_")}
        environment |= QUICK | self.settings
        if self.token:
            environment["PANGUARD_ENROLL_TOKEN"] = self.token
        flags = ["--manager", self.url, "--data-dir", str(self.directory), "--watch-log", str(self.log.path)]
        flags += ["--hostname", "srv-01", "--mode", self.mode, *self.flags]
        with self._errors.open("a") as errors:
            self._process = subprocess.Popen(  # noqa: S603 -- the guard itself
                [sys.executable, "-m", "agent", "start", *flags],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=environment,
            )
        return self

    @property
    def process(self) -> "subprocess.Popen[str]":
        assert self._process is not None
        return self._process

    def ready(self) -> str:
        """Wait for the line that says that the first birth was taken."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the guard ended: {self.errors()}"
        return line.strip()

    def kill(self) -> None:
        self.process.kill()
        self._wait()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self._wait()

    def _wait(self) -> int:
        code = self.process.wait(PATIENCE)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._process = None
        return code

    def end(self) -> None:
        if self._process is not None:
            self.kill()

    def errors(self) -> str:
        return self._errors.read_text() if self._errors.exists() else ""

    def status(self) -> dict[str, Any]:
        return inspect_guard(self.directory)
