"""Two managers as processes on one PostgreSQL and one Mosquitto: one leads, the other takes over."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.mosquitto import Mosquitto
from tests.support.postgresql import Postgresql
from tests.support.processes import GuardProcess, ManagerProcess
from tests.support.several_managers import DatabaseManagers, health, leads, role, stands_by
from tests.support.waiting import eventually


def command(manager: ManagerProcess, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the manager's on its own machine."""
    line = [sys.executable, "-m", "panguard", "manager", *words, "--data-dir", str(manager.data)]
    return subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)  # noqa: S603 -- our own command


pytestmark = [pytest.mark.postgresql, pytest.mark.mosquitto]


@pytest.fixture
def cluster() -> Iterator[Postgresql]:
    """Provide a durable cluster of this test's own."""
    with Postgresql() as postgresql:
        yield postgresql


@pytest.fixture
def broker() -> Iterator[Mosquitto]:
    with Mosquitto() as mosquitto:
        yield mosquitto


@pytest.fixture
def managers(cluster: Postgresql, broker: Mosquitto, tmp_path: Path) -> Iterator[DatabaseManagers]:
    group = DatabaseManagers(tmp_path, cluster.create_empty().url, broker.url)
    yield group
    group.stop()


def test_the_other_takes_over_when_the_leader_is_killed(managers: DatabaseManagers) -> None:
    """After SIGKILL of the leader the other leads; the guard goes on, and every report is stored once."""
    first, second = managers.add(), managers.add()
    first.start()
    leads(first)
    second.start()
    stands_by(second)
    guard = GuardProcess(first, "web-1")
    agent_id = guard.start()
    try:
        guard.attacked_by("203.0.113.1")
        eventually(lambda: len(second.get("/api/threats")) == 1, what="the report, asked of the one that stands by")
        first.kill()
        guard.attacked_by("203.0.113.2")
        leads(second)
        eventually(lambda: len(second.get("/api/threats")) == 2, what="the report of the time between")
        agent = second.agent("web-1")
        assert (agent["agentId"], agent["status"]) == (agent_id, "online")
        first.start()
        stands_by(first)
        assert [each["role"] for each in health(second)["managers"]].count("standby") == 1
        assert role(second) == "leader"
    finally:
        guard.stop()


def test_the_page_hands_the_lead_over_for_an_upgrade(managers: DatabaseManagers) -> None:
    """The commands of scale.md: with nobody that stands by it stays; then the other leads, and it stands by itself."""
    page = (Path(__file__).parents[2] / "docs" / "scale.md").read_text()
    assert "\npanguard manager step-down\n" in page
    assert "\npanguard manager status\n" in page
    first, second = managers.add(), managers.add()
    first.start()
    leads(first)
    refused = command(first, "step-down")
    assert refused.returncode == 6
    assert "no manager stands by for this one" in refused.stderr
    assert role(first) == "leader"
    second.start()
    stands_by(second)
    token = (first.data / "enroll.token").read_text()
    assert (second.data / "enroll.token").read_text() == token
    eventually(lambda: command(first, "step-down").returncode == 0, what="the leader knows of the other")
    leads(second)
    stands_by(first)
    assert health(second)["leader"]["epoch"] == 2
    status = command(first, "status").stdout
    assert "Leader " in status
    assert "Standby " in status
    assert first.running is not None
    assert first.running.process.poll() is None
    assert (second.data / "enroll.token").read_text() == token


def test_a_stopped_leader_is_followed_at_once(managers: DatabaseManagers) -> None:
    """An orderly stop releases the lease; the one that stood by leads with what the first stored."""
    first, second = managers.add(), managers.add()
    first.start()
    leads(first)
    second.start()
    stands_by(second)
    first.request("PUT", "/api/policies/global", {"thresholds": {"autoRespond": 77}})
    assert first.stop() == 0
    leads(second)
    assert second.get("/api/policies/global")["thresholds"]["autoRespond"] == 77


def test_another_key_file_and_an_embedded_broker_are_refused(managers: DatabaseManagers, tmp_path: Path) -> None:
    """A second manager says why it does not start: its key file is another, or its broker is its own."""
    first = managers.add()
    first.start()
    leads(first)
    (tmp_path / "other.key").write_text("11" * 32 + "\n")
    (tmp_path / "other.key").chmod(0o600)
    for environment, sentence in (
        ({"PANGUARD_KEY_FILE": str(tmp_path / "other.key")}, "this database belongs to another key file"),
        ({"PANGUARD_BROKER": "embedded"}, "the embedded broker ends with its manager"),
    ):
        second = managers.add(**environment)
        second._broker = environment.get("PANGUARD_BROKER", second._broker)
        running = second.launch()
        assert running.process.wait(60) == 1
        assert sentence in running.log.read_text()
    assert role(first) == "leader"


def test_a_role_of_several_is_refused_on_a_store_of_its_own(tmp_path: Path) -> None:
    """SQLite has one process."""
    manager = ManagerProcess(tmp_path, environment={"PANGUARD_ROLE": "ingest"})
    running = manager.launch()
    assert running.process.wait(60) == 1
    assert "needs a database that several processes share" in running.log.read_text()
