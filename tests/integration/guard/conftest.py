import os
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest

from agent.logs import log_to
from tests.integration.guard.fenced_host import Fenced, fenced_host
from tests.integration.guard.guard_process import GuardProcess
from tests.integration.guard.guard_thread import GuardThread
from tests.integration.guard.scripted_manager import ScriptedManager
from tests.support.mosquitto import Mosquitto, mosquitto_path


@pytest.fixture(scope="session")
def mosquitto_installed() -> None:
    """Skip without the broker; in CI its absence is a failure."""
    if mosquitto_path() is None:
        if os.environ.get("CI") == "true":
            pytest.fail("mosquitto is missing, and in CI it has to be there")
        pytest.skip("mosquitto is not installed")


@pytest.fixture
def broker(mosquitto_installed: None) -> Iterator[Mosquitto]:
    del mosquitto_installed
    with Mosquitto() as running:
        yield running


@pytest.fixture
def manager(broker: Mosquitto) -> Iterator[ScriptedManager]:
    scripted = ScriptedManager(broker.port).start()
    yield scripted
    scripted.stop()


@pytest.fixture
def guard_log() -> Iterator[StringIO]:
    """What the guards in this process log, as their own log writes it; pytest prints it if the test fails."""
    written = StringIO()
    log_to(written)
    yield written
    log_to(None)
    sys.stderr.write(written.getvalue())


@pytest.fixture
def guard(tmp_path: Path, broker: Mosquitto, manager: ScriptedManager, guard_log: StringIO) -> Iterator[GuardThread]:
    """A guard with a token, not started yet."""
    thread = GuardThread(tmp_path, broker.url, str(manager.token), guard_log)
    yield thread
    thread.stop()
    assert "Traceback" not in guard_log.getvalue()


@pytest.fixture
def guard_process(tmp_path: Path, broker: Mosquitto, manager: ScriptedManager) -> Iterator[GuardProcess]:
    """The same as a process, which can be killed; pytest prints its log if the test fails."""
    process = GuardProcess(tmp_path, broker.url, str(manager.token))
    yield process
    process.end()
    sys.stderr.write(process.errors())


@pytest.fixture
def fenced(tmp_path: Path, guard: GuardThread, manager: ScriptedManager) -> Iterator[Fenced]:
    """A guard in mode protection with a fence, not started yet."""
    with fenced_host(tmp_path, guard, manager) as host:
        yield host
