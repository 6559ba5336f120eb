"""Policies over a real broker: obeyed, acknowledged, and refused when they are not the manager's."""

import pytest

from schemas import topics
from schemas.keys import ManagerKeyring
from schemas.presence import PolicyState
from tests.integration.guard.guard_process import GuardProcess
from tests.integration.guard.guard_thread import GuardThread
from tests.integration.guard.scripted_manager import ScriptedManager, eventually


@pytest.fixture
def started(guard: GuardThread) -> GuardThread:
    guard.start().ready()
    return guard


def test_a_policy_is_put_in_force_and_acknowledged(started: GuardThread, manager: ScriptedManager) -> None:
    """A signed policy is acknowledged with version and digest, and heartbeats return it with the manager's proof."""
    manager.push_policy(3, thresholds={"autoRespond": 60, "notifyAndWait": 40})
    applied = eventually(manager.applied, "an acknowledgement")[0]
    assert (applied.version, applied.state, applied.error) == (3, PolicyState.APPLIED, None)
    beat = eventually(lambda: [beat for beat in manager.heartbeats() if beat.policy_version == 3], "a heartbeat")[0]
    assert beat.policy_digest == applied.digest
    assert beat.version_proof
    status = started.status()
    assert (status["policyVersion"], status["policy"]["thresholds"]["autoRespond"]) == (3, 60)


def test_an_older_policy_and_one_of_another_agent_change_nothing(
    started: GuardThread, manager: ScriptedManager
) -> None:
    """Only a higher version for the own agentId is obeyed."""
    manager.push_policy(3)
    eventually(manager.applied, "an acknowledgement")
    manager.push_policy(2, thresholds={"autoRespond": 1, "notifyAndWait": 1})
    own, manager.agent_id = manager.agent_id, "ag-00000000000000bb"
    foreign = manager.policy(9)
    manager.agent_id = own
    manager.say_raw(topics.POLICY, own, foreign)
    eventually(lambda: started.status()["ignored"] == {"policy_outdated": 1, "policy_forged": 1}, "both counted")
    assert started.status()["policyVersion"] == 3


def test_a_forged_policy_changes_nothing(started: GuardThread, manager: ScriptedManager) -> None:
    """A policy of another key, a changed one, and no policy at all are counted."""
    manager.push_policy(5, keyring=ManagerKeyring(bytes(32)))
    right = manager.policy(6)
    for payload in (right.replace(b'"autoRespond":85', b'"autoRespond":15'), b"{}", b"\xff"):
        manager.say_raw(topics.POLICY, manager.agent_id, payload)
    eventually(lambda: started.status()["ignored"].get("policy_forged") == 4, "four counted")
    assert started.status()["policyVersion"] is None
    assert manager.applied() == []


def test_a_policy_survives_a_kill(guard_process: GuardProcess, manager: ScriptedManager) -> None:
    """After SIGKILL the guard's first heartbeat names the policy that it kept."""
    guard_process.start().ready()
    manager.push_policy(4)
    eventually(manager.applied, "an acknowledgement")
    manager.say_raw(topics.POLICY, manager.agent_id, b"")
    guard_process.kill()
    manager.heard.clear()
    guard_process.start().ready()
    assert eventually(manager.heartbeats, "a heartbeat")[0].policy_version == 4


def test_the_same_policy_again_is_acknowledged_again(started: GuardThread, manager: ScriptedManager) -> None:
    """A manager that has forgotten the acknowledgement gets it once more."""
    manager.push_policy(4)
    manager.push_policy(4)
    eventually(lambda: len(manager.applied()) == 2, "two acknowledgements")
    assert started.status()["ignored"] == {}


def test_a_policy_retained_before_the_connect_is_obeyed_at_once(guard: GuardThread, manager: ScriptedManager) -> None:
    """A guard that was away finds its policy at the broker."""
    manager.push_policy(8)
    guard.start().ready()
    assert eventually(manager.applied, "an acknowledgement")[0].version == 8


def test_attacker_on_the_blocklist_is_ten_more_certain(started: GuardThread, manager: ScriptedManager) -> None:
    """The policy's blocklist is the list of attackers that a verdict's confidence takes into account."""
    manager.push_policy(3, blocklist={"ips": ["203.0.113.0/24"]})
    eventually(manager.applied, "an acknowledgement")
    started.log.attack("203.0.113.7")
    started.log.attack("198.51.100.1")
    reports = eventually(lambda: len(manager.reports()) == 2 and manager.reports(), "two reports")
    found = {report.threat.evidence["sourceIp"]: report.threat.confidence for report in reports}
    assert found == {"203.0.113.7": 100, "198.51.100.1": 90}
