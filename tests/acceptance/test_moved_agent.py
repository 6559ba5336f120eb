"""An agent that an operator moves to another organization: real manager, its embedded broker, real guard."""

from pathlib import Path

import pytest

from agent.status import inspect_guard
from tests.support.processes import GuardProcess, ManagerProcess
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.long("tests/integration/api/test_moved_hosts.py"),
    pytest.mark.usefixtures("each_deployment"),
]


def test_a_moved_guard_obeys_its_new_organization(tmp_path: Path) -> None:
    """It takes the new organization's blocks, loses the former one's, and comes back as itself after a restart."""
    with ManagerProcess(tmp_path) as manager:
        guard = GuardProcess(manager, "srv-01")
        agent_id = guard.start()
        try:
            manager.request("POST", "/api/blocks", {"value": "198.51.100.1", "organization": "default"})
            eventually(lambda: _sequence(manager, agent_id) > 0, what="the former organization's list in force")
            manager.request("PUT", "/api/policies/organizations/other", {"thresholds": {"autoRespond": 61}})
            manager.request("PATCH", f"/api/agents/{agent_id}", {"organization": "other"})
            manager.request("POST", "/api/blocks", {"value": "198.51.100.2", "organization": "other"})
            eventually(lambda: _blocked(guard) == ["198.51.100.2"], what="the new organization's block alone")
            eventually(lambda: manager.get(f"/api/agents/{agent_id}")["policyCurrent"], what="its policy in force")
            eventually(lambda: _accepted(manager) == (1, 1), what="the block accepted")
            guard.stop()
            assert guard.start() == agent_id
            (record,) = manager.get("/api/agents")
            assert (record["organizationId"], record["status"]) == ("other", "online")
            assert not [each for each in manager.get("/api/audit") if each["action"] == "store.restored"]
        finally:
            guard.stop()


def _sequence(manager: ManagerProcess, agent_id: str) -> int:
    return int(manager.get(f"/api/agents/{agent_id}")["blocklistSequence"])


def _blocked(guard: GuardProcess) -> list[str]:
    """Return the addresses that the guard blocks by its own records."""
    return [str(each["value"]) for each in inspect_guard(guard.data)["recorded"]]


def _accepted(manager: ManagerProcess) -> tuple[int, int]:
    """Return how many agents have accepted the new organization's block, and how many should."""
    (block,) = manager.get("/api/blocks", value="198.51.100.2")
    return block["acceptedCount"], block["targetCount"]
