"""Managers of two releases as processes on one PostgreSQL and one Mosquitto, under load, for the time of an upgrade."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from manager.runtime.version import VERSION
from manager.storage.postgresql.schema_versions import newest_migration
from tests.integration.mqtt.door_bench import peer
from tests.support.mosquitto import Mosquitto
from tests.support.postgresql import Postgresql
from tests.support.processes import GuardProcess, ManagerProcess
from tests.support.releases import (
    Release,
    next_release,
    release_after_next,
    release_before,
    release_without_batches,
)
from tests.support.several_managers import DatabaseManagers, health, leads, role, stands_by, step_down
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.long("tests/integration/storage/postgresql/test_rolling_upgrade.py"),
    pytest.mark.postgresql,
    pytest.mark.mosquitto,
    pytest.mark.timeout(1200),
]

REPORTS = 120
"""Reports of each simulation; one follows the other as long as the load lasts."""


class Fleet:
    """Managers of several releases, a guard, and simulations that report all the time."""

    def __init__(self, home: Path, cluster: Postgresql, broker: Mosquitto) -> None:
        address = cluster.create_empty()
        self._cluster, self._broker = cluster, broker
        self._database = address.url.rsplit("/", 1)[1]
        self._managers = DatabaseManagers(home, address.url, broker.url)
        self._home = home
        self._load = threading.Thread(target=self._report, daemon=True)
        self._ends = threading.Event()
        self._rounds: list[tuple[int, str]] = []
        self._simulation: subprocess.Popen[str] | None = None
        self._attacks = 0
        self.asked: ManagerProcess | None = None
        """The manager at which the simulations check their reports."""
        self.guard: GuardProcess | None = None

    def add(self, release: Release | None = None, **environment: str) -> ManagerProcess:
        """Return another manager of a release, not started; of this one without a release."""
        manager = self._managers.add(**environment, **({} if release is None else release.environment))
        self.asked = self.asked or manager
        return manager

    def begin(self, manager: ManagerProcess) -> None:
        """Start a guard, and the load."""
        self.guard = GuardProcess(manager, "web-1")
        self.guard.start()
        self._load.start()
        self.goes_on()

    def goes_on(self) -> None:
        """Have the guard report, and wait until that and reports of the load are stored."""
        before = self.count("threat")
        self.attack(1)
        eventually(lambda: self.count("threat") > before + 10, 180, "reports are stored")

    def attack(self, number: int) -> None:
        """Have the guard report so many attacks at once, and wait until they are stored."""
        assert self.guard is not None
        first, self._attacks = self._attacks + 1, self._attacks + number
        self.guard.attacked_by(*(f"203.0.113.{each}" for each in range(first, first + number)))
        mine = "SELECT count(*) FROM threat WHERE source_ip LIKE '203.0.113.%'"
        eventually(lambda: self.rows(mine) == [(self._attacks,)], 180, "the guard's reports")

    def check_at(self, manager: ManagerProcess) -> None:
        """Have simulations check their reports at a manager, and wait for the end of those that do so elsewhere."""
        self.asked = manager
        before = len(self._rounds)
        eventually(lambda: len(self._rounds) > before, 300, "the end of a simulation")

    def end(self) -> None:
        """End the load, and check the ledger: every report stored once, and no source has two incidents."""
        self._ends.set()
        self._load.join(400)
        assert not self._load.is_alive()
        assert self._rounds
        failed = [f"simulation {number} of {len(self._rounds)}, exit code {code}: {text[-2000:]}"
                  for number, (code, text) in enumerate(self._rounds, 1) if code]  # fmt: skip
        assert not failed, "\n".join(failed)
        assert self.count("threat") == REPORTS * len(self._rounds) + self._attacks
        assert self.count("stored_id") == self.count("threat")
        decided = "SELECT value FROM meta WHERE key = 'decided_sequences'"
        marks = "SELECT low_water_mark()"
        eventually(lambda: self.rows(decided) == [(f"[{self.rows(marks)[0][0]},[]]",)], 60, "everything is decided")
        twice = "SELECT value FROM incident WHERE merged_into IS NULL AND kind = 'source_ip'"
        assert self.rows(f"{twice} GROUP BY organization_id, kind, value HAVING count(*) > 1") == []
        shared = (
            "SELECT count(*) FROM (SELECT source_ip FROM threat WHERE source_ip IS NOT NULL"
            " GROUP BY 1 HAVING count(DISTINCT agent_number) > 1) AS attacked"
            " WHERE NOT EXISTS (SELECT FROM incident WHERE kind = 'source_ip' AND value = source_ip)"
        )
        assert self.rows(shared) == [(0,)]
        assert self.guard is not None
        assert self.guard.running is not None
        assert self.guard.running.log.read_text().count("session_open") == 1

    def stop(self) -> None:
        """End everything."""
        self._ends.set()
        if self._simulation is not None:
            self._simulation.kill()
        if self.guard is not None:
            self.guard.stop()
        self._managers.stop()

    def count(self, table: str) -> int:
        ((count,),) = self.rows(f"SELECT count(*) FROM {table}")
        assert isinstance(count, int)
        return count

    def rows(self, statement: str) -> list[tuple[object, ...]]:
        return self._cluster.execute(statement, self._database)

    def announced(self) -> list[str]:
        """Return the features in the keys that the broker keeps."""
        with peer(self._broker.port) as observer:
            observer.subscribe("panguard/v1/manager/keys")
            _, payload = observer.heard.get(timeout=60)
            return list(json.loads(payload)["accepts"])

    def announces(self, *features: str) -> None:
        """Wait until the leader announces these features."""
        eventually(lambda: self.announced() == list(features), 60, f"{features} are announced", pause=0.5)

    def _report(self) -> None:
        while not self._ends.is_set():
            manager = self.asked
            assert manager is not None
            first = self._managers.all[0].data
            line = [
                sys.executable, "-m", "panguard", "simulate", "--manager", self._broker.url, "--agents", "8",
                "--threats", str(REPORTS), "--rate", "20", "--shared-attackers", "0.4", "--heartbeats",
                "--repeats", "0.1", "--late-after", "10m", "--patience", "5m", "--seed", str(len(self._rounds) + 1),
                "--enroll-token-file", str(first / "enroll.token"), "--auth-token-file", str(first / "admin.token"),
                "-o", "json",
            ]  # fmt: skip
            environment = {**os.environ, "MANAGER_URL": manager.http}
            self._simulation = subprocess.Popen(  # noqa: S603 -- our own command
                line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
            )
            output, _ = self._simulation.communicate()
            self._rounds.append((self._simulation.returncode, output))


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with Postgresql() as cluster, Mosquitto() as broker:
        fleet = Fleet(tmp_path, cluster, broker)
        try:
            yield fleet
        finally:
            fleet.stop()


def ingests(worker: ManagerProcess) -> None:
    """Wait until a worker takes messages."""
    eventually(lambda: role(worker) == "ingest" and worker.not_ready() is None, 120, "the worker takes messages")


def is_refused(manager: ManagerProcess) -> str:
    """Start a manager that ends with an error; return its output."""
    running = manager.launch()
    assert running.process.wait(120) == 1
    text = " ".join(running.log.read_text().split())
    assert "Traceback" not in text
    return text


def is_refused_beside_managers_of_this_release(newest: ManagerProcess) -> None:
    """Start a manager whose migration removes something; it names those that need it."""
    sentence = is_refused(newest)
    assert "removes what managers of earlier releases need, and such work on this database" in sentence
    assert f"knows {newest_migration():04})" in sentence
    assert f"knows {newest_migration() + 1:04})" not in sentence


def knows_of(manager: ManagerProcess, *expected: tuple[str, str]) -> None:
    """Wait until a manager knows of these others and itself, each by its release and role."""

    def known() -> list[tuple[str, str]]:
        return sorted((each["version"], each["role"]) for each in health(manager)["managers"])

    eventually(lambda: known() == sorted(expected), 60, f"it knows of {expected}")


def test_the_next_release_takes_over_beside_this_one_and_gives_back(fleet: Fleet, tmp_path: Path) -> None:
    """Both directions under load: expand, hand over, roll back, hand over again, end the old ones, contract."""
    later, latest = next_release(tmp_path / "next"), release_after_next(tmp_path / "after-next")
    old, old_worker = fleet.add(), fleet.add(PANGUARD_ROLE="ingest")
    new, new_worker = fleet.add(later), fleet.add(later, PANGUARD_ROLE="ingest")
    newest = fleet.add(latest)
    old.start()
    leads(old)
    old_worker.start()
    ingests(old_worker)
    fleet.begin(old)

    new.start()
    stands_by(new)
    assert fleet.rows("SELECT count(*) FROM schema_migration") == [(newest_migration() + 1,)]
    fleet.goes_on()
    new_worker.start()
    ingests(new_worker)
    eventually(lambda: fleet.count("threat WHERE stored_by = 'next'") > 0, 180, "the new worker stores beside the old")
    fleet.check_at(new)

    step_down(old)
    leads(new)
    stands_by(old)
    knows_of(new, (VERSION, "standby"), (VERSION, "ingest"), (later.version, "leader"), (later.version, "ingest"))
    fleet.announces("threats.batch")
    fleet.goes_on()

    step_down(new)
    leads(old)
    stands_by(new)
    fleet.goes_on()

    is_refused_beside_managers_of_this_release(newest)

    step_down(old)
    leads(new)
    stands_by(old)
    assert old.stop() == 0
    assert old_worker.stop() == 0
    fleet.announces("threats.batch", "threats.next")
    fleet.goes_on()

    newest.start()
    stands_by(newest)
    step_down(new)
    leads(newest)
    assert f"needs one that knows the migration {newest_migration() + 1:04}" in is_refused(old)
    fleet.goes_on()
    fleet.end()
    by_release = dict(fleet.rows("SELECT stored_by, count(*) FROM threat GROUP BY 1"))
    assert set(by_release) == {"", "next"}


def test_this_release_takes_over_beside_the_one_before(fleet: Fleet, tmp_path: Path) -> None:
    """From the first two migrations, under load; the old leader that steps down says which release it needs now."""
    before = release_before(tmp_path / "before")
    old, old_worker = fleet.add(before), fleet.add(before, PANGUARD_ROLE="ingest")
    new, new_worker = fleet.add(), fleet.add(PANGUARD_ROLE="ingest")
    old.start()
    leads(old)
    old_worker.start()
    ingests(old_worker)
    assert fleet.rows("SELECT name FROM schema_migration ORDER BY name") == [("0001_baseline",), ("0002_lease",)]
    fleet.begin(old)

    new.start()
    stands_by(new)
    assert fleet.rows("SELECT count(*) FROM schema_migration") == [(newest_migration(),)]
    new_worker.start()
    ingests(new_worker)
    knows_of(new, (before.version, "leader"), (before.version, "ingest"), (VERSION, "standby"), (VERSION, "ingest"))
    fleet.goes_on()
    fleet.check_at(new)

    step_down(old)
    leads(new)
    assert old.running is not None
    assert old.running.process.wait(120) == 1
    eventually(lambda: "written by a newer release" in old.running.log.read_text(), what="the old one says why")
    fleet.goes_on()
    assert old_worker.stop() == 0
    fleet.goes_on()
    fleet.end()


def test_a_worker_without_batches_takes_them_back(fleet: Fleet, tmp_path: Path) -> None:
    """It joins under load, and for as long as it lives guards send each report alone; nothing is lost meanwhile."""
    release = release_without_batches(tmp_path / "without")
    leader, worker = fleet.add(), fleet.add(release, PANGUARD_ROLE="ingest")
    leader.start()
    leads(leader)
    fleet.announces("threats.batch")
    fleet.begin(leader)
    worker.start()
    ingests(worker)
    fleet.announces()
    fleet.check_at(leader)
    within_the_window = fleet.count("dead_letter")
    for _ in range(10):
        fleet.attack(10)
    assert fleet.count("dead_letter") == within_the_window
    assert worker.stop() == 0
    fleet.announces("threats.batch")
    fleet.goes_on()
    fleet.end()


def test_batches_for_a_worker_that_takes_none_are_sent_again_alone(fleet: Fleet, tmp_path: Path) -> None:
    """As in the seconds before the leader takes it back, but for good: the worker says that it has what it lacks."""
    release = release_without_batches(tmp_path / "without", says_so=False)
    leader, worker = fleet.add(), fleet.add(release, PANGUARD_ROLE="ingest")
    leader.start()
    leads(leader)
    worker.start()
    ingests(worker)
    fleet.begin(leader)
    for _ in range(20):
        if not fleet.count("dead_letter"):
            fleet.attack(10)
    assert fleet.count("dead_letter") > 0
    assert fleet.announced() == ["threats.batch"]
    fleet.end()
