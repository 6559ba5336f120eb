"""The guard obeys: what policies and the organization's blocklist put in force, over a real broker."""

from datetime import UTC, datetime, timedelta

import pytest

from schemas import topics
from schemas.blocklist import BlocklistChange, BlocklistEntry, BlocklistSnapshot
from schemas.presence import Mode, PolicyState
from tests.integration.guard.guard_thread import GuardThread
from tests.integration.guard.scripted_manager import ScriptedManager, eventually
from tests.support.mosquitto import Mosquitto


def _recorded(guard: GuardThread) -> list[str]:
    return [measure["value"] for measure in guard.status()["recorded"]]


def _blocklist(*ips: object) -> dict[str, object]:
    return {"ips": list(ips), "domains": [], "fileHashes": []}


def _entry(value: str) -> BlocklistEntry:
    return BlocklistEntry(kind="ip", value=value)


@pytest.fixture
def protecting(guard: GuardThread) -> GuardThread:
    guard.mode = Mode.PROTECTION
    guard.start().ready()
    return guard


def test_a_blocklist_is_in_force_and_lifted(protecting: GuardThread, manager: ScriptedManager) -> None:
    """What a policy blocks is in force before it is acknowledged, and gone with the policy that leaves it out."""
    manager.push_policy(1, blocklist=_blocklist("203.0.113.7"))
    eventually(manager.applied, "an acknowledgement")
    assert _recorded(protecting) == ["203.0.113.7"]
    manager.push_policy(2)
    eventually(lambda: len(manager.applied()) == 2, "the second acknowledgement")
    assert _recorded(protecting) == []


def test_an_entry_ends_by_itself_with_the_manager_gone(
    protecting: GuardThread, manager: ScriptedManager, broker: Mosquitto
) -> None:
    """A block of a second is over on time though nobody is left who could lift it."""
    end = datetime.now(UTC) + timedelta(seconds=1)
    entry = {"value": "203.0.113.7", "expiresAt": end.isoformat()}
    manager.push_policy(1, blocklist=_blocklist(entry, "198.51.100.1"))
    eventually(manager.applied, "an acknowledgement")
    broker.kill()
    assert set(_recorded(protecting)) == {"203.0.113.7", "198.51.100.1"}
    eventually(lambda: _recorded(protecting) == ["198.51.100.1"], "the end of the block")
    assert datetime.now(UTC) >= end


def test_a_learning_guard_applies_and_sets_nothing(guard: GuardThread, manager: ScriptedManager) -> None:
    """In mode learning a policy is acknowledged as applied and recorded, and nothing is in force."""
    guard.start().ready()
    manager.push_policy(1, blocklist=_blocklist("203.0.113.7"))
    assert eventually(manager.applied, "an acknowledgement")[0].state is PolicyState.APPLIED
    assert guard.status()["enforced"]["set"] == 0
    assert [measure["value"] for measure in guard.status()["recorded"]] == ["203.0.113.7"]


def test_thresholds_decide_what_a_detection_leads_to(protecting: GuardThread, manager: ScriptedManager) -> None:
    """With a low threshold a first detection leads to a block; the report says that nothing enforces it; it expires."""
    protecting.stop()
    protecting.settings = protecting.settings.model_copy(update={"block_duration": 1.0})
    protecting.start().ready()
    manager.push_policy(1, thresholds={"autoRespond": 70, "notifyAndWait": 50})
    eventually(manager.applied, "an acknowledgement")
    protecting.log.attack("203.0.113.7")
    report = eventually(manager.reports, "a report")[0]
    assert report.response.action == "block_ip"
    assert report.response.outcome is not None
    assert report.response.outcome.startswith("impossible: no fence on this host")
    eventually(lambda: _recorded(protecting) == [], "the end of the block")


def test_a_section_that_cannot_be_applied_is_partial(protecting: GuardThread, manager: ScriptedManager) -> None:
    """A refused rule pack delays no block, and the guard says why it is refused."""
    manager.push_policy(1, blocklist=_blocklist("203.0.113.7"), detection={"sigma": ["title: x"], "yara": []})
    applied = eventually(manager.applied, "an acknowledgement")[0]
    assert applied.state is PolicyState.PARTIAL
    assert applied.error.startswith("detection: ")
    assert _recorded(protecting) == ["203.0.113.7"]
    assert eventually(lambda: manager.heartbeats()[-1].policy_state is PolicyState.PARTIAL, "a heartbeat that says so")


def test_a_disabled_log_monitor_detects_nothing(protecting: GuardThread, manager: ScriptedManager) -> None:
    """`monitors.enabled` without `log` stops detection, with it again starts it."""
    manager.push_policy(1, monitors={"enabled": [], "advanced": {}})
    eventually(manager.applied, "an acknowledgement")
    protecting.log.attack("203.0.113.7")
    eventually(lambda: protecting.status()["eventsTotal"] == 5, "five lines counted")
    manager.push_policy(2)
    eventually(lambda: len(manager.applied()) == 2, "the second acknowledgement")
    protecting.log.attack("198.51.100.9")
    report = eventually(manager.reports, "a report")[0]
    assert report.threat.evidence["sourceIp"] == "198.51.100.9"


