"""Operator control of responses: undo, freeze, approve, simulate; and their state after a restart."""

import pytest

from manager.domain.correlation import Allowlist
from manager.domain.response import EmergencyEntry, ResponderSettings, Response, ResponseState
from manager.errors import Conflict
from tests.support.responding import Scene

IP = "203.0.113.9"
HASH = "ab" * 32
HOUR = 3600.0


def test_undo_removes_the_block_everywhere_and_the_incident_blocks_no_more() -> None:
    """After an undo the block is in no policy; further agents, and another incident of it, bring nothing back."""
    scene = Scene()
    scene.attack(IP, ["ag-1", "ag-2", "ag-3"])
    scene.follow(scene.responder.undo(scene.incident(IP), scene.now, "ann"))
    assert scene.blocked_on("ag-1") == scene.blocked_in() == []
    assert scene.response(IP).state is ResponseState.UNDONE
    assert not scene.attack(IP, ["ag-4", "ag-5", "ag-6"]).added
    scene.restart()
    assert not scene.attack(IP, ["ag-7", "ag-8"]).added
    assert scene.response(IP).reason == "undone by ann"


def test_an_undone_indicator_may_fire_again_once_its_incident_is_closed() -> None:
    """Undo concerns one incident: an attack after it closed is blocked again."""
    scene = Scene()
    scene.attack(IP, ["ag-1", "ag-2"])
    scene.follow(scene.responder.undo(scene.incident(IP), scene.now, "ann"))
    scene.pass_time(601)
    scene.attack(IP, ["ag-1", "ag-2"])
    assert scene.blocked_on("ag-1") == [IP]


def test_an_undone_incident_that_merges_suppresses_the_one_that_stays() -> None:
    """An incident that absorbs an undone one does not block either."""
    scene = Scene()
    scene.attack(IP, ["ag-1", "ag-2"])
    scene.pass_time(400)
    scene.attack(IP, ["ag-3", "ag-4"])
    assert len(scene.incidents) == 2
    scene.follow(scene.responder.undo(scene.incident(IP), scene.now, "ann"))
    scene.report("ag-5", ip=IP, late=200)
    older = scene.incidents["inc-1"]
    assert older.is_open
    assert scene.incident(IP).merged_into == older.id
    assert scene.responses[older.id].state is ResponseState.UNDONE
    assert not scene.attack(IP, ["ag-6", "ag-7"]).added


def test_merged_incidents_respond_as_one() -> None:
    """Two incidents of two agents that a report joins have four agents: the organization blocks the address."""
    scene = Scene()
    scene.attack(IP, ["ag-1", "ag-2"])
    scene.pass_time(400)
    scene.attack(IP, ["ag-3", "ag-4"])
    assert scene.blocked_in() == []
    scene.report("ag-1", ip=IP, late=200)
    scene.report("ag-5", ip=IP)
    assert scene.blocked_in() == [IP]


def test_a_removed_entry_does_not_come_back_with_its_incident() -> None:
    """An organization's entry that a person removed is not put there again by the next agent."""
    scene = Scene()
    scene.attack(IP, ["ag-1", "ag-2", "ag-3"])
    (entry,) = scene.responder.entries.list_of("organization", "acme")
    scene.follow(scene.responder.remove(entry.id, scene.now, "ann"))
    assert scene.blocked_in() == []
    scene.report("ag-4", ip=IP)
    assert scene.blocked_in() == []
    assert not scene.responder.remove("no-such-entry", scene.now, "ann")


def merged_scene() -> tuple[Scene, EmergencyEntry]:
    """Return a scene in which an incident has absorbed one with an organization's block, and that block."""
    scene = Scene()
    scene.attack(IP, ["ag-1", "ag-2"])
    scene.pass_time(400)
    scene.attack(IP, ["ag-3", "ag-4", "ag-5"])
    assert len(scene.incidents) == 2
    scene.report("ag-6", ip=IP, late=200)
    assert scene.incident(IP).merged_into == "inc-1"
    (entry,) = scene.responder.entries.list_of("organization", "acme")
    return scene, entry


def test_the_blocks_of_an_absorbed_incident_belong_to_the_one_that_stays() -> None:
    """After a merge the entries, in memory and as published, and the organization-wide state are the survivor's."""
    scene, entry = merged_scene()
    assert {each.incident_id for each in scene.responder.entries} == {"inc-1"}
    assert [each.incident_id for each in scene.blocklists.snapshot("acme").entries] == ["inc-1"]
    (shown,) = scene.policies.effective["ag-3"].resolved.sections["blocklist"]["ips"]
    assert shown["incidentId"] == "inc-1"
    assert scene.responses["inc-1"].organization_wide
    assert entry in scene.responder.entries


