"""Simulated fleets at real managers, over each door: the books balance, and planted faults are found."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from simulate import Plan, Simulation, UnreachableError, run
from tests.support.processes import ManagerProcess
from tests.support.production_mosquitto import ProductionMosquitto
from tests.support.waiting import eventually

QUICK = {"reconnect_base": 0.2, "reconnect_cap": 1.0, "receipt_timeout": 3.0, "patience": 40.0, "heartbeat_interval": 1}
KINDS = ("lost", "doubled", "altered", "refused", "unsent")


def _plan(at: ManagerProcess, **members: Any) -> Plan:
    given = {
        "manager": at.mqtt,
        "admin": at.http,
        "enroll_token": (at.data / "enroll.token").read_text(),
        "auth_token": (at.data / "admin.token").read_text().strip(),
        "agents": 12,
        "threats": 240,
        "rate": 120.0,
        "shared_attackers": 0.5,
        "heartbeats": True,
    }
    return Plan(**(given | QUICK | members))


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


def _are_even(found: dict[str, Any], threats: int = 240) -> None:
    assert {kind: found[kind] for kind in KINDS} == dict.fromkeys(KINDS, 0), found["examples"]
    assert (found["sent"], found["stored"], found["balanced"]) == (threats, threats, True)


def test_over_the_embedded_broker(manager: ManagerProcess) -> None:
    """Agents register, report and obey over connections of their own; cuts and copies lose and double nothing."""
    found = run(_plan(manager, seed=1, cuts=6, repeats=0.3)).members()
    _are_even(found)
    assert (found["registered"], found["connected"], found["cuts"]) == (12, 12, 6)
    assert found["receipted"] == 240
    assert found["incidents"] >= 20  # 120 reports of shared attackers, five each, some in one /64
    assert found["policiesApplied"] > 12
    assert (found["ignored"], found["incidentsDoubled"]) == (0, 0)
    agents = [agent for agent in manager.get("/api/agents") if agent["hostname"].startswith("sim-1-")]
    assert {agent["status"] for agent in agents} == {"offline"}


@pytest.mark.parametrize("connections", [None, 3])
def test_over_http(manager: ManagerProcess, connections: int | None) -> None:
    """The same over HTTP, on a connection for each agent and on three that all share."""
    seed = 20 + (connections or 0)
    found = run(_plan(manager, manager=manager.http, seed=seed, connections=connections, cuts=4)).members()
    _are_even(found)
    assert (found["registered"], found["connected"], found["addresses"]) == (12, 12, [manager.http])
    assert found["incidents"] >= 20


@pytest.mark.mosquitto
def test_over_mosquitto(at_mosquitto: tuple[ManagerProcess, ProductionMosquitto]) -> None:
    """The same at Mosquitto with dynamic security, where each agent is a login."""
    found = run(_plan(at_mosquitto[0], seed=3, cuts=6, repeats=0.1)).members()
    _are_even(found)
    assert (found["registered"], found["connected"], found["incidentsDoubled"]) == (12, 12, 0)


@pytest.mark.mosquitto
def test_mosquitto_killed_in_mid_run(at_mosquitto: tuple[ManagerProcess, ProductionMosquitto]) -> None:
    """A broker that is killed and started again costs a pause, and no report."""
    manager, broker = at_mosquitto
    with Simulation(_plan(manager, seed=4, threats=400, rate=80.0)) as simulation:
        simulation.wait_until_connected(30)
        eventually(lambda: simulation.progress.sent > 80, 20)
        broker.kill()
        broker.start()
        found = simulation.result(55).members()
    _are_even(found, 400)
    assert found["reconnects"] >= 12


@pytest.mark.parametrize("door", ["mqtt", "http"])
def test_a_manager_killed_in_mid_run(tmp_path: Path, door: str) -> None:
    """A manager that is killed and started again, its embedded broker with it, costs a pause, and no report."""
    with ManagerProcess(tmp_path) as manager:
        url = manager.mqtt if door == "mqtt" else manager.http
        with Simulation(_plan(manager, manager=url, threats=400, rate=80.0)) as simulation:
            simulation.wait_until_connected(30)
            for sent in (80, 240):
                eventually(lambda least=sent: simulation.progress.sent > least, 20)
                manager.kill()
                manager.start()
            found = simulation.result(55).members()
    _are_even(found, 400)
    assert found["longestPause"] > 0.5
    assert found["incidentsDoubled"] == 0


@pytest.mark.mosquitto
def test_a_loss_is_found(at_mosquitto: tuple[ManagerProcess, ProductionMosquitto]) -> None:
    """Reports that never reached the manager, because its broker stayed away, are lost, and the books are not even."""
    manager, broker = at_mosquitto
    try:
        with Simulation(_plan(manager, seed=5, patience=1.0)) as simulation:
            simulation.wait_until_connected(30)
            eventually(lambda: simulation.progress.sent > 60, 20)
            broker.kill()
            found = simulation.result(50).members()
    finally:
        broker.start()
    assert 0 < found["lost"] < 240
    assert found["lost"] == 240 - found["stored"]
    assert found["late"] == found["stored"] - found["receipted"]  # stored, and no receipt has come
    assert (len(found["examples"]["lost"]), found["balanced"]) == (20, False)


def test_a_second_run_connects_again(manager: ManagerProcess, tmp_path: Path) -> None:
    """With a state directory the same agents come back without registering."""
    plan = _plan(manager, seed=6, threats=20, state=tmp_path / "state")
    first, second = run(plan).members(), run(plan).members()
    _are_even(first, 20)
    _are_even(second, 20)
    assert (first["registered"], second["registered"], second["connected"]) == (12, 0, 12)
    agents = [agent for agent in manager.get("/api/agents") if agent["hostname"].startswith("sim-6-")]
    assert len(agents) == 12


def test_no_other_address_is_connected_to(manager: ManagerProcess) -> None:
    """While it runs, this process has connections to the two addresses of the plan, and to nothing beside."""
    plan = _plan(manager, seed=7, threats=200, rate=100.0)
    allowed = {plan.door.port, plan.admin_address.port}
    process, before, seen = psutil.Process(), set(psutil.Process().net_connections("inet")), set()
    with Simulation(plan) as simulation:
        while not simulation.is_over:
            fresh = set(process.net_connections("inet")) - before
            seen |= {tuple(each.raddr) for each in fresh if each.raddr}
            simulation._thread.join(0.05)
        _are_even(simulation.result().members(), 200)
    assert {port for _, port in seen} == allowed
    assert {host for host, _ in seen} == {"127.0.0.1"}


def test_a_wrong_token_is_said(manager: ManagerProcess) -> None:
    """The admin token is tried before any agent registers."""
    plan = _plan(manager, seed=8, auth_token="wrong")
    with pytest.raises(UnreachableError, match="refuses this token"):
        run(plan)
    assert not [agent for agent in manager.get("/api/agents") if agent["hostname"].startswith("sim-8-")]


def test_result_is_json(manager: ManagerProcess) -> None:
    """A result has the members that scripts read, as JSON values."""
    members = json.loads(json.dumps(run(_plan(manager, seed=9, threats=5)).members()))
    assert members.keys() >= {
        "sent", "stored", "lost", "doubled", "late", "refused", "seconds", "longestPause", "cpuSeconds", "cpuShare",
        "memoryMiB", "agents", "connected", "receipts", "deferred", "incidents", "policiesApplied",
    }  # fmt: skip
    assert members["memoryMiB"] > 10
