"""A fleet with a past: every kind of message has crossed the broker more than once, and the broker remembers."""

from pathlib import Path

from tests.faults.hostile_broker.fleet import HostileFleet, settled
from tests.integration.guard.guard_thread import GuardThread
from tests.support.waiting import eventually

VICTIM, OTHER, THIRD, STRANGER = "web-1", "web-2", "web-3", "other-1"
"""Three guards of one organization, and one of another."""

ATTACKERS = ("203.0.113.66", "203.0.113.67")


def live_through_a_past(fleet: HostileFleet) -> HostileFleet:
    """Let the guards register, restart, lose their connection, report, and obey."""
    victim, *others = (fleet.guard(name) for name in (VICTIM, OTHER, THIRD))
    stranger = fleet.guard(STRANGER, organization="elsewhere")
    everybody = (victim, *others, stranger)
    victim.start().ready()
    victim.stop()
    for guard in everybody:
        guard.start()
    for guard in everybody:
        guard.ready()
    _lose_the_connection(fleet, victim)
    for number, attacker in enumerate(ATTACKERS):
        sections = {"thresholds": {"autoRespond": 90 - number, "notifyAndWait": 50}}
        fleet.manager.request("PUT", "/api/policies/global", sections)
        for guard in (victim, *others):
            guard.log.attack(attacker)
        eventually(lambda at=attacker: all(_blocks(guard, at) for guard in (victim, *others)), what="the block")
    fleet.manager.request("POST", "/api/policies/broadcast")
    settled(fleet, *everybody)
    return fleet


def _lose_the_connection(fleet: HostileFleet, guard: GuardThread) -> None:
    before = guard.status()["session"]
    assert fleet.broker.hang_up(guard.status()["agentId"]) == 1
    eventually(lambda: guard.status()["session"] > before and guard.status()["state"] == "online", what="a reconnect")


def _blocks(guard: GuardThread, address: str) -> bool:
    wide = [measure for measure in guard.status()["recorded"] if measure["value"] == address]
    return bool(wide) and guard.status()["blocklistSequence"] > 0


def new_fleet(home: Path) -> HostileFleet:
    """Return a fleet, not entered yet, whose agents fall stale late: the machine may be busy."""
    return HostileFleet(home, {"PANGUARD_STALE_AFTER": "60"})
