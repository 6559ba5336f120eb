"""A guard with a fence: attackers of a real host in a network namespace are blocked in its kernel, and it says so."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from manager.domain.policies.fleet_policies import Policies, Scope
from manager.domain.policies.groups import Placement
from schemas.blocklist import BlocklistChange, BlocklistEntry, BlocklistSnapshot
from schemas.keys import ManagerKeyring
from schemas.presence import Enforced, Mode
from tests.integration.guard.fenced_host import ATTACKER, BYSTANDER, GATEWAY, OTHER, Fenced
from tests.integration.guard.scripted_manager import eventually

pytestmark = pytest.mark.namespaces


def test_an_attacker_is_blocked_in_the_kernel_and_the_report_says_taken(fenced: Fenced) -> None:
    """The fifth failure cuts it off; a bystander goes on; the heartbeat counts one measure."""
    fenced.guard.start().ready()
    assert fenced.reaches()
    fenced.guard.log.attack(ATTACKER)
    assert fenced.outcome() == "taken"
    assert not fenced.reaches()
    assert fenced.reaches(BYSTANDER)
    eventually(lambda: fenced.enforced().set == 1, "the count in a heartbeat")
    beat = fenced.beat
    assert (beat.mode, beat.mode_wanted, beat.enforcement) == (Mode.PROTECTION, Mode.PROTECTION, "nftables")


def test_a_forged_line_blocks_nobody(fenced: Fenced) -> None:
    """An address that never spoke to the port is refused with the reason, and reported so."""
    fenced.guard.start().ready()
    fenced.guard.log.attack("198.51.100.7")
    assert fenced.outcome().startswith("refused: this address never spoke to port 22 here")
    assert fenced.fence.elements("block4") == []


def test_the_managers_entries_reach_the_kernel_and_leave_it(fenced: Fenced) -> None:
    """A signed policy and a change of the blocklist are set, acknowledged with what holds, and lifted again."""
    manager = fenced.manager
    fenced.guard.start().ready()
    manager.push_policy(1, blocklist={"ips": [ATTACKER, GATEWAY], "domains": ["evil.example"], "fileHashes": []})
    eventually(manager.applied, "an acknowledgement")
    enforced = manager.applied()[-1].enforced
    assert enforced is not None
    assert (enforced.policy_version, enforced.set, enforced.refused, enforced.impossible) == (1, 1, 1, 1)
    assert {each.value.removesuffix("/32"): each.reason for each in enforced.reasons} == {
        GATEWAY: "it is a gateway of this host",
        "evil.example": "this guard blocks addresses only",
    }
    assert not fenced.reaches()
    end = datetime.now(UTC) + timedelta(hours=1)
    entry = BlocklistEntry(kind="ip", value=OTHER, expires_at=end, seconds_left=3600)
    manager.say_change(
        BlocklistChange(
            organization_id="default", from_sequence=0, sequence=7, added=[entry], sent_at=datetime.now(UTC)
        )
    )
    eventually(lambda: len(manager.applied()) == 2, "an acknowledgement of the change")
    enforced = manager.applied()[-1].enforced
    assert enforced is not None
    assert (enforced.blocklist_sequence, enforced.set) == (7, 2)
    assert not fenced.reaches(OTHER)
    manager.push_policy(2)
    eventually(lambda: fenced.enforced().policy_version == 2, "the next policy")
    assert fenced.reaches()
    assert not fenced.reaches(OTHER)


def test_a_learning_guard_sets_nothing_and_takes_back_what_was_set(fenced: Fenced) -> None:
    """After a restart in mode learning the kernel is empty, and `enforced` claims nothing."""
    fenced.guard.start().ready()
    fenced.manager.push_policy(1, blocklist={"ips": [ATTACKER], "domains": [], "fileHashes": []})
    eventually(lambda: fenced.enforced().set == 1, "the entry")
    fenced.guard.stop()
    assert not fenced.reaches()
    fenced.guard.mode = Mode.LEARNING
    fenced.guard.start()
    eventually(fenced.reaches, "the release")
    eventually(lambda: fenced.enforced() == Enforced(), "a heartbeat that claims nothing")
    fenced.guard.log.attack(OTHER)
    assert fenced.outcome() == "would_be_taken"


def test_unconfirmed_protection_falls_back_to_learning_and_lifts_its_blocks(fenced: Fenced) -> None:
    """Within the trial's time, said in the heartbeat, and not tried again after a restart."""
    fenced.guard.settings = fenced.guard.settings.model_copy(update={"mode_trial": 3.0})
    fenced.guard.start().ready()
    assert fenced.reaches()
    fenced.guard.log.attack(ATTACKER)
    assert fenced.outcome() == "taken"
    assert (fenced.beat.trial_seconds_left or 0) <= 3.0
    eventually(lambda: fenced.beat.mode is Mode.LEARNING, "the fallback")
    assert fenced.beat.mode_wanted is Mode.PROTECTION
    eventually(fenced.reaches, "the end of the block")
    fenced.guard.stop()
    fenced.guard.start()
    eventually(lambda: len(fenced.manager.presences()) > 2, "the next start")
    assert fenced.beat.mode is Mode.LEARNING


