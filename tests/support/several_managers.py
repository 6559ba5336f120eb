"""Several manager processes on one database and one broker."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2

from tests.support.processes import ManagerProcess
from tests.support.waiting import eventually


class DatabaseManagers:
    """Managers with a data directory each, and a common key file.

    Args:
        home: the directory of all of them.
        database: the URL of the database.
        broker: the URL of the broker, or `embedded`.
    """

    def __init__(self, home: Path, database: str, broker: str) -> None:
        self.home = home
        self.broker = broker
        self.environment = {"PANGUARD_DATABASE": database, "PANGUARD_KEY_FILE": str(home / "manager.key")}
        self.all: list[ManagerProcess] = []

    def add(self, **environment: str) -> ManagerProcess:
        """Return another manager that is not started."""
        home = self.home / f"m{len(self.all) + 1}"
        manager = ManagerProcess(home, self.broker, {**self.environment, **environment})
        self.all.append(manager)
        return manager

    def stop(self) -> None:
        """Stop all of them."""
        for manager in self.all:
            if manager.running is not None:
                manager.running.process.send_signal(18)  # SIGCONT: a stopped one could not end
                manager.stop()


def health(manager: ManagerProcess) -> dict[str, Any]:
    """Return what the door says of the manager; empty if it does not answer."""
    try:
        answer = httpx2.get(f"{manager.http}/health", timeout=60, verify=manager.trust, trust_env=False)
    except httpx2.HTTPError:
        return {}
    return dict(json.loads(answer.text).get("data", {}))


def role(manager: ManagerProcess) -> str | None:
    """Return the manager's role."""
    return health(manager).get("role")


def leads(manager: ManagerProcess) -> None:
    """Wait until a manager leads and is ready."""
    eventually(
        lambda: role(manager) == "leader" and manager.not_ready() is None,
        120,
        f"the manager leads: {health(manager)}",
    )


def stands_by(manager: ManagerProcess) -> None:
    """Wait until a manager stands by for another that leads."""
    eventually(lambda: role(manager) == "standby" and manager.not_ready() is None, 120, "the manager stands by")


def command(manager: ManagerProcess, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the manager's on its own machine."""
    line = [sys.executable, "-m", "panguard", "manager", *words, "--data-dir", str(manager.data)]
    return subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)  # noqa: S603 -- our own command


def step_down(manager: ManagerProcess) -> None:
    """Give the page's command to a leader that knows one that stands by; each try takes a process."""
    eventually(
        lambda: "standby" in {each["role"] for each in health(manager).get("managers", [])},
        120,
        "the leader knows one that stands by",
    )
    eventually(lambda: command(manager, "step-down").returncode == 0, 120, "the leader steps down")
