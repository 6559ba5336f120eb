"""The lifecycle page over HTTP, phase by phase, with a real manager and the shipped guard."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.status import inspect_guard
from tests.support.processes import GuardProcess, ManagerProcess, spooled
from tests.support.waiting import eventually

pytestmark = pytest.mark.long("tests/integration/guard/test_http.py")

QUICK = {"PANGUARD_HEARTBEAT_INTERVAL": "0.25", "PANGUARD_RATE_LIMIT": "0", "PANGUARD_TAKEOVER": "when-offline"}
"""More heartbeats than a manager takes from one agent, unless it is told to take all; and the rule beyond loopback."""


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory, each_deployment: str) -> Iterator[ManagerProcess]:
    with ManagerProcess(tmp_path_factory.mktemp(each_deployment), environment=QUICK) as manager:
        yield manager


@pytest.fixture
def guard(manager: ManagerProcess, request: pytest.FixtureRequest) -> Iterator[GuardProcess]:
    guard = GuardProcess(
        manager, request.node.name.replace("_", "-").replace("[", "-").strip("]")[:60], QUICK, url=manager.http
    )
    guard.start()
    yield guard
    guard.stop()


def _agent(guard: GuardProcess) -> dict[str, Any]:
    return guard.manager.agent(guard.hostname)


def _sources(guard: GuardProcess) -> list[str]:
    found = guard.manager.get("/api/threats", agentId=guard.agent_id(), limit=200)
    return sorted(threat["threat"]["evidence"]["sourceIp"] for threat in found)


def test_a_guard_registers_and_beats(guard: GuardProcess) -> None:
    """The record has the page's five fields, and what its heartbeats say; the token is kept privately."""
    eventually(lambda: _agent(guard)["uptime"], what="a heartbeat")
    agent = _agent(guard)
    assert (agent["agentId"], agent["status"], agent["door"]) == (guard.agent_id(), "online", "http")
    assert all(agent[field] for field in ("hostname", "os", "arch", "version", "organizationId", "registeredAt"))
    assert 0 < agent["memory"] <= 100
    assert agent["mode"] == "protection"
    assert (guard.data / "identity.json").stat().st_mode & 0o777 == 0o600


def test_a_threat_is_stored_as_it_was_reported(guard: GuardProcess) -> None:
    """It leaves the outbox when the manager has it, with the guard's own words on what it did."""
    guard.attacked_by("203.0.113.11")
    eventually(lambda: _sources(guard) == ["203.0.113.11"], what="the threat stored")
    (threat,) = guard.manager.get("/api/threats", agentId=guard.agent_id())
    assert (threat["threat"]["technique"], threat["response"]["action"]) == ("T1110", "block_ip")
    eventually(lambda: spooled(guard) == 0, what="an empty outbox")


def test_a_policy_is_polled(manager: ManagerProcess) -> None:
    """A change that is not urgent comes with the next poll, and is in force."""
    quick = QUICK | {"PANGUARD_POLICY_POLL_INTERVAL": "0.5", "PANGUARD_HEARTBEAT_INTERVAL": "600"}
    guard = GuardProcess(manager, "polling", quick, url=manager.http)
    agent_id = guard.start()
    try:
        done = manager.request("PUT", f"/api/policies/agents/{agent_id}", {"alerting": {"minimumSeverity": "high"}})
        eventually(lambda: inspect_guard(guard.data)["policyVersion"] == done["revision"], what="the policy in force")
        assert inspect_guard(guard.data)["policy"]["alerting"]["minimumSeverity"] == "high"
        before = _answered(manager, 304)
        eventually(lambda: _answered(manager, 304) > before, what="polls that are answered by 304: it has the newest")
    finally:
        guard.stop()


def _answered(manager: ManagerProcess, status: int) -> float:
    """Return how many polls were answered with a status."""
    with manager.leader.client() as client:
        text = client.get("/metrics").text
    labels = f'{{method="GET",route="/api/policy/agent/{{agent_id}}",status="{status}"}}'
    found = [line for line in text.splitlines() if line.startswith(f"panguard_http_request_seconds_count{labels}")]
    return float(found[0].split()[-1]) if found else 0.0


