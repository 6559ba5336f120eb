"""The organization-wide step: vouched reports, agents that are old enough and in several networks, approval."""

import pytest

from manager.domain.response import OrganizationResponse, ResponderSettings, ResponseState
from manager.domain.response.organization_step import address_network, stored_response
from tests.support.responding import START, Scene

ATTACKER = "203.0.113.66"
AGENTS = ("ag-1", "ag-2", "ag-3")
DAY = 86_400.0


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.fixture
def strict() -> Scene:
    """A responder that asks for a day of registration and two networks; the agents have neither."""
    scene = Scene(ResponderSettings(organization_age=DAY, organization_networks=2))
    scene.facts.registered = dict.fromkeys(AGENTS, START - 60.0)
    return scene


def test_unvouched_reports_block_on_their_agents_only(scene: Scene) -> None:
    """What any local user can forge never reaches the organization; the agents that report it block it all the same."""
    for agent_id in AGENTS:
        scene.report(agent_id, ip=ATTACKER, vouched=agent_id == "ag-2")
    assert scene.blocked_in() == []
    assert [scene.blocked_on(agent_id) for agent_id in AGENTS] == [[ATTACKER]] * 3
    assert scene.response(ATTACKER).reason == (
        "block decided for the agents that report it only: 1 of 3 agents vouched, 3 are needed"
    )


def test_a_later_vouched_report_of_the_same_agents_counts(scene: Scene) -> None:
    """An agent that vouches in its second report is counted from then on, also if the incident gains nobody."""
    for vouched in (False, True):
        assert scene.blocked_in() == []
        for agent_id in AGENTS:
            scene.report(agent_id, ip=ATTACKER, vouched=vouched)
    assert scene.blocked_in() == [ATTACKER]


@pytest.mark.parametrize(("between", "counts"), [(599.0, True), (601.0, False)])
def test_an_old_vouched_report_counts_as_after_a_restart(scene: Scene, between: float, counts: bool) -> None:
    """A vouched report from more than ten minutes before its agent's incident is out of memory, so it counts never."""
    scene.report("ag-1", ip=ATTACKER)
    for _ in range(3):
        scene.now += between / 3
        scene.report("ag-1", ip=ATTACKER, vouched=False)
    scene.report("ag-2", ip=ATTACKER)
    assert ("ag-1" in scene.incident(ATTACKER).vouched) is counts


@pytest.mark.parametrize("members", [{"late": 301.0}, {"clock_known": False}])
def test_a_report_that_is_late_or_of_an_unknown_time_vouches_for_nothing(
    scene: Scene, members: dict[str, float]
) -> None:
    """What does not count for the responder does not count here."""
    for agent_id in AGENTS:
        scene.report(agent_id, ip=ATTACKER, vouched=False)
        scene.report(agent_id, ip=ATTACKER, **members)  # type: ignore[arg-type]
    assert scene.blocked_in() == []
    assert scene.incident(ATTACKER).vouched == set()


def test_any_counts_every_agent(scene: Scene) -> None:
    """A fleet that chose so counts agents that vouch for nothing."""
    scene.responder.organization_response = OrganizationResponse.ANY
    for agent_id in AGENTS:
        scene.report(agent_id, ip=ATTACKER, vouched=False)
    assert scene.blocked_in() == [ATTACKER]


def test_new_agents_block_themselves_and_the_organization_waits(strict: Scene) -> None:
    """Agents younger than a day make their own entries; a person decides about the others, and is told why."""
    strict.attack(ATTACKER, AGENTS)
    response = strict.response(ATTACKER)
    assert (response.state, strict.blocked_in()) == (ResponseState.PENDING_APPROVAL, [])
    assert [strict.blocked_on(agent_id) for agent_id in AGENTS] == [[ATTACKER]] * 3
    assert response.reason == (
        "block decided for the agents that report it; the whole organization waits for approval: "
        "0 of its agents have been registered for 24 h, 3 are needed"
    )
    strict.report("ag-4", ip=ATTACKER)
    assert strict.blocked_on("ag-4") == [ATTACKER]


def test_agents_of_one_network_wait_for_approval(strict: Scene) -> None:
    """Old agents in one network, or with no known address, are one place; a second network is enough."""
    strict.facts.registered = {}
    strict.facts.networks = {"ag-1": "192.0.2.0/24", "ag-2": "192.0.2.0/24"}
    strict.attack(ATTACKER, AGENTS)
    assert strict.response(ATTACKER).reason.endswith("its agents are in 1 known networks, 2 are needed")
    strict.facts.networks["ag-4"] = "198.51.100.0/24"
    strict.report("ag-4", ip=ATTACKER)
    assert strict.blocked_in() == [ATTACKER]
    assert strict.response(ATTACKER).state is ResponseState.APPLIED
    assert strict.response(ATTACKER).approval_expires_at is None


