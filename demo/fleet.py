"""The demo's fleet: manager and guards as real processes on free loopback ports, with queries of the manager's API."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import httpx2

from demo.hosts import GuardedHost, Hosts
from demo.sshd_log import SshdLog
from schemas.keys import EnrollmentToken

READY_WITHIN = 20.0
STOP_WITHIN = 8.0

PACE = {
    "PANGUARD_HEARTBEAT_INTERVAL": "1",
    "PANGUARD_STALE_AFTER": "6",
    "PANGUARD_SWEEP_INTERVAL": "1",
    "PANGUARD_SETTLING_TIME": "2",
}
"""Settings of the demo: short intervals in seconds."""


class DemoError(Exception):
    """A step of the demo failed; the message says which."""


def _command(*words: str) -> list[str]:
    return [sys.executable, "-m", "panguard", *words]


class Process:
    """One process of the demo, with its own log file."""

    def __init__(self, name: str, words: list[str], log: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self.log = log
        self._output: IO[bytes] = log.open("ab")
        self._lines: list[str] = []
        self._ready = threading.Event()
        self._process = subprocess.Popen(  # noqa: S603 -- our own command, no shell
            _command(*words),
            stdout=subprocess.PIPE,
            stderr=self._output,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **PACE, **environment},
            start_new_session=True,
        )
        threading.Thread(target=self._read, name=f"{name} output", daemon=True).start()

    def _read(self) -> None:
        with self._process.stdout as output:  # type: ignore[union-attr]
            for line in output:
                self._lines.append(line.decode(errors="replace").strip())
                self._ready.set()
        self._ready.set()

    def first_line(self) -> str:
        """Return the first line that the process printed.

        Raises:
            DemoError: it printed none in time.
        """
        self._ready.wait(READY_WITHIN)
        if not self._lines:
            raise DemoError(f"{self.name} did not come up; its log is {self.log}:\n{self._tail()}")
        return self._lines[0]

    @property
    def running(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def kill(self) -> None:
        """Kill the process without a clean stop."""
        self._process.kill()
        self._process.wait(STOP_WITHIN)
        self._output.close()

    def terminate(self) -> int:
        """Stop the process cleanly and return its exit code."""
        if self.running:
            self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(STOP_WITHIN)
        except subprocess.TimeoutExpired:
            self.kill()
            return -signal.SIGKILL
        finally:
            self._output.close()

    def _tail(self) -> str:
        return self.log.read_text(errors="replace")[-2000:]


class Guard:
    """One guard: its hostname, its data directory, the log that it reads, and the host that its fence protects."""

    def __init__(
        self, hostname: str, home: Path, manager: str, token: Path, protected: GuardedHost | None = None
    ) -> None:
        self.hostname = hostname
        self.protected = protected
        self.log = SshdLog(home / f"{hostname}.auth.log", hostname)
        self._home = home
        self._data = home / hostname
        self._manager = manager
        self._token = token
        self.process: Process | None = None

    def start(self) -> None:
        """Start the guard, or restart it with its stored data."""
        words = ["guard", "start", "--manager", self._manager, "--data-dir", str(self._data)]
        words += ["--trust-log", str(self.log.path), "--hostname", self.hostname, "--mode", "protection"]
        words += ["--enroll-token-file", str(self._token)]
        enforcement = {"PANGUARD_SIMULATE_ENFORCEMENT": "true"}
        if self.protected is not None:
            enforcement = {"PANGUARD_FENCE_SOCKET": str(self.protected.socket)}
        self.process = Process(self.hostname, words, self._home / f"{self.hostname}.log", enforcement)

    def kill(self) -> None:
        """Kill the guard without a clean stop."""
        if self.process is not None:
            self.process.kill()

    def stop(self) -> int:
        """Stop the guard cleanly."""
        return 0 if self.process is None else self.process.terminate()


class Fleet:
    """A manager and its guards. A context manager: stops all processes at its end.

    Args:
        home: the directory that holds all of the demo's data.
        hostnames: one guard for each.
        hosts: a host with a fence for each guard; None if blocks are simulated.
    """

    def __init__(self, home: Path, hostnames: list[str], hosts: Hosts | None = None) -> None:
        self.home = home
        self.hosts = hosts
        self._hostnames = hostnames
        self.guards: list[Guard] = []
        self._manager: Process | None = None
        self.http = self.mqtt = ""

    def __enter__(self) -> Self:
        """Start the manager and wait until both of its doors are open."""
        data = self.home / "manager"
        words = ["manager", "start", "--data-dir", str(data), "--port", "0", "--mqtt-port", "0"]
        self._manager = Process("manager", words, self.home / "manager.log", {})
        try:
            line = self._manager.first_line()
            fields = dict(word.partition("=")[::2] for word in line.split()[1:])
            self.http, self.mqtt = fields["http"], fields["mqtt"]
            token = (data / "admin.token").read_text().strip()
            if self.hosts is not None:
                sign_key = EnrollmentToken.parse((data / "enroll.token").read_text()).sign_key
                for host in self.hosts.guarded:
                    host.start(sign_key)
        except (DemoError, KeyError, OSError):
            self._manager.terminate()
            raise
        self.client = httpx2.Client(base_url=self.http, headers={"Authorization": f"Bearer {token}"}, timeout=5.0)
        protected = [None] * len(self._hostnames) if self.hosts is None else self.hosts.guarded
        self.guards = [
            Guard(name, self.home, self.mqtt, data / "enroll.token", host)
            for name, host in zip(self._hostnames, protected, strict=True)
        ]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop all processes, guards first."""
        self.stop()

    def stop(self) -> dict[str, int]:
        """Stop guards and manager cleanly; return the exit codes by name."""
        codes = {guard.hostname: guard.stop() for guard in self.guards}
        if self._manager is not None:
            self.client.close()
            codes["manager"] = self._manager.terminate()
            self._manager = None
        self.guards = []
        return codes

    def agents(self) -> list[dict[str, Any]]:
        """Return the agents' records from the HTTP API."""
        return list(self._get("/api/agents"))

    def threats(self) -> list[dict[str, Any]]:
        """Return the newest threats from the HTTP API."""
        return list(self._get("/api/threats"))

    def incidents(self) -> list[dict[str, Any]]:
        """Return the newest incidents from the HTTP API."""
        return list(self._get("/api/incidents"))

    def set_global_policy(self, document: Mapping[str, Any]) -> int:
        """Set the global policy document; return the fleet's new revision."""
        return int(self._ask("PUT", "/api/policies/global", document)["data"]["revision"])

    def _get(self, path: str) -> Any:
        return self._ask("GET", path)["data"]

    def _ask(self, method: str, path: str, document: Mapping[str, Any] | None = None) -> Any:
        try:
            answer = self.client.request(method, path, json=document)
            answer.raise_for_status()
        except httpx2.HTTPError as error:
            raise DemoError(f"the manager did not answer {method} {path}: {error}") from error
        return answer.json()


Report = Callable[[str], None]
"""Receives one line of text about each observed step."""
