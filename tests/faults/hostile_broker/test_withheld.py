"""Withheld messages are noticed by the manager, the guard, or both; and nothing is lost.

Each test withholds one kind of message, waits for the words in which that is noticed, lets go, and sees all well again.
"""

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager

import pytest
from typer.testing import CliRunner

from manager.cli import app
from schemas import topics
from schemas.topics import Topic
from tests.faults.hostile_broker.fleet import HostileFleet, settled
from tests.integration.guard.guard_thread import GuardThread
from tests.support.hostile.tampering import Withheld
from tests.support.processes import GuardProcess
from tests.support.waiting import eventually

SOON = {
    "PANGUARD_STALE_AFTER": "2",
    "PANGUARD_SWEEP_INTERVAL": "0.2",
    "PANGUARD_SETTLING_TIME": "0.5",
    "PANGUARD_HELD_BACK_AFTER": "1",
    "PANGUARD_REPUBLISH_AFTER": "1",
    "PANGUARD_SNAPSHOT_EVERY": "1",
}
ONE, TWO, THREE = "db-1", "db-2", "db-3"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostileFleet]:
    """A manager that notices soon, and three guards of one organization."""
    with HostileFleet(tmp_path_factory.mktemp("withheld"), SOON) as fleet:
        guards = [fleet.guard(name) for name in (ONE, TWO, THREE)]
        for guard in guards:
            guard.start()
        for guard in guards:
            guard.ready()
        settled(fleet, *guards)
        yield fleet


@pytest.fixture
def guard(fleet: HostileFleet) -> GuardThread:
    return fleet.guards[ONE]


def withheld(fleet: HostileFleet, guard: GuardThread, *rows: Topic) -> AbstractContextManager[None]:
    """Withhold all messages of some rows from and to one guard."""
    return fleet.broker.tampering(Withheld(rows, guard.status()["agentId"]))


def agent_of(fleet: HostileFleet, guard: GuardThread) -> dict[str, object]:
    (found,) = [agent for agent in fleet.get("/api/agents") if agent["hostname"] == guard.hostname]
    return dict(found)


def is_state(fleet: HostileFleet, guard: GuardThread, status: str, reason: str | None = None) -> bool:
    agent = agent_of(fleet, guard)
    return agent["status"] == status and reason in (None, agent["reason"])


def held_back(fleet: HostileFleet) -> dict[str, int]:
    """Return by hostname how many reports are held back, by the overview."""
    return {each["hostname"]: each["waiting"] for each in fleet.get("/api/overview")["heldBack"]}


def printed(fleet: HostileFleet, *words: str) -> str:
    """Return what a command of the manager's command line prints."""
    done = CliRunner().invoke(app, [*words, "--data-dir", str(fleet.manager.data)])
    assert done.exit_code == 0, done.output
    return done.output


def test_withheld_heartbeats_make_an_agent_stale_and_no_old_one_keeps_it_alive(
    fleet: HostileFleet, guard: GuardThread
) -> None:
    """Silence is noticed though the broker says the last minute's heartbeats again and again; the next ends it."""
    agent_id = guard.status()["agentId"]
    eventually(lambda: is_state(fleet, guard, "online"), what="an agent that is online")
    old = eventually(lambda: fleet.heard(topics.HEARTBEAT, agent_id)[:-3][-20:], what="heartbeats to say again")
    with withheld(fleet, guard, topics.HEARTBEAT):
        ignored = fleet.count("heartbeats_ignored")

        def stale() -> bool:
            fleet.broker.publish(*old)
            return is_state(fleet, guard, "stale", "silence")

        eventually(stale, what="silence noticed")
        assert fleet.count("heartbeats_ignored") >= ignored + len(old)
        assert guard.hostname in printed(fleet, "status")
    eventually(lambda: is_state(fleet, guard, "online"), what="the end of the silence")


@pytest.mark.parametrize("row", [topics.THREATS, topics.RECEIPTS], ids=lambda row: row.name)
def test_withheld_reports_and_receipts_are_noticed_on_both_sides(
    fleet: HostileFleet, guard: GuardThread, row: Topic
) -> None:
    """The guard keeps reports and sends them again, the manager says whose are held back; later each is there once."""
    attackers = [f"198.51.100.{int(row is topics.RECEIPTS) * 100 + n}" for n in range(3)]
    agent_id = guard.status()["agentId"]
    with withheld(fleet, guard, row):
        for attacker in attackers:
            guard.log.attack(attacker)
        eventually(lambda: held_back(fleet) == {ONE: 3}, what="the manager's word on reports that wait")
        assert "3 reports wait" in printed(fleet, "status")
        assert guard.status()["outboxSize"] == 3
        first = fleet.outbox(guard)[0].encode()
        eventually(lambda: sum(first in each.payload for each in fleet.heard(topics.THREATS, agent_id)) > 1)
        stored = [each for each in fleet.stored(ONE) if each in attackers]
        assert stored == ([] if row is topics.THREATS else attackers)
    settled(fleet, guard)
    assert [each for each in fleet.stored(ONE) if each in attackers] == attackers
    eventually(lambda: held_back(fleet) == {}, what="nothing held back any more")