@pytest.mark.parametrize("restarted", [False, True])
def test_a_removed_entry_does_not_come_back_after_a_merge(*, restarted: bool) -> None:
    """The organization's entry of an absorbed incident is removed: the incident that stays does not put it back."""
    scene, entry = merged_scene()
    if restarted:
        scene.restart()
    scene.follow(scene.responder.remove(entry.id, scene.now, "ann"))
    assert scene.responses["inc-1"].state is ResponseState.UNDONE
    assert not scene.attack(IP, ["ag-7", "ag-8"]).added
    assert scene.blocked_in() == []


def test_an_undone_absorbed_incident_undoes_the_one_that_stays() -> None:
    """An undo that still names the absorbed incident stops the response of the incident that has its entries."""
    scene, _ = merged_scene()
    scene.follow(scene.responder.undo(scene.incident(IP), scene.now, "ann"))
    assert scene.responses["inc-1"].state is ResponseState.UNDONE
    assert not scene.attack(IP, ["ag-7", "ag-8"]).added
    assert scene.blocked_on("ag-1") == scene.blocked_in() == []


def test_an_absorbed_block_that_turns_out_to_be_unblockable_refuses_the_incident_that_stays() -> None:
    """An allowlisted address with the entries of an absorbed incident is refused in the name of the survivor."""
    scene, _ = merged_scene()
    for agent_id in ("ag-1", "ag-2"):
        scene.follow(scene.responder.forget_agent(agent_id))
    scene.responder.never_block.allowed = Allowlist({"acme": ["203.0.113.0/24"]})
    scene.follow(scene.responder.withdraw_unblockable(scene.now))
    assert scene.responses["inc-1"].reason == "never blocked: it is on the allowlist"


def test_an_undo_of_an_older_incident_undoes_the_newer_one_whose_block_it_lifts() -> None:
    """The block of a newer open incident goes with the undo of a closed one, and the next agent brings nothing back."""
    scene = Scene()
    scene.attack(IP, ["ag-1", "ag-2"])
    older = scene.incident(IP)
    scene.pass_time(700)
    scene.attack(IP, ["ag-3", "ag-4"])
    newer = scene.incident(IP)
    assert newer.id != older.id
    assert not older.is_open
    scene.follow(scene.responder.undo(older, scene.now, "ann"))
    assert len(scene.responder.entries) == 0
    assert scene.responses[newer.id].state is ResponseState.UNDONE
    assert scene.responses[newer.id].reason == "undone by ann"
    scene.restart()
    assert not scene.attack(IP, ["ag-5", "ag-6"]).added


def test_freeze_stops_all_automatic_response_and_thaw_lets_it_go_on() -> None:
    """While frozen nothing new is blocked, and that is said; afterwards the next agent brings everybody their entry."""
    scene = Scene()
    scene.attack("203.0.113.1", ["ag-1", "ag-2"])
    scene.responder.freeze()
    scene.attack(IP, ["ag-1", "ag-2"])
    scene.report("ag-3", ip="203.0.113.1")
    for agent_id in ("ag-1", "ag-2"):
        scene.report(agent_id, technique="T1059")
    assert scene.response(IP).reason == "automatic response is frozen"
    assert scene.blocked_on("ag-1") == ["203.0.113.1"]
    assert scene.blocked_in() == []
    scene.restart()
    scene.responder.thaw()
    scene.report("ag-3", ip=IP)
    scene.report("ag-4", ip="203.0.113.1")
    assert scene.blocked_in() == ["203.0.113.1", IP]


def waiting_scene(*, organization_networks: int = 0) -> tuple[Scene, Response]:
    """Return a scene in which an incident about IP waits for approval because of the rate cap, and its response."""
    scene = Scene(ResponderSettings(blocks=1, organization_networks=organization_networks))
    scene.attack("203.0.113.1", ["ag-1", "ag-2"])
    scene.attack(IP, ["ag-3", "ag-4"])
    assert scene.response(IP).state is ResponseState.PENDING_APPROVAL
    return scene, scene.response(IP)


def test_an_incident_that_waits_for_approval_still_waits_after_a_freeze() -> None:
    """An agent that joins while frozen changes no waiting approval; approved after the thaw, all members block."""
    scene, waiting = waiting_scene()
    scene.responder.freeze()
    scene.report("ag-5", ip=IP)
    assert scene.response(IP) == waiting
    assert list(scene.responder.responses.pending()) == [waiting]
    scene.responder.thaw()
    scene.follow(scene.responder.approve(scene.incident(IP), scene.facts, scene.now, "ann"))
    assert scene.blocked_in() == [IP]


