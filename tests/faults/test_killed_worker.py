"""A worker is killed at each step of a batch: each report is stored once, decided once, and has a receipt."""

import os
import random
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from simulate import Simulation
from tests.integration.simulate.plans import assert_even, plan
from tests.support.ended_worker import POINT_FILE, POINTS
from tests.support.examples import examples
from tests.support.group_services import broker, cluster
from tests.support.mosquitto import Mosquitto
from tests.support.postgresql import Postgresql
from tests.support.several_managers import DatabaseManagers, leads, role
from tests.support.waiting import eventually

pytestmark = [pytest.mark.postgresql, pytest.mark.mosquitto]

__all__ = ["broker", "cluster"]

_NEVER = 1_000_000
_TWICE = """
SELECT value FROM incident WHERE kind = 'source_ip' AND merged_into IS NULL
GROUP BY organization_id, value HAVING count(*) > 1
"""
_COUNTED = """
SELECT value, report_count, reports FROM incident
JOIN (SELECT source_ip, count(*) AS reports FROM threat GROUP BY 1) AS threats ON source_ip = value
WHERE kind = 'source_ip' AND merged_into IS NULL AND report_count <> reports
"""
_MISSED = """
SELECT source_ip FROM threat WHERE NOT EXISTS (SELECT FROM incident WHERE kind = 'source_ip' AND value = source_ip)
GROUP BY source_ip HAVING count(DISTINCT agent_number) > 1
"""


class Group:
    """A leader, and a worker that ends at the point that a file names."""

    def __init__(self, home: Path, cluster: Postgresql, broker: Mosquitto) -> None:
        address = cluster.create_empty()
        self._cluster, self._name = cluster, address.url.rsplit("/", 1)[1]
        self._point = home / "point"
        patch = home / "patch"
        patch.mkdir()
        (patch / "sitecustomize.py").write_text("from tests.support import ended_worker\n\nended_worker.install()\n")
        self.managers = DatabaseManagers(home, address.url, broker.url)
        unlimited = {"PANGUARD_RATE_LIMIT": "0", "PANGUARD_TRUSTED_NETWORKS": "127.0.0.1/32"}
        self.leader = self.managers.add(**unlimited)
        patched = {"PYTHONPATH": f"{patch}{os.pathsep}{Path.cwd()}", POINT_FILE: str(self._point)}
        self.worker = self.managers.add(PANGUARD_ROLE="ingest", **unlimited, **patched)

    def start_worker(self) -> None:
        self.worker.start()
        eventually(lambda: role(self.worker) == "ingest" and self.worker.not_ready() is None, 120, "a worker")

    def end_worker(self, point: str) -> None:
        """Wait until the worker has ended at a point."""
        assert self.worker.running is not None
        process = self.worker.running.process
        self._point.write_text(point)
        eventually(lambda: process.poll() is not None, 120, f"the worker ends: {point}")
        assert (process.poll(), self._point.exists()) == (-signal.SIGKILL, False)

    def rows(self, statement: str) -> list[tuple[object, ...]]:
        return self._cluster.execute(statement, self._name)

    def is_decided(self) -> bool:
        """Return whether the leader has decided on all that is stored."""
        ((decided,),) = self.rows("SELECT value FROM meta WHERE key = 'decided_sequences'")
        ((mark,),) = self.rows("SELECT low_water_mark()")
        return decided == f"[{mark},[]]"


@pytest.fixture
def group(cluster: Postgresql, broker: Mosquitto, tmp_path: Path) -> Iterator[Group]:
    group = Group(tmp_path, cluster, broker)
    yield group
    group.managers.stop()


def simulation(group: Group, door: str, seed: int) -> Simulation:
    """Return simulated agents that report until they are stopped, half of it about attackers that several see."""
    members = {"threats": _NEVER, "rate": 15.0, "repeats": 0.1, "late_after": 600.0, "patience": 300.0}
    return Simulation(plan(group.leader, manager=door, seed=seed, **members))


@pytest.mark.timeout(1800)
def test_a_worker_may_end_at_every_step(group: Group, broker: Mosquitto) -> None:
    """Agents over MQTT and at the worker's HTTP door report while it is killed at steps, and started again.

    At each one in CI; elsewhere at a third of them, other ones in each run, in their order.
    """
    steps = sorted(random.sample(range(len(POINTS)), examples(len(POINTS))))
    group.leader.start()
    leads(group.leader)
    group.start_worker()
    with ExitStack() as stack:
        doors = (broker.url, group.worker.http)
        running = [stack.enter_context(simulation(group, door, seed)) for seed, door in enumerate(doors, 1)]
        for each in running:
            each.wait_until_connected(120)
        for step in steps:
            group.end_worker(POINTS[step])
            group.start_worker()
        for each in running:
            each.stop()
        found = [each.result(300).members() for each in running]
    for each in found:
        assert_even(each, each["sent"])
        assert each["receipted"] == each["sent"] > 0
    sent = sum(each["sent"] for each in found)
    assert group.rows("SELECT count(*), count(DISTINCT (agent_number, threat_id)) FROM threat") == [(sent, sent)]
    assert group.rows("SELECT count(*) FROM stored_id") == [(sent,)]
    eventually(group.is_decided, 120, "the leader has decided on every report")
    assert sum(each["incidents"] for each in found) > 0
    eventually(lambda: group.rows(_COUNTED) == [], 60, "each incident counts each of its reports once")
    assert (group.rows(_TWICE), group.rows(_MISSED)) == ([], [])