def test_the_organizations_blocks_come_as_changes(protecting: GuardThread, manager: ScriptedManager) -> None:
    """A change puts its entries in force, the next one lifts them, and heartbeats carry the sequence."""
    eventually(manager.heartbeats, "a heartbeat")
    added = BlocklistChange(organization_id="default", from_sequence=0, sequence=4, added=[_entry("203.0.113.7")])
    manager.say(topics.BLOCKLIST_CHANGES, "default", added)
    eventually(lambda: _recorded(protecting) == ["203.0.113.7"], "the block")
    eventually(lambda: manager.heartbeats()[-1].blocklist_sequence == 4, "a heartbeat with the sequence")
    removed = BlocklistChange(organization_id="default", from_sequence=4, sequence=5, removed=[_entry("203.0.113.7")])
    manager.say(topics.BLOCKLIST_CHANGES, "default", removed)
    eventually(lambda: _recorded(protecting) == [], "no block")


def test_a_guard_that_missed_changes_is_right_from_the_snapshot(
    protecting: GuardThread, manager: ScriptedManager
) -> None:
    """A day of changes missed is made up for by one retained snapshot, and by what follows it."""
    protecting.stop()
    entries = [_entry(f"198.51.100.{number}") for number in range(3)]
    snapshot = BlocklistSnapshot(organization_id="default", sequence=90, entries=entries)
    manager.say(topics.BLOCKLIST, "default", snapshot).wait_for_publish(5)
    protecting.start().ready()
    change = BlocklistChange(organization_id="default", from_sequence=90, sequence=91, removed=[entries[0]])
    manager.say(topics.BLOCKLIST_CHANGES, "default", change)
    eventually(lambda: protecting.status()["blocklistSequence"] == 91, "the newest sequence")
    eventually(lambda: _recorded(protecting) == ["198.51.100.1", "198.51.100.2"], "what the change left")


def test_a_moved_guard_changes_over_to_its_new_organizations_blocklist(
    protecting: GuardThread, manager: ScriptedManager
) -> None:
    """A policy that names another organization drops the former one's blocks, whatever their sequence, for its list."""
    first = BlocklistChange(organization_id="default", from_sequence=0, sequence=90, added=[_entry("203.0.113.7")])
    manager.say(topics.BLOCKLIST_CHANGES, "default", first)
    eventually(lambda: _recorded(protecting) == ["203.0.113.7"], "the former organization's block")
    session = manager.heartbeats()[-1].session
    snapshot = BlocklistSnapshot(organization_id="other", sequence=4, entries=[_entry("198.51.100.7")])
    manager.say(topics.BLOCKLIST, "other", snapshot).wait_for_publish(5)
    manager.push_policy(95, organization_id="other")
    applied = eventually(manager.applied, "an acknowledgement")[0]
    assert applied.enforced is not None
    assert applied.enforced.blocklist_sequence is None
    eventually(lambda: _recorded(protecting) == ["198.51.100.7"], "the new organization's block")
    eventually(lambda: manager.heartbeats()[-1].blocklist_sequence == 4, "a heartbeat with its sequence")
    assert manager.heartbeats()[-1].session > session
    assert protecting.status()["organizationId"] == "other"
    late = BlocklistChange(organization_id="default", from_sequence=90, sequence=91, added=[_entry("203.0.113.8")])
    manager.say(topics.BLOCKLIST_CHANGES, "default", late)
    change = BlocklistChange(organization_id="other", from_sequence=4, sequence=5, added=[_entry("198.51.100.8")])
    manager.say(topics.BLOCKLIST_CHANGES, "other", change)
    eventually(lambda: _recorded(protecting) == ["198.51.100.7", "198.51.100.8"], "the change of its own list alone")


def test_the_allowlist_beats_the_organization(protecting: GuardThread, manager: ScriptedManager) -> None:
    """An address that the policy allows is not blocked by the organization's list."""
    manager.push_policy(1, allowlist={"ips": ["203.0.113.0/24"], "processes": [], "fileHashes": []})
    eventually(manager.applied, "an acknowledgement")
    entries = [_entry("203.0.113.7"), _entry("198.51.100.1")]
    manager.say(
        topics.BLOCKLIST_CHANGES,
        "default",
        BlocklistChange(organization_id="default", from_sequence=0, sequence=1, added=entries),
    )
    eventually(lambda: _recorded(protecting) == ["198.51.100.1"], "only the other block")


def test_blocks_survive_a_restart_without_a_broker(
    protecting: GuardThread, manager: ScriptedManager, broker: Mosquitto
) -> None:
    """A guard that starts alone enforces what it knew."""
    manager.push_policy(1, blocklist=_blocklist("203.0.113.7"))
    eventually(manager.applied, "an acknowledgement")
    broker.kill()
    protecting.stop()
    protecting.start()
    eventually(lambda: protecting.status()["state"] == "waiting", "a guard without a broker")
    assert _recorded(protecting) == ["203.0.113.7"]