@pytest.mark.parametrize("frozen", [False, True])
def test_a_waiting_approval_moves_to_the_incident_that_stays(*, frozen: bool) -> None:
    """An incident that absorbs one that waits waits in its place, until the same time, also while frozen."""
    scene = Scene(ResponderSettings(blocks=1))
    scene.report("ag-1", ip=IP, clock_known=False)
    scene.report("ag-2", ip=IP, clock_known=False)
    assert scene.response(IP).state is ResponseState.REFUSED
    scene.pass_time(400)
    scene.attack("203.0.113.1", ["ag-8", "ag-9"])
    scene.attack(IP, ["ag-3", "ag-4"])
    waiting = scene.response(IP)
    assert waiting.state is ResponseState.PENDING_APPROVAL
    scene.pass_time(10)
    scene.responder.frozen = frozen
    scene.report("ag-5", ip=IP, late=210)
    assert scene.incident(IP).merged_into == "inc-1"
    (kept,) = scene.responder.responses.pending()
    assert (kept.incident_id, kept.approval_expires_at) == ("inc-1", waiting.approval_expires_at)
    assert scene.response(IP).reason == "merged into inc-1"


def test_simulation_records_what_it_would_do_and_does_nothing() -> None:
    """In simulation the entries are named, the response says so, and no policy and no blocklist changes."""
    scene = Scene(ResponderSettings(simulation=True))
    response_changes = scene.attack(IP, ["ag-1", "ag-2", "ag-3", "ag-4"])
    assert [(entry.scope, entry.target) for entry in response_changes.simulated] == [
        ("agent", "ag-1"),
        ("agent", "ag-2"),
        ("organization", "acme"),
    ]
    assert scene.response(IP).state is ResponseState.SIMULATED
    assert not response_changes.added
    assert scene.blocked_on("ag-1") == scene.blocked_in() == []


def test_a_removed_agent_takes_its_entries_along() -> None:
    """A removed agent's own entries go with it, and no new ones are made for it."""
    scene = Scene()
    scene.attack(IP, ["ag-1", "ag-2"])
    assert [entry.target for entry in scene.responder.forget_agent("ag-1").removed] == ["ag-1"]
    scene.facts.gone.add("ag-1")
    scene.attack("203.0.113.1", ["ag-1", "ag-2"])
    assert scene.responder.entries.list_of("agent", "ag-1") == []


def test_an_allowlisted_address_is_withdrawn() -> None:
    """An allowlisted address in force is withdrawn everywhere at the next check, with the reason."""
    scene = Scene()
    scene.attack(IP, ["ag-1", "ag-2", "ag-3"])
    scene.responder.never_block.allowed = Allowlist({"acme": ["203.0.113.0/24"]})
    scene.follow(scene.responder.withdraw_unblockable(scene.now))
    assert scene.blocked_on("ag-1") == scene.blocked_in() == []
    assert scene.response(IP).reason == "never blocked: it is on the allowlist"


def test_a_restarted_responder_goes_on_as_it_was() -> None:
    """After a restart an incident that responded is not applied again, and grows into the organization's list."""
    scene = Scene()
    scene.attack(IP, ["ag-1", "ag-2"])
    before = list(scene.responder.entries)
    scene.restart()
    assert list(scene.responder.entries) == before
    assert not scene.attack(IP, ["ag-1", "ag-2"])
    scene.report("ag-3", ip=IP)
    assert scene.blocked_in() == [IP]


def test_approval_lets_an_incident_respond_and_only_one_that_waits() -> None:
    """An approved incident blocks beyond the cap and says who approved it; one that does not wait is a conflict."""
    scene = Scene(ResponderSettings(blocks=1))
    scene.attack("203.0.113.1", ["ag-1", "ag-2"])
    scene.attack(IP, ["ag-3", "ag-4"])
    waiting = scene.incident(IP)
    assert scene.response(IP).state is ResponseState.PENDING_APPROVAL
    scene.restart()
    scene.follow(scene.responder.approve(waiting, scene.facts, scene.now, "ann"))
    assert scene.blocked_on("ag-3") == [IP]
    assert scene.response(IP).approved_by == "ann"
    with pytest.raises(Conflict):
        scene.responder.approve(waiting, scene.facts, scene.now, "ann")


