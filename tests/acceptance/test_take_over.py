"""A take-over under load: the leader is killed while agents report over MQTT and HTTP, and a stand-by leads on."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.mosquitto import Mosquitto
from tests.support.postgresql import Postgresql
from tests.support.processes import GuardProcess, ManagerProcess
from tests.support.several_managers import DatabaseManagers, health, leads, stands_by
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.long("tests/integration/storage/postgresql/test_warm_agents.py"),
    pytest.mark.postgresql,
    pytest.mark.mosquitto,
]

RATE, AGENTS, REPORTS = 150, 30, 2400
"""Of each of two simulated fleets, one over MQTT and one over HTTP; 300 reports a second together."""

STALE_AFTER = 60
"""Seconds; simulated agents beat each 30 s, guards each half second."""

MANAGER = {"PANGUARD_RATE_LIMIT": "0", "PANGUARD_STALE_AFTER": str(STALE_AFTER)}


class Group:
    """Two managers on one database and one broker, simulated fleets and guards."""

    def __init__(self, home: Path, stack: ExitStack) -> None:
        self._stack = stack
        self.cluster = stack.enter_context(Postgresql())
        self.broker = stack.enter_context(Mosquitto())
        address = self.cluster.create_empty()
        self._database = address.url.rsplit("/", 1)[1]
        managers = DatabaseManagers(home, address.url, self.broker.url)
        stack.callback(managers.stop)
        self.first, self.second = managers.add(**MANAGER), managers.add(**MANAGER)
        self.first.start()
        leads(self.first)
        self.second.start()
        stands_by(self.second)

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        return self.cluster.execute(statement, self._database)

    def stored(self) -> int:
        return int(self.rows("SELECT count(*) FROM threat")[0][0])

    def guard(self, hostname: str, url: str) -> GuardProcess:
        """Return a guard that has registered."""
        guard = GuardProcess(self.second, hostname, url=url)
        guard.start()
        self._stack.callback(guard.stop)
        return guard

    def simulation(self, door: str, seed: int) -> subprocess.Popen[str]:
        """Start a simulated fleet; its exit code is 0 if every report is stored once, with its content."""
        token, admin = (self.second.data / name for name in ("enroll.token", "admin.token"))
        line = [
            sys.executable, "-m", "panguard", "simulate", "--manager", door, "--agents", str(AGENTS),
            "--threats", str(REPORTS), "--rate", str(RATE), "--heartbeats", "--seed", str(seed),
            "--late-after", "10m", "--patience", "5m", "--enroll-token-file", str(token),
            "--auth-token-file", str(admin), "-o", "json",
        ]  # fmt: skip
        environment = {**os.environ, "MANAGER_URL": self.second.http}
        started = subprocess.Popen(  # noqa: S603 -- our own command
            line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        )
        self._stack.callback(started.wait)
        self._stack.callback(started.kill)
        return started


@pytest.fixture
def group(tmp_path: Path) -> Iterator[Group]:
    with ExitStack() as stack:
        yield Group(tmp_path, stack)


def leads_since(manager: ManagerProcess) -> float:
    """Return for how many seconds a manager has led."""
    since = datetime.fromisoformat(health(manager)["leader"]["since"])
    return (datetime.now(UTC) - since).total_seconds()


@pytest.mark.timeout(900)
def test_a_take_over_under_load_loses_nothing_and_makes_nobody_stale(group: Group) -> None:
    """300 reports a second over both doors, guards attacked before and between: all is stored once, all stay online."""
    guards = [group.guard("over-mqtt", group.broker.url), group.guard("over-http", group.second.http)]
    log = group.second.running.log  # type: ignore[union-attr]
    eventually(lambda: "event=agents_read" in log.read_text(), what="the stand-by has read the agents")
    fleets = [group.simulation(group.broker.url, seed=21), group.simulation(group.second.http, seed=22)]
    eventually(lambda: group.stored() > 600, 300, "reports are stored")
    for guard in guards:
        guard.attacked_by("203.0.113.1")
    group.first.kill()
    for guard in guards:
        guard.attacked_by("203.0.113.2")
    leads(group.second)
    assert "event=agents_not_kept_warm" not in log.read_text()
    for fleet in fleets:
        output, _ = fleet.communicate(timeout=400)
        assert fleet.returncode == 0, output[-3000:]
        found = json.loads(output[output.index("{") :])
        assert (found["sent"], found["lost"]) == (REPORTS, 0)
    for guard in guards:
        agent_id = guard.agent_id()

        def attackers(agent_id: str = agent_id) -> list[str]:
            threats = group.second.get("/api/threats", agentId=agent_id)
            return sorted(threat["threat"]["evidence"]["sourceIp"] for threat in threats)

        eventually(lambda read=attackers: read() == ["203.0.113.1", "203.0.113.2"], what="both attacks, once each")
    eventually(lambda: leads_since(group.second) > STALE_AFTER + 5, 300, "every timer of silence has ended")
    assert group.rows("SELECT agent_id FROM agent_history WHERE event = 'agent_stale'") == []
    assert [group.second.agent(guard.hostname)["status"] for guard in guards] == ["online", "online"]
    assert group.stored() == 2 * REPORTS + 4
