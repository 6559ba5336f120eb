"""Simulated fleets at real managers, over each door: the reports balance, and planted faults are found."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from manager.tls.directory import AUTHORITY, TlsDirectory
from simulate import Simulation, UnreachableError, run
from tests.integration.simulate.plans import assert_even, plan
from tests.support.processes import ManagerProcess
from tests.support.production_mosquitto import ProductionMosquitto
from tests.support.waiting import eventually

pytestmark = pytest.mark.long("tests/property/test_simulate_ledger.py")


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ManagerProcess]:
    with ManagerProcess(tmp_path_factory.mktemp("simulate")) as manager:
        yield manager


@pytest.fixture(scope="module")
def at_mosquitto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ManagerProcess, ProductionMosquitto]]:
    home = tmp_path_factory.mktemp("simulate-mosquitto")
    with ProductionMosquitto(home / "manager", home / "broker") as broker:
        _, password = broker.credential("manager")
        environment = {"PANGUARD_BROKER_PASSWORD": password}
        with ManagerProcess(home, broker.url, environment) as manager:
            yield manager, broker


def test_over_the_embedded_broker(manager: ManagerProcess) -> None:
    """Agents register, report and obey over connections of their own; cuts and copies lose and double nothing."""
    found = run(plan(manager, seed=1, cuts=6, repeats=0.3)).members()
    assert_even(found)
    assert (found["registered"], found["connected"], found["cuts"]) == (12, 12, 6)
    assert found["receipted"] == 240
    assert found["incidents"] == 24  # 120 reports of shared attackers, five each
    assert found["policiesApplied"] > 12
    assert (found["ignored"], found["incidentsDoubled"]) == (0, 0)
    agents = [agent for agent in manager.get("/api/agents") if agent["hostname"].startswith("sim-1-")]
    assert {agent["status"] for agent in agents} == {"offline"}


@pytest.mark.parametrize("connections", [None, 3])
def test_over_http(manager: ManagerProcess, connections: int | None) -> None:
    """The same over HTTP, on a connection for each agent and on three that all share."""
    seed = 20 + (connections or 0)
    found = run(plan(manager, manager=manager.http, seed=seed, connections=connections, cuts=4)).members()
    assert_even(found)
    assert (found["registered"], found["connected"], found["addresses"]) == (12, 12, [manager.http])
    assert found["incidents"] == 24


@pytest.mark.mosquitto
def test_over_mosquitto(at_mosquitto: tuple[ManagerProcess, ProductionMosquitto]) -> None:
    """The same at Mosquitto with dynamic security, where each agent is a login."""
    found = run(plan(at_mosquitto[0], seed=3, cuts=6, repeats=0.1)).members()
    assert_even(found)
    assert (found["registered"], found["connected"], found["incidentsDoubled"]) == (12, 12, 0)


@pytest.mark.mosquitto
def test_mosquitto_killed_in_mid_run(at_mosquitto: tuple[ManagerProcess, ProductionMosquitto]) -> None:
    """A broker that is killed and started again costs a pause, and no report."""
    manager, broker = at_mosquitto
    with Simulation(plan(manager, seed=4, threats=400, rate=80.0)) as simulation:
        simulation.wait_until_connected(60)
        eventually(lambda: simulation.progress.sent > 80)
        broker.kill()
        broker.start()
        found = simulation.result(120).members()
    assert_even(found, 400)
    assert found["reconnects"] >= 12


@pytest.mark.parametrize("door", ["mqtt", "http"])
def test_a_manager_killed_in_mid_run(tmp_path: Path, door: str) -> None:
    """A manager that is killed and started again, its embedded broker with it, costs a pause, and no report."""
    with ManagerProcess(tmp_path) as manager:
        url = manager.mqtt if door == "mqtt" else manager.http
        with Simulation(plan(manager, manager=url, threats=400, rate=80.0)) as simulation:
            simulation.wait_until_connected(60)
            for sent in (80, 240):
                eventually(lambda least=sent: simulation.progress.sent > least)
                manager.kill()
                manager.start()
            found = simulation.result(120).members()
    assert_even(found, 400)
    assert found["longestPause"] > 0.5
    assert found["incidentsDoubled"] == 0


def test_an_agent_that_is_moved_comes_back(manager: ManagerProcess) -> None:
    """Agents that an operator moves to another organization meanwhile connect again, and lose no report."""
    with Simulation(plan(manager, seed=5)) as simulation:
        simulation.wait_until_connected(60)
        agents = [agent for agent in manager.get("/api/agents") if agent["hostname"].startswith("sim-5-")]
        for agent in agents[:6]:
            manager.request("PATCH", f"/api/agents/{agent['agentId']}", {"organization": "other"})
        eventually(lambda: _moved_and_online(manager) == 6, 60)
        found = simulation.result(120).members()
    assert_even(found)
    assert found["connected"] == 12


def _moved_and_online(manager: ManagerProcess) -> int:
    records = manager.get("/api/agents", org_id="other")
    return sum(each["status"] == "online" and each["policyCurrent"] and each["session"] > 1 for each in records)


def test_a_second_run_connects_again(manager: ManagerProcess, tmp_path: Path) -> None:
    """With a state directory the same agents come back without registering."""
    given = plan(manager, seed=6, threats=20, state=tmp_path / "state")
    first, second = run(given).members(), run(given).members()
    assert_even(first, 20)
    assert_even(second, 20)
    assert (first["registered"], second["registered"], second["connected"]) == (12, 0, 12)
    agents = [agent for agent in manager.get("/api/agents") if agent["hostname"].startswith("sim-6-")]
    assert len(agents) == 12


def test_no_other_address_is_connected_to(manager: ManagerProcess) -> None:
    """While it runs, this process has connections to the two addresses of the plan, and to nothing beside."""
    given = plan(manager, seed=7, threats=200, rate=100.0)
    allowed = {given.door.port, given.admin_address.port}
    process, before, seen = psutil.Process(), set(psutil.Process().net_connections("inet")), set()
    with Simulation(given) as simulation:
        while not simulation.is_over:
            fresh = set(process.net_connections("inet")) - before
            seen |= {tuple(each.raddr) for each in fresh if each.raddr}
            simulation._over.wait(0.05)
        assert_even(simulation.result().members(), 200)
    assert {port for _, port in seen} == allowed
    assert {host for host, _ in seen} == {"127.0.0.1"}


def test_a_wrong_token_is_said(manager: ManagerProcess) -> None:
    """The admin token is tried before any agent registers."""
    given = plan(manager, seed=8, auth_token="wrong")
    with pytest.raises(UnreachableError, match="refuses this token"):
        run(given)
    assert not [agent for agent in manager.get("/api/agents") if agent["hostname"].startswith("sim-8-")]


def test_result_is_json(manager: ManagerProcess) -> None:
    """A result has the members that scripts read, as JSON values."""
    members = json.loads(json.dumps(run(plan(manager, seed=9, threats=5)).members()))
    assert members.keys() >= {
        "sent", "stored", "lost", "doubled", "late", "refused", "seconds", "timeToReceipt", "longestPause",
        "cpuSeconds", "cpuShare", "memoryMiB", "agents", "connected", "receipts", "deferred", "incidents",
        "incidentsSplit", "policiesApplied",
    }  # fmt: skip
    assert members["memoryMiB"] > 10
    half, most, whole = (members["timeToReceipt"][share] for share in ("50", "95", "100"))
    assert 0 < half <= most <= whole <= members["seconds"]


@pytest.mark.parametrize("door", ["mqtts", "https"])
def test_over_tls(tmp_path: Path, door: str) -> None:
    """Both doors and the HTTP API are verified by the CA file; without it nobody is let in, in one sentence."""
    with ManagerProcess(tmp_path, tls=True) as manager:
        url = {"mqtts": manager.mqtt, "https": manager.http}[door]
        authority = TlsDirectory(manager.data).certificate(AUTHORITY)
        assert_even(run(plan(manager, manager=url, ca_file=authority, threats=20)).members(), 20)
        with pytest.raises(UnreachableError, match=r"give the manager's ca\.crt as --ca-file"):
            run(plan(manager, manager=url, threats=20))


@pytest.mark.parametrize("door", ["mqtt", "http"])
def test_a_removed_agent_registers_again(tmp_path: Path, door: str) -> None:
    """An agent that is removed in mid-run registers anew, and its reports count under both of its ids.

    A report whose receipt the removal cut off is sent again under the new id: to the manager that is another agent's,
    so it is stored once under each, and the ledger says so.
    """
    with ManagerProcess(tmp_path) as manager:
        url = manager.mqtt if door == "mqtt" else manager.http
        with Simulation(plan(manager, manager=url, agents=2, threats=150, rate=15.0)) as simulation:
            simulation.wait_until_connected(60)
            eventually(lambda: simulation.progress.sent > 40)
            agent_id = manager.agent("sim-1-00000")["agentId"]
            manager.request("DELETE", f"/api/agents/{agent_id}", purge=True)
            found = simulation.result(120).members()
        assert manager.agent("sim-1-00000")["agentId"] != agent_id
        stored = Counter(threat["id"] for threat in manager.get("/api/threats"))
        under = {threat["id"] + threat["agentId"] for threat in manager.get("/api/threats")}
    assert (found["sent"], found["stored"], found["registered"]) == (150, 150, 3)
    assert (found["lost"], found["altered"], found["refused"]) == (0, 0, 0)
    assert found["doubled"] == len([name for name, count in stored.items() if count > 1])
    assert len(under) == stored.total()  # under one agent's id, each stands once