def test_protection_is_kept_once_it_is_confirmed_from_a_new_session(fenced: Fenced) -> None:
    """The confirmation comes from a process that began after the trial; an older session's is refused."""
    fenced.guard.settings = fenced.guard.settings.model_copy(update={"mode_trial": 4.0})
    fenced.guard.start().ready()
    eventually(lambda: fenced.beat.trial_seconds_left is not None, "the trial")
    refused = fenced.fence.ask(request="confirm")
    assert "log in anew" in refused["reason"]
    assert fenced.fence.ask_in_new_session(request="confirm")["outcome"] == "confirmed"
    eventually(lambda: fenced.beat.trial_seconds_left is None, "the end of the trial")
    fenced.guard.stop()
    fenced.guard.start()
    eventually(lambda: len(fenced.manager.presences()) > 2, "the next start")
    assert fenced.beat.mode is Mode.PROTECTION
    assert fenced.beat.trial_seconds_left is None


def test_a_policy_of_another_manager_is_not_set_by_the_fence(fenced: Fenced) -> None:
    """A fence that knows no key of this manager says so: the policy is applied, and not enforced."""
    conf = fenced.fence.home / "fence.conf"
    other = json.dumps(["A" * 43])
    lines = [
        line if not line.startswith("sign_keys") else f"sign_keys = {other}" for line in conf.read_text().split("\n")
    ]
    conf.write_text("\n".join(lines))
    fenced.fence.stop()
    fenced.fence.start()
    fenced.guard.start().ready()
    fenced.manager.push_policy(1, blocklist={"ips": [ATTACKER], "domains": [], "fileHashes": []})
    eventually(fenced.manager.applied, "an acknowledgement")
    enforced = fenced.manager.applied()[-1].enforced
    assert enforced is not None
    assert enforced.policy_version is None
    (unenforced,) = enforced.reasons
    assert unenforced.reason.startswith("the signature is not the manager's")
    assert "panguard guard install" in unenforced.reason
    assert fenced.reaches()


@pytest.mark.parametrize(
    ("command", "told"),
    [("health", "degraded: fence is stopped"), ("doctor", "problem: nothing is blocked: the fence is stopped")],
)
def test_health_and_doctor_ask_the_fence_about_a_panic(fenced: Fenced, command: str, told: str) -> None:
    """At once, also where the guard holds nothing and so does not ask it often."""
    fenced.guard.start().ready()
    eventually(lambda: fenced.guard.status()["mode"] == "protection", "protection")
    words = [sys.executable, "-m", "agent", command, "--data-dir", str(fenced.guard.directory)]
    settings = {"PANGUARD_FENCE_SOCKET": str(fenced.fence.socket)}
    for panic, code in (("panic", 3 if command == "health" else 0), ("resume", 0)):
        assert fenced.fence.ask(request=panic)["ok"]
        done = subprocess.run(words, capture_output=True, text=True, check=False, env=os.environ | settings)  # noqa: S603 -- the guard itself
        assert done.returncode == code
        assert (told in done.stdout + done.stderr) == (panic == "panic")


def test_a_panic_is_shown_as_degraded_until_resume(fenced: Fenced) -> None:
    """In status and heartbeat, and what is wanted meanwhile is refused with the reason, in log and status."""
    fenced.guard.start().ready()
    assert fenced.reaches()
    fenced.guard.log.attack(ATTACKER)
    assert fenced.outcome() == "taken"
    eventually(lambda: fenced.beat.health == "ok", "a well guard")
    assert fenced.fence.ask(request="panic")["ok"]
    fenced.reaches(OTHER)
    fenced.guard.log.attack(OTHER)
    assert fenced.outcome(2).startswith("refused: the fence is stopped by `panic`")
    eventually(lambda: fenced.beat.health == "degraded", "a heartbeat that says so")
    assert ("fence", "stopped") in {(each.name, each.state) for each in fenced.beat.sources or ()}
    latest = fenced.guard.status()["responses"][0]
    assert (latest["action"], latest["target"]) == ("block_ip", OTHER)
    assert latest["outcome"].startswith("refused: the fence is stopped by `panic`")
    assert 'outcome="refused: the fence is stopped by `panic`' in fenced.guard.errors()
    assert fenced.fence.ask(request="resume")["ok"]
    fenced.guard.log.attack(OTHER)
    eventually(lambda: fenced.beat.health == "ok", "a well guard")