def test_an_approval_expires() -> None:
    """After 24 hours without approval an incident is refused, and its time was told before."""
    scene = Scene(ResponderSettings(blocks=1, duration=60.0))
    scene.attack("203.0.113.1", ["ag-1", "ag-2"])
    scene.attack(IP, ["ag-3", "ag-4"])
    assert scene.response(IP).approval_expires_at == scene.now + 24 * HOUR
    scene.pass_time(24 * HOUR - 1)
    assert [response.incident_id for response in scene.responder.responses.pending()] == [scene.incident(IP).id]
    scene.pass_time(2)
    assert scene.responder.responses.pending_count() == 0
    assert scene.response(IP).reason == "nobody approved it in time"


def test_each_approval_expires_at_its_own_time() -> None:
    """An incident that got more time, as it waits only for the organization-wide step, delays no other one's end."""
    scene, _ = waiting_scene(organization_networks=2)
    scene.pass_time(1.0)
    scene.attack("203.0.113.2", ["ag-5", "ag-6"])
    second = scene.response("203.0.113.2")
    scene.pass_time(299.0)
    scene.report("ag-7", ip=IP)
    first = scene.response(IP)
    assert first.awaits_organization
    assert first.approval_expires_at == scene.now + 24 * HOUR
    assert list(scene.responder.responses.pending()) == [second, first]
    assert second.approval_expires_at is not None
    scene.pass_time(second.approval_expires_at - scene.now)
    assert scene.response("203.0.113.2").reason == "nobody approved it in time"
    assert scene.response(IP) == first


def test_approvals_expire_in_order_after_the_clock_was_set_back() -> None:
    """One that waits since the clock was set back ends first, though others waited before."""
    scene, first = waiting_scene()
    scene.now -= HOUR
    scene.responder.shift(-HOUR)
    scene.correlator.shift(-HOUR)
    scene.attack("203.0.113.2", ["ag-5", "ag-6"])
    second = scene.response("203.0.113.2")
    waiting = [response.incident_id for response in scene.responder.responses.pending()]
    assert waiting == [second.incident_id, first.incident_id]


def test_approval_does_not_lift_the_never_block_core() -> None:
    """An address that turned out to have logged in while it waited is refused even when approved."""
    scene = Scene(ResponderSettings(blocks=1))
    scene.attack("203.0.113.1", ["ag-1", "ag-2"])
    scene.attack(IP, ["ag-3", "ag-4"])
    scene.report("ag-3", ip=IP, lastLogin=scene.now - 60)
    scene.follow(scene.responder.approve(scene.incident(IP), scene.facts, scene.now, "ann"))
    assert scene.blocked_on("ag-3") == []
    assert "logged in" in scene.response(IP).reason


def test_the_queue_of_approvals_is_bounded() -> None:
    """The first to expire stops waiting when too many do; it is counted, and said."""
    scene = Scene(ResponderSettings(blocks=1, max_pending=3))
    scene.attack("203.0.113.250", ["ag-1", "ag-2"])
    for number in range(5):
        scene.attack(f"203.0.113.{number}", ["ag-3", "ag-4"])
    assert [scene.responses[each.incident_id].state for each in scene.responder.responses.pending()] == [
        ResponseState.PENDING_APPROVAL
    ] * 3
    assert scene.responder.responses.dropped == 2
    assert scene.response("203.0.113.0").reason == "too many incidents wait for approval"


def test_what_is_remembered_of_closed_incidents_is_bounded() -> None:
    """Responses of closed incidents are forgotten once no report on time can open them again."""
    scene = Scene(ResponderSettings(duration=60.0))
    for number in range(50):
        scene.attack(f"203.0.113.{number}", [f"ag-{2 * number}", f"ag-{2 * number + 1}"])
    scene.pass_time(700)
    scene.pass_time(1000)
    assert all(scene.responder.responses.get(incident_id) is None for incident_id in scene.incidents)


@pytest.mark.parametrize("seconds", [HOUR, -HOUR])
def test_an_undo_is_remembered_through_a_step_of_the_clock(seconds: float) -> None:
    """The clock is set right after an undone incident closed: it is still known as undone for 900 s, then forgotten."""
    scene = Scene()
    scene.attack(IP, ["ag-1", "ag-2"])
    scene.follow(scene.responder.undo(scene.incident(IP), scene.now, "ann"))
    scene.pass_time(601)
    incident_id = scene.incident(IP).id
    scene.now += seconds
    scene.responder.shift(seconds)
    scene.pass_time(890)
    assert scene.responder.responses.get(incident_id) is not None
    scene.pass_time(20)
    assert scene.responder.responses.get(incident_id) is None
