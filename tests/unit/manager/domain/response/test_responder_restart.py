"""Responses over a restart: what was missed, removed, merged or forgotten before is so after it."""

import pytest

from manager.domain.response import ResponderSettings, ResponseState
from tests.support.responding import Scene

IP = "203.0.113.9"
OTHER = "203.0.113.10"


def _restarted(scene: Scene, *, restarted: bool) -> Scene:
    if restarted:
        scene.restart()
    return scene


@pytest.mark.parametrize("restarted", [False, True])
def test_members_missed_while_frozen_get_their_block_after_the_thaw(*, restarted: bool) -> None:
    """The next report by a further agent blocks on those that joined while automatic response was frozen."""
    scene = Scene(ResponderSettings(organization_agents=99))
    scene.attack(IP, ["ag-1", "ag-2"])
    scene.responder.freeze()
    scene.attack(IP, ["ag-3"])
    _restarted(scene, restarted=restarted).responder.thaw()
    assert scene.blocked_on("ag-3") == []
    scene.attack(IP, ["ag-4"])
    assert scene.blocked_on("ag-3") == scene.blocked_on("ag-4") == [IP]
    scene.responder.freeze()
    scene.responder.thaw()
    assert not scene.response(IP).members_missing


@pytest.mark.parametrize("restarted", [False, True])
def test_a_removed_block_keeps_its_indicator_from_firing_while_the_incident_is_open(*, restarted: bool) -> None:
    """A second run of the address, 400 s later, blocks nothing either; the next one after both closed does."""
    scene = Scene(ResponderSettings(organization_agents=99))
    scene.attack(IP, ["ag-1", "ag-2"])
    first = scene.incident(IP).id
    scene.follow(scene.responder.remove(next(iter(scene.responder.entries)).id, scene.now, "admin"))
    scene.pass_time(400)
    _restarted(scene, restarted=restarted)
    scene.attack(IP, ["ag-3", "ag-4"])
    assert scene.incident(IP).id != first
    assert (scene.response(IP).state, scene.blocked_on("ag-3")) == (ResponseState.UNDONE, [])
    scene.pass_time(400)
    _restarted(scene, restarted=restarted)
    assert not scene.incidents[first].is_open
    scene.attack(IP, ["ag-5", "ag-6"])
    assert scene.response(IP).state is ResponseState.UNDONE
    scene.pass_time(2000)
    scene.attack(IP, ["ag-7", "ag-8"])
    assert (scene.response(IP).state, scene.blocked_on("ag-7")) == (ResponseState.APPLIED, [IP])


@pytest.mark.parametrize("restarted", [False, True])
def test_a_merged_response_takes_one_place_in_the_rate_cap(*, restarted: bool) -> None:
    """An older incident without a response takes over that of a newer one, and its place, which is counted once."""
    scene = Scene(ResponderSettings(organization_agents=99, blocks=2, agent_share=1.0))
    scene.pass_time(1000)
    for agent_id in ("ag-1", "ag-2"):
        scene.report(agent_id, ip=IP, late=700)
    older = scene.incident(IP)
    scene.attack(IP, ["ag-3", "ag-4"])
    scene.report("ag-1", ip=IP, late=400)
    scene.report("ag-5", ip=IP, late=300)
    assert scene.response(IP).state is ResponseState.APPLIED
    assert scene.responses[older.id].state is ResponseState.APPLIED
    assert [each.merged_into for each in scene.incidents.values()] == [None, older.id]
    _restarted(scene, restarted=restarted).attack(OTHER, ["ag-6", "ag-7"])
    assert scene.response(OTHER).state is ResponseState.APPLIED
    scene.attack("203.0.113.11", ["ag-8", "ag-9"])
    assert scene.response("203.0.113.11").state is ResponseState.PENDING_APPROVAL


@pytest.mark.parametrize("restarted", [False, True])
def test_a_response_is_forgotten_fifteen_minutes_after_its_incident_closed(*, restarted: bool) -> None:
    """A restart remembers it no longer and no shorter."""
    scene = Scene()
    scene.attack(IP, ["ag-1", "ag-2"])
    incident = scene.incident(IP)
    scene.pass_time(601)
    assert incident.closed_at == scene.now - 1
    scene.pass_time(898)
    _restarted(scene, restarted=restarted).pass_time(0)
    assert scene.responder.responses.get(incident.id) is not None
    scene.pass_time(2)
    assert scene.responder.responses.get(incident.id) is None
    scene.restart()
    assert scene.responder.responses.get(incident.id) is None


@pytest.mark.parametrize("restarted", [False, True])
def test_an_undo_after_the_close_is_remembered_as_long_again(*, restarted: bool) -> None:
    """A report that opens the incident again finds it undone."""
    scene = Scene()
    scene.attack(IP, ["ag-1", "ag-2"])
    incident = scene.incident(IP)
    scene.pass_time(1400)
    scene.follow(scene.responder.undo(incident, scene.now, "admin"))
    scene.pass_time(850)
    known = _restarted(scene, restarted=restarted).responder.responses.get(incident.id)
    assert known is not None
    assert known.state is ResponseState.UNDONE