def test_a_groups_upgrade_to_protection_begins_the_guards_trial(fenced: Fenced) -> None:
    """The mode in a group's document, as the manager resolves it for a member, puts the guard on trial."""
    policies = Policies()
    before = policies.assign(fenced.manager.agent_id, Placement("default", None, frozenset({"web"})), 0.0).resolved
    group = Scope("group", "web")
    fenced.guard.mode = Mode.LEARNING
    fenced.guard.start().ready()
    fenced.manager.push_policy(1, **before.sections)
    eventually(fenced.manager.applied, "the first policy")
    assert (fenced.beat.mode, fenced.beat.trial_seconds_left) == (Mode.LEARNING, None)
    document = {"selector": {"tagsAll": ["web"]}, "priority": 1, "policy": {"mode": "protection"}}
    policies.set(group, document, 0.0, "test")
    (changed,) = policies.recompute(policies.affected_by(group), 0.0)
    fenced.manager.push_policy(2, **changed.resolved.sections)
    eventually(lambda: fenced.beat.trial_seconds_left is not None, "a trial")
    assert (fenced.beat.mode, fenced.beat.mode_wanted) == (Mode.PROTECTION, Mode.PROTECTION)


def test_the_fence_follows_its_agent_to_another_organization(fenced: Fenced) -> None:
    """By the policy that names it: the former organization's block ends in the kernel, the new one's is set."""
    manager = fenced.manager
    fenced.guard.start().ready()
    manager.push_policy(1, organization_id="default")
    manager.say_snapshot(_list_of("default", ATTACKER))
    eventually(lambda: not fenced.reaches(), "the block of the first organization")
    manager.say_snapshot(_list_of("other", OTHER))
    manager.push_policy(2, organization_id="other")
    eventually(fenced.reaches, "the end of the former organization's block")
    eventually(lambda: not fenced.reaches(OTHER), "the block of the new organization")
    eventually(lambda: fenced.enforced().blocklist_sequence == 1, "the new list in a heartbeat")
    assert fenced.fence.ask(request="status")["organizationId"] == "other"


def _list_of(organization: str, value: str) -> BlocklistSnapshot:
    now = datetime.now(UTC)
    entry = BlocklistEntry(kind="ip", value=value, expires_at=now + timedelta(hours=1), seconds_left=3600)
    return BlocklistSnapshot(organization_id=organization, sequence=1, entries=[entry], sent_at=now)


def test_the_status_counts_a_measure_before_the_next_heartbeat(fenced: Fenced) -> None:
    """The count is as new as the last answer of the fence."""
    fenced.guard.settings = fenced.guard.settings.model_copy(update={"heartbeat_interval": 3600.0})
    fenced.guard.start().ready()
    assert fenced.reaches()
    fenced.guard.log.attack(ATTACKER)
    assert fenced.outcome() == "taken"
    eventually(lambda: fenced.guard.status()["enforced"].get("set") == 1, "the count in the status")


@pytest.mark.parametrize("compromised", [False, True])
def test_a_rotation_of_the_managers_key_reaches_the_fence(fenced: Fenced, compromised: bool) -> None:
    """The guard passes the link on; what the new key signs is in the kernel, a fence that starts anew included."""
    manager, former = fenced.manager, fenced.manager.keyring
    fenced.guard.start().ready()
    manager.push_policy(1, blocklist={"ips": [ATTACKER], "domains": [], "fileHashes": []})
    eventually(lambda: not fenced.reaches(), "a block under the former key")
    manager.rotate(ManagerKeyring(bytes([7]) * 32), compromised=compromised)
    manager.push_policy(2, blocklist={"ips": [OTHER], "domains": [], "fileHashes": []})
    eventually(lambda: fenced.reaches() and not fenced.reaches(OTHER), "a block under the new key")
    assert fenced.fence.ask(request="status")["signKeys"] == [manager.keyring.sign_public]
    manager.push_policy(3, keyring=former, blocklist={"ips": [], "domains": [], "fileHashes": []})
    manager.push_policy(4, blocklist={"ips": [OTHER, ATTACKER], "domains": [], "fileHashes": []})
    eventually(lambda: not fenced.reaches(), "the next block")
    forged = fenced.guard.status()["ignored"].get("policy_forged", 0)
    # A guard asks the broker again for a policy that its fence lacks: it may read the retained, forged one twice.
    assert forged in ((1, 2) if compromised else (0,))
