"""Messages that a malicious broker delays, reorders or replays do no harm.

Here true messages come for the first time, the newest first: what they come to is what they would have come to.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from schemas import topics
from schemas.topics import Topic
from tests.faults.hostile_broker.fleet import HostileFleet, settled
from tests.faults.hostile_broker.past import OTHER, THIRD, VICTIM
from tests.integration.guard.guard_thread import GuardThread
from tests.support.hostile.lies import BLAMED
from tests.support.hostile.packets import Message
from tests.support.hostile.tampering import Withheld
from tests.support.waiting import eventually


@pytest.fixture
def guard(past: HostileFleet) -> GuardThread:
    return past.guards[VICTIM]


@contextmanager
def reversed_order(fleet: HostileFleet, *rows: Topic, identifier: str | None = None) -> Iterator[list[Message]]:
    """Keep the messages of some rows, and pass them on, the newest first, at the end of the block."""
    kept = Withheld(rows, identifier)
    with fleet.broker.tampering(kept):
        yield kept.kept
    fleet.broker.publish(*reversed(kept.kept))


def test_threats_in_reverse_are_stored_once_each_at_their_true_times(past: HostileFleet, guard: GuardThread) -> None:
    """The last report comes first; all are stored, and by event time they stand in the order of the attacks."""
    attackers = [f"192.0.2.{n}" for n in range(1, 5)]
    with reversed_order(past, topics.THREATS, identifier=guard.status()["agentId"]) as kept:
        for number, attacker in enumerate(attackers, 1):
            guard.log.attack(attacker)
            eventually(lambda number=number: len(past.outbox(guard)) == number, what="a report that waits")
        eventually(lambda: len(kept) >= len(attackers), what="reports in the broker's hands")
    settled(past, guard)
    stored = [each for each in past.get("/api/threats", limit=200) if each["hostname"] == VICTIM]
    stored = [each for each in stored if each["threat"]["evidence"]["sourceIp"] in attackers]
    stored.sort(key=lambda each: each["eventTime"])
    assert [each["threat"]["evidence"]["sourceIp"] for each in stored] == attackers


def test_receipts_in_reverse_settle_what_each_names(past: HostileFleet, guard: GuardThread) -> None:
    """Two receipts come the newer one first: the outbox is empty after both, and nothing is reported twice over."""
    with reversed_order(past, topics.RECEIPTS, identifier=guard.status()["agentId"]) as kept:
        for number, attacker in enumerate(("192.0.2.21", "192.0.2.22"), 1):
            guard.log.attack(attacker)
            eventually(lambda number=number: len(kept) >= number, what="a receipt in the broker's hands")
        assert len(past.outbox(guard)) == 2
    settled(past, guard)
    assert {"192.0.2.21", "192.0.2.22"} <= set(past.stored(VICTIM))


def test_policies_in_reverse_leave_the_newest_in_force(past: HostileFleet, guard: GuardThread) -> None:
    """The newest policy comes first, and the older ones behind it are called outdated."""
    counted = guard.status()["ignored"].get("policy_outdated", 0)
    with reversed_order(past, topics.POLICY) as kept:
        for threshold in (31, 32, 33):
            sections = {"thresholds": {"autoRespond": 90, "notifyAndWait": threshold}}
            past.manager.request("PUT", "/api/policies/global", sections)
        own = topics.POLICY.address(guard.status()["agentId"])
        eventually(lambda: sum(each.topic == own for each in kept) >= 3, what="policies in the broker's hands")
    eventually(
        lambda: guard.status()["ignored"].get("policy_outdated", 0) >= counted + 2, what="both older ones refused"
    )
    assert guard.status()["policy"]["thresholds"]["notifyAndWait"] == 33
    past.manager.request("POST", "/api/policies/broadcast")  # what the broker retains is an older one
    settled(past, *past.guards.values())


def test_blocklist_changes_in_reverse_wait_for_each_other(past: HostileFleet, guard: GuardThread) -> None:
    """A change that does not join on waits for the one before it; then both are in force."""
    attackers = ("203.0.113.101", "203.0.113.102")
    guards = [past.guards[name] for name in (VICTIM, OTHER, THIRD)]
    with reversed_order(past, topics.BLOCKLIST_CHANGES, topics.BLOCKLIST) as kept:
        for number, attacker in enumerate(attackers, 1):
            for each in guards:
                each.log.attack(attacker)
            eventually(lambda number=number: _changes(kept) >= number, what="a change in the broker's hands")
    for each in guards:
        eventually(lambda each=each: set(attackers) <= _blocked(each), what="both blocks")
    settled(past, *guards)
    assert BLAMED not in _blocked(guard)


def _changes(kept: list[Message]) -> int:
    return sum(message.topic.endswith("/changes") for message in kept)


def _blocked(guard: GuardThread) -> set[str]:
    return {measure["value"] for measure in guard.status()["recorded"]}


def test_heartbeats_in_reverse_say_what_the_newest_says(past: HostileFleet, guard: GuardThread) -> None:
    """Of five heartbeats that come the newest first, four are ignored."""
    ignored = past.count("heartbeats_ignored")
    with reversed_order(past, topics.HEARTBEAT, identifier=guard.status()["agentId"]) as kept:
        eventually(lambda: len(kept) >= 5, what="heartbeats in the broker's hands")
    eventually(lambda: past.count("heartbeats_ignored") >= ignored + len(kept) - 1, what="the older ones ignored")


def test_births_in_reverse_leave_the_newest_session(past: HostileFleet, guard: GuardThread) -> None:
    """The birth and the will of an older session, behind the birth of a newer one, change nothing."""
    agent_id, before = guard.status()["agentId"], guard.status()["session"]
    with reversed_order(past, topics.PRESENCE, identifier=agent_id) as kept:
        for number in (1, 2):
            assert past.broker.hang_up(agent_id) == 1
            eventually(lambda number=number: len(kept) >= 2 * number, what="a will and a birth in the broker's hands")
        counted = past.count("presence")
    eventually(lambda: past.count("presence") >= counted + 4, what="all of them taken")
    _is_online(past, guard)
    assert guard.status()["session"] >= before + 2


def test_a_will_before_its_time_is_outlived(past: HostileFleet, guard: GuardThread) -> None:
    """A broker knows the last will of a guard that lives; who hears of it goes by what comes after it."""
    before = guard.status()["session"]
    (client_id,) = [each for each in past.broker.wills if each.startswith(guard.status()["agentId"])]
    past.broker.publish(past.broker.wills[client_id])
    eventually(lambda: guard.status()["session"] > before, what="a session above the one that was called lost")
    _is_online(past, guard)


def test_whom_a_broker_calls_lost_is_stale_until_its_next_session(past: HostileFleet, guard: GuardThread) -> None:
    """A broker may call a connection lost, as it may end it: that is shown, and costs no report."""
    agent_id = guard.status()["agentId"]
    (client_id,) = [each for each in past.broker.wills if each.startswith(agent_id)]
    will = past.broker.wills[client_id]._replace(retained=False)
    with past.broker.tampering(Withheld([topics.HEARTBEAT], agent_id)):
        past.broker.publish(will, to="manager-")
        eventually(lambda: past.manager.agent(VICTIM)["reason"] == "connection_lost", what="the will believed")
    ignored = past.count("heartbeats_ignored")
    eventually(lambda: past.count("heartbeats_ignored") > ignored, what="heartbeats that say otherwise counted")
    guard.log.attack("192.0.2.41")
    eventually(lambda: "192.0.2.41" in past.stored(VICTIM), what="a report stored")
    past.broker.hang_up(agent_id)
    _is_online(past, guard)
    settled(past, guard)


def _is_online(fleet: HostileFleet, guard: GuardThread) -> None:
    """Wait until the manager knows the guard's own session, and has it online."""

    def alive() -> bool:
        (agent,) = [each for each in fleet.get("/api/agents") if each["agentId"] == guard.status()["agentId"]]
        return (agent["status"], agent["session"]) == ("online", guard.status()["session"])

    eventually(alive, what="the guard's own session, online")


def _say_that_the_manager_is_gone() -> Message:
    body = b'{"state":"offline","version":"1.0","sentAt":"2026-01-01T00:00:00Z"}'
    return Message(topics.MANAGER_PRESENCE.address(), body, retained=True)


def _say_that_an_agent_was_removed() -> Message:
    body = b'{"event":"agent_removed","at":"2026-01-01T00:00:00Z","hostname":"web-1"}'
    return Message(topics.FLEET.address("agent_removed"), body, 0)


@pytest.mark.parametrize("say", [_say_that_the_manager_is_gone, _say_that_an_agent_was_removed])
def test_what_is_said_to_people_decides_nothing(
    past: HostileFleet, guard: GuardThread, say: Callable[[], Message]
) -> None:
    """The manager's presence and the fleet's events have no code, and nothing obeys them: reports are still stored."""
    attacker = "192.0.2.31" if say is _say_that_the_manager_is_gone else "192.0.2.32"
    before = past.facts()["agents"]
    past.broker.publish(say())
    guard.log.attack(attacker)
    eventually(lambda: attacker in past.stored(VICTIM), what="a report stored")
    settled(past, guard)
    assert past.facts()["agents"] == before
