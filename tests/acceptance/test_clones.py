"""Two guards on copies of one data directory, told apart and named where an operator looks."""

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from manager.cli import app
from manager.domain.agents.clones import SAME
from tests.support.processes import GuardProcess, ManagerProcess
from tests.support.sites import KINDS_AND_TWO, site_at
from tests.support.waiting import eventually

pytestmark = pytest.mark.long("tests/unit/manager/engine/messages/test_clone_events.py")


@pytest.fixture(params=KINDS_AND_TWO)
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ManagerProcess]:
    with site_at(request.param, tmp_path, request) as site:
        yield site.manager


def _told(manager: ManagerProcess, *words: str) -> str:
    """Return what a command prints."""
    done = CliRunner().invoke(app, [*words, "--data-dir", str(manager.data)])
    assert done.exit_code == 0, done.output
    return done.stdout


def _clones(manager: ManagerProcess) -> list[dict[str, Any]]:
    return list(manager.get("/api/overview")["clones"])


def _copy(guard: GuardProcess) -> GuardProcess:
    """Return a guard on a copy of another's data directory, as a cloned machine has it."""
    copy = GuardProcess(guard.manager, guard.hostname)
    copy.data = guard.manager.home / "copy"
    shutil.copytree(guard.data, copy.data)
    return copy


def test_two_guards_on_copies_of_one_directory_are_named(manager: ManagerProcess) -> None:
    """A guard that came back after a crash is none; with its copy beside it both are named, and stay one agent."""
    guard = GuardProcess(manager, "srv-01")
    agent_id = guard.start()
    guard.kill()
    guard.start()
    started = time.monotonic()
    copy = _copy(guard)
    eventually(lambda: time.monotonic() - started > 2 * SAME, what="starts that are told apart")
    assert _clones(manager) == []
    try:
        copy.start(wait=False)
        (clone,) = eventually(lambda: _clones(manager), what="the clones named")
        assert (clone["agentId"], clone["hostname"], len(clone["instances"])) == (agent_id, "srv-01", 2)
        status = _told(manager, "status")
        assert "Cloned          1" in status.splitlines()
        assert all(word in status for word in (agent_id, *clone["instances"]))
        assert json.loads(_told(manager, "agents", "show", "srv-01", "-o", "json"))["clone"]["since"] == clone["since"]
        assert manager.agent("srv-01")["agentId"] == agent_id  # still one
        assert manager.agent("srv-01")["clone"]["instances"] == clone["instances"]
    finally:
        copy.stop()
        guard.stop()
