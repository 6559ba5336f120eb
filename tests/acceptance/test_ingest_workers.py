"""A leader and two ingest workers as processes, on one PostgreSQL and one Mosquitto, killed and stopped under load."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.group_services import broker, cluster
from tests.support.mosquitto import Mosquitto
from tests.support.postgresql import Postgresql
from tests.support.processes import GuardProcess, ManagerProcess
from tests.support.several_managers import DatabaseManagers, health, leads, role
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.long("tests/integration/ingest/test_ingest_engine.py"),
    pytest.mark.postgresql,
    pytest.mark.mosquitto,
]

__all__ = ["broker", "cluster"]


class Group:
    """A leader, two workers, and what is between them."""

    def __init__(self, managers: DatabaseManagers, cluster: Postgresql, broker: Mosquitto, name: str) -> None:
        self.managers = managers
        self.cluster = cluster
        self.broker = broker
        self._name = name
        self.leader = managers.add()
        self.workers = [managers.add(PANGUARD_ROLE="ingest") for _ in range(2)]

    def start(self) -> None:
        self.leader.start()
        leads(self.leader)
        for worker in self.workers:
            worker.start()
            ingests(worker)

    def rows(self, statement: str) -> list[tuple[object, ...]]:
        return self.cluster.execute(statement, self._name)

    def simulation(self, threats: int, rate: int) -> subprocess.Popen[str]:
        """Start simulated agents; their exit code is 0 if every report is stored once, with its content."""
        token, admin = (self.leader.data / name for name in ("enroll.token", "admin.token"))
        line = [
            sys.executable, "-m", "panguard", "simulate", "--manager", self.broker.url, "--agents", "20",
            "--threats", str(threats), "--rate", str(rate), "--shared-attackers", "0.4", "--heartbeats",
            "--repeats", "0.1", "--late-after", "10m", "--patience", "5m", "--enroll-token-file", str(token),
            "--auth-token-file", str(admin), "-o", "json",
        ]  # fmt: skip
        environment = {**os.environ, "MANAGER_URL": self.leader.http}
        return subprocess.Popen(  # noqa: S603 -- our own command
            line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        )

    def stored(self) -> int:
        ((count,),) = self.rows("SELECT count(*) FROM threat")
        assert isinstance(count, int)
        return count


@pytest.fixture
def group(cluster: Postgresql, broker: Mosquitto, tmp_path: Path) -> Iterator[Group]:
    address = cluster.create_empty()
    managers = DatabaseManagers(tmp_path, address.url, broker.url)
    yield Group(managers, cluster, broker, address.url.rsplit("/", 1)[1])
    managers.stop()


def ingests(worker: ManagerProcess) -> None:
    """Wait until a worker takes messages."""
    eventually(lambda: role(worker) == "ingest" and worker.not_ready() is None, 120, "the worker takes messages")


def test_reports_are_stored_once_whoever_is_killed(group: Group) -> None:
    """Leader, workers and PostgreSQL are killed or stopped under load: nothing lost or doubled, each incident once."""
    group.start()
    simulation = group.simulation(threats=900, rate=30)
    try:
        eventually(lambda: group.stored() > 60, 120, "reports are stored")
        one, two = group.workers
        faults: list[Callable[[], None]] = [
            lambda: (one.kill(), one.start(), ingests(one))[2],
            lambda: (group.leader.kill(), group.leader.start(), leads(group.leader))[2],
            lambda: (two.running.process.send_signal(signal.SIGSTOP), more(group), resume(two))[2],  # type: ignore[union-attr]
            lambda: (group.cluster.kill(), group.cluster.start())[1],
            lambda: (two.kill(), one.kill(), one.start(), two.start(), ingests(two))[4],
        ]
        for fault in faults:
            fault()
            more(group)
        output, _ = simulation.communicate(timeout=500)
    finally:
        simulation.kill()
        simulation.wait()
    assert simulation.returncode == 0, output[-3000:]
    assert group.stored() == 900
    twice = (
        "SELECT organization_id, kind, value, count(*) FROM incident WHERE merged_into IS NULL AND kind = 'source_ip'"
    )
    assert group.rows(f"{twice} GROUP BY 1, 2, 3 HAVING count(*) > 1") == []
    decided = "SELECT value FROM meta WHERE key = 'decided_sequences'"
    undecided = "SELECT low_water_mark()"
    eventually(
        lambda: str(group.rows(decided)[0][0]) == f"[{group.rows(undecided)[0][0]},[]]", 60, "everything is decided"
    )
    shared = (
        "SELECT count(*) FROM (SELECT source_ip FROM threat WHERE source_ip IS NOT NULL"
        " GROUP BY 1 HAVING count(DISTINCT agent_number) > 1) AS attacked"
        " WHERE NOT EXISTS (SELECT FROM incident WHERE kind = 'source_ip' AND value = source_ip)"
    )
    assert group.rows(shared) == [(0,)]


def more(group: Group) -> None:
    """Wait until further reports are stored."""
    before = group.stored()
    eventually(lambda: group.stored() > before or group.stored() >= 900, 180, "further reports are stored")


def resume(worker: ManagerProcess) -> None:
    assert worker.running is not None
    worker.running.process.send_signal(signal.SIGCONT)


def test_guards_notice_nothing_of_workers(group: Group) -> None:
    """With two workers a guard is online, its reports are shown by the leader, and a stopped worker is announced."""
    group.start()
    guard = GuardProcess(group.leader, "web-1")
    guard.start()
    try:
        for number in range(1, 6):
            guard.attacked_by(f"203.0.113.{number}")
        eventually(lambda: len(group.leader.get("/api/threats")) == 5, 120, "the reports")
        assert group.leader.agent("web-1")["status"] == "online"
        through_worker = group.workers[0].get("/api/threats")
        assert len(through_worker) == 5
        eventually(
            lambda: sorted(each["role"] for each in health(group.leader)["managers"]) == ["ingest", "ingest", "leader"],
            120,
            "the leader knows both workers",
        )
        assert group.workers[0].stop() == 0
        eventually(
            lambda: [each["role"] for each in health(group.leader)["managers"]].count("ingest") == 1,
            60,
            "the leader knows that one has stopped",
        )
    finally:
        guard.stop()


def test_a_worker_without_a_database_or_a_broker_is_refused(group: Group, tmp_path: Path) -> None:
    """`--role ingest` says in one line what it needs: a database that is shared, and a broker that splits messages."""
    group.leader.start()
    leads(group.leader)
    for words, sentence in (
        (["--broker", group.broker.url], "needs a database that several processes share"),
        (["--database", group.managers.environment["PANGUARD_DATABASE"]], "the embedded broker has no shared"),
    ):
        key_file = group.managers.environment["PANGUARD_KEY_FILE"]
        line = [
            sys.executable, "-m", "panguard", "manager", "start", "--role", "ingest", "--port", "0",
            "--data-dir", str(tmp_path / "refused"), "--key-file", key_file, *words,
        ]  # fmt: skip
        refused = subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)  # noqa: S603 -- our own
        assert refused.returncode != 0
        assert sentence in " ".join(refused.stderr.split())
        assert "Traceback" not in refused.stderr