def test_a_withheld_policy_is_drift_and_comes_again(fleet: HostileFleet, guard: GuardThread) -> None:
    """An agent without its policy is listed; the manager publishes the policy until it is in force."""
    agent_id = guard.status()["agentId"]
    with withheld(fleet, guard, topics.POLICY):
        fleet.manager.request("PUT", "/api/policies/global", {"thresholds": {"autoRespond": 90, "notifyAndWait": 37}})
        drift = eventually(lambda: [each for each in fleet.get("/api/policies/drift") if each["agentId"] == agent_id])
        assert drift[0]["versionInForce"] < drift[0]["version"]
        assert guard.hostname in printed(fleet, "policies", "drift")
        before = fleet.count("policies_republished")
        eventually(lambda: fleet.count("policies_republished") > before, what="the policy once more")
        assert guard.status()["policyVersion"] < drift[0]["version"]
    settled(fleet, guard)
    assert guard.status()["policy"]["thresholds"]["notifyAndWait"] == 37


def test_a_withheld_first_policy_comes_again(fleet: HostileFleet) -> None:
    """A guard that never got a policy is named, and gets it, like one that lacks the newest."""
    newcomer = fleet.guard("db-new")
    with fleet.broker.tampering(Withheld([topics.POLICY])):
        newcomer.start().ready()
        eventually(lambda: "db-new" in printed(fleet, "policies", "drift"), what="drift")
        assert newcomer.status()["policyVersion"] is None
    settled(fleet, newcomer)
    assert newcomer.status()["policyVersion"] is not None
    newcomer.stop()
    fleet.remove("db-new")


def test_a_withheld_word_on_a_policy_is_made_up_for_by_heartbeats(fleet: HostileFleet, guard: GuardThread) -> None:
    """The policy in force is known without `policy/applied`."""
    with withheld(fleet, guard, topics.POLICY_APPLIED):
        fleet.manager.request("PUT", "/api/policies/global", {"thresholds": {"autoRespond": 90, "notifyAndWait": 36}})
        eventually(lambda: guard.status()["policy"]["thresholds"]["notifyAndWait"] == 36, what="the policy in force")
        settled(fleet, guard)


def test_a_withheld_blocklist_is_drift_and_the_snapshot_comes_again(fleet: HostileFleet, guard: GuardThread) -> None:
    """An agent that lacks a blocklist entry is listed; its heartbeats trigger the snapshot again."""
    guards = [fleet.guards[name] for name in (ONE, TWO, THREE)]
    rows, attacker = (topics.BLOCKLIST, topics.BLOCKLIST_CHANGES), "203.0.113.200"
    behind = guard.status()["blocklistSequence"]
    with fleet.broker.tampering(Withheld(rows)):
        for each in guards:
            each.log.attack(attacker)
        (drift,) = eventually(lambda: lagging(fleet, behind), what="the blocklist that is behind")
        assert f"{behind} → {drift['blocklistSequence']}" in printed(fleet, "policies", "drift")
    settled(fleet, *guards)
    assert guard.status()["blocklistSequence"] == drift["blocklistSequence"]
    assert attacker in [measure["value"] for measure in guard.status()["recorded"]]


def lagging(fleet: HostileFleet, sequence: int) -> list[dict[str, int]]:
    """Return the drift of the first guard, if its blocklist stays at this sequence while another one is meant."""
    return [
        each
        for each in fleet.get("/api/policies/drift")
        if each["hostname"] == ONE and each["blocklistSequence"] > each["blocklistInForce"] == sequence
    ]


def test_a_withheld_birth_is_in_the_first_heartbeat(fleet: HostileFleet) -> None:
    """A session without a birth is known, and stored, from its first heartbeat on."""
    guard = fleet.guards[TWO]
    before = guard.status()["session"]
    with withheld(fleet, guard, topics.PRESENCE):
        fleet.broker.hang_up(guard.status()["agentId"])
        eventually(lambda: guard.status()["session"] > before, what="another session")
        eventually(
            lambda: agent_of(fleet, guard)["session"] == guard.status()["session"], what="the same at the manager"
        )
    eventually(lambda: is_state(fleet, guard, "online"), what="an agent that is online")


def test_a_withheld_sign_off_is_noticed_as_silence(fleet: HostileFleet) -> None:
    """A guard whose sign-off is withheld becomes stale, is kept, and comes back."""
    guard = fleet.guards[TWO]
    with withheld(fleet, guard, topics.PRESENCE):
        guard.stop()
        eventually(lambda: is_state(fleet, guard, "stale", "silence"), what="silence noticed")
    guard.start().ready()
    eventually(lambda: is_state(fleet, guard, "online"), what="an agent that is online")


def test_a_withheld_will_is_noticed_as_silence(fleet: HostileFleet) -> None:
    """A guard that was killed is stale though the broker keeps its last will to itself."""
    killed = GuardProcess(fleet.manager, "db-killed")
    killed.start()
    try:
        with fleet.broker.tampering(Withheld([topics.PRESENCE], killed.agent_id())):
            killed.kill()
            eventually(lambda: fleet.manager.agent("db-killed")["status"] == "stale", what="silence noticed")
        assert fleet.manager.agent("db-killed")["reason"] == "silence"
    finally:
        killed.kill()
        fleet.remove("db-killed")


def test_a_manager_at_whose_broker_all_is_withheld_says_who_is_silent(fleet: HostileFleet) -> None:
    """A broker that passes nothing on has a whole fleet stale in the manager's eyes, each guard by name."""
    names = (ONE, TWO, THREE)
    with fleet.broker.tampering(lambda _message: ()):
        eventually(lambda: all(is_state(fleet, fleet.guards[name], "stale") for name in names), what="silence noticed")
        said = json.loads(printed(fleet, "now", "-o", "json"))
        silent = {agent["hostname"] for agents in said["silence"].values() for agent in agents}
        assert set(names) <= silent
    eventually(lambda: all(is_state(fleet, fleet.guards[name], "online") for name in names), what="all back")