def test_an_urgent_policy_does_not_wait_for_the_poll(guard: GuardProcess) -> None:
    """A block is announced by the next heartbeat's answer, five minutes before the poll."""
    document = {"blocklist": {"ips": ["198.51.100.7"]}}
    done = guard.manager.request("PUT", f"/api/policies/agents/{guard.agent_id()}", document)
    eventually(lambda: _agent(guard)["policyVersion"] == done["revision"], what="the block in force")


def test_two_guards_under_attack_are_told_to_block(manager: ManagerProcess, guard: GuardProcess) -> None:
    """The same source on two HTTP guards is an incident, and its block is in the policy of both."""
    other = GuardProcess(manager, "the-other-one", QUICK, url=manager.http)
    other.start()
    try:
        for attacked in (guard, other):
            attacked.attacked_by("203.0.113.77")
        eventually(lambda: _blocks(guard, "203.0.113.77") and _blocks(other, "203.0.113.77"), what="both blocking")
    finally:
        other.stop()


def test_an_organization_wide_block_reaches_a_guard_that_was_not_attacked(
    manager: ManagerProcess, guard: GuardProcess
) -> None:
    """Over HTTP the organization's blocklist stands in the polled policy, under a digest that the guard checks."""
    attacked = [GuardProcess(manager, f"attacked-{n}", QUICK, url=manager.http) for n in range(3)]
    try:
        for other in attacked:
            other.start()
        for other in attacked:
            other.attacked_by("203.0.113.99")
        eventually(lambda: "203.0.113.99" in _in_force(guard), what="the block in force on the guard left alone")
        assert inspect_guard(guard.data)["policyState"] == "applied"
        assert inspect_guard(guard.data)["ignored"] == {}
    finally:
        for other in attacked:
            other.stop()


def _in_force(guard: GuardProcess) -> list[str]:
    return [entry["value"] for entry in inspect_guard(guard.data).get("recorded", [])]


def _blocks(guard: GuardProcess, address: str) -> bool:
    answer = guard.manager.get(f"/api/policy/agent/{guard.agent_id()}")
    listed = [entry if isinstance(entry, str) else entry["value"] for entry in answer["blocklist"]["ips"]]
    return address in listed and bool(_agent(guard)["policyCurrent"])


def test_a_clean_stop_is_offline_and_a_start_resumes(guard: GuardProcess) -> None:
    """DELETE marks it offline and keeps the record; started again it is the same agent, online."""
    agent_id = guard.agent_id()
    assert guard.stop() == 0
    assert _agent(guard)["status"] == "offline"
    assert guard.start() == agent_id
    assert _agent(guard)["status"] == "online"


def test_a_killed_guard_takes_its_own_place_again(guard: GuardProcess) -> None:
    """It still counts as online, and nobody else may have its place; its own token says that it is no other."""
    agent_id = guard.agent_id()
    guard.kill()
    assert guard.start() == agent_id


def test_a_removed_guard_comes_back_as_another(guard: GuardProcess) -> None:
    """Forced removal refuses its token at once; with its enrollment token it registers again, under a new name."""
    agent_id = guard.agent_id()
    guard.manager.request("DELETE", f"/api/agents/{agent_id}", purge="true")
    eventually(lambda: _agent(guard).get("agentId", agent_id) != agent_id, what="a new registration")
    guard.attacked_by("203.0.113.13")
    eventually(lambda: guard.manager.get("/api/threats", agentId=_agent(guard)["agentId"]), what="its threat stored")


def test_what_a_guard_saw_while_the_manager_was_dead_is_stored_once(tmp_path: Path) -> None:
    """Through SIGKILL of the manager twenty threats wait in the outbox, and then each is stored once."""
    addresses = [f"203.0.113.{number}" for number in range(20, 40)]
    with ManagerProcess(tmp_path, environment=QUICK) as manager:
        guard = GuardProcess(manager, "spooling", QUICK, url=manager.http)
        guard.start()
        guard.attacked_by(addresses[0])
        eventually(lambda: _sources(guard) == addresses[:1], what="the first stored")
        manager.kill()
        guard.attacked_by(*addresses[1:])
        eventually(lambda: spooled(guard) == len(addresses) - 1, what="the others spooled")
        manager.start()
        eventually(lambda: spooled(guard) == 0, what="an empty outbox")
        assert _sources(guard) == addresses
        assert guard.stop() == 0