def test_a_person_approves_the_organization_wide_step(strict: Scene) -> None:
    """Approval puts the entry in the organization's blocklist, and names who approved it."""
    strict.attack(ATTACKER, AGENTS)
    incident = strict.incident(ATTACKER)
    strict.follow(strict.responder.approve(incident, strict.facts, strict.now, "admin"))
    response = strict.response(ATTACKER)
    assert (response.state, response.approved_by, strict.blocked_in()) == (ResponseState.APPLIED, "admin", [ATTACKER])


def test_approval_makes_no_vouched_report(strict: Scene) -> None:
    """A block that waited because of the rate cap stays with its agents if too few of them vouched."""
    strict.responder.organization_response = OrganizationResponse.VOUCHED
    scene = Scene(ResponderSettings(blocks=1))
    scene.attack("198.51.100.1", AGENTS[:2])
    for agent_id in AGENTS:
        scene.report(agent_id, ip=ATTACKER, vouched=False)
    assert scene.response(ATTACKER).state is ResponseState.PENDING_APPROVAL
    scene.follow(scene.responder.approve(scene.incident(ATTACKER), scene.facts, scene.now, "admin"))
    assert (scene.blocked_in(), scene.blocked_on("ag-1")) == ([], ["198.51.100.1", ATTACKER])


def test_what_nobody_approves_stays_in_force_on_its_agents(strict: Scene) -> None:
    """The approval expires, the agents' own entries do not, and a restart changes neither."""
    strict.attack(ATTACKER, AGENTS)
    strict.restart()
    assert strict.response(ATTACKER).awaits_organization
    strict.pass_time(ResponderSettings().approval_time)
    response = strict.response(ATTACKER)
    assert response.state is ResponseState.APPLIED
    assert response.reason == "in force only on the agents that report it: nobody approved it in time"


def test_undo_while_it_waits_removes_the_agents_entries(strict: Scene) -> None:
    """An undone incident waits for nothing more, and its agents' entries are gone."""
    strict.attack(ATTACKER, AGENTS)
    strict.follow(strict.responder.undo(strict.incident(ATTACKER), strict.now, "admin"))
    assert [strict.blocked_on(agent_id) for agent_id in AGENTS] == [[]] * 3
    assert strict.responder.responses.pending_count() == 0


def test_a_removed_entry_ends_the_wait(strict: Scene) -> None:
    """Whoever removes one of the entries has decided about the incident."""
    strict.attack(ATTACKER, AGENTS)
    entry = next(iter(strict.responder.entries))
    strict.follow(strict.responder.remove(entry.id, strict.now, "admin"))
    response = strict.response(ATTACKER)
    assert (response.state, response.approval_expires_at) == (ResponseState.UNDONE, None)
    assert strict.responder.responses.pending_count() == 0


def test_an_incident_that_waits_goes_on_under_freeze_and_thaw(strict: Scene) -> None:
    """Freezing withdraws nothing that is in force, and the wait goes on."""
    strict.attack(ATTACKER, AGENTS)
    strict.responder.freeze()
    strict.report("ag-4", ip=ATTACKER)
    assert strict.response(ATTACKER).awaits_organization
    strict.responder.thaw()
    strict.report("ag-5", ip=ATTACKER)
    assert [strict.blocked_on(agent_id) for agent_id in ("ag-4", "ag-5")] == [[ATTACKER]] * 2


def test_a_private_address_waits_for_no_approval(strict: Scene) -> None:
    """What never leaves its agents needs no approval either."""
    for agent_id in AGENTS:
        strict.report(agent_id, ip="10.0.0.9", site="north")
    assert strict.response("10.0.0.9").state is ResponseState.APPLIED


@pytest.mark.parametrize(
    ("addresses", "network"),
    [
        ((), None),
        (("no address",), None),
        (("10.1.2.3",), "10.1.2.0/24"),
        (("172.17.0.1", "8.8.4.4/24"), "8.8.4.0/24"),
        (("fd00::1", "2001:4860:1:2::3"), "2001:4860:1::/48"),
    ],
)
def test_the_network_of_an_agent_is_that_of_its_public_address(addresses: tuple[str, ...], network: str | None) -> None:
    """The first public address counts, else the first: bridges of containers are the same on every host."""
    assert address_network(addresses) == network


@pytest.mark.parametrize(
    ("stored", "choice"), [("vouched", "vouched"), ("any", "any"), ("unchosen", "any"), (None, "any")]
)
def test_a_store_without_a_choice_counts_any_agent(stored: str | None, choice: str) -> None:
    """A store of an earlier release goes on as before."""
    assert stored_response(stored) == choice
