"""Incidents, blocks and automatic response over HTTP, against the real engine."""

import httpx2
import pytest

from schemas import topics
from schemas.presence import PolicyState
from tests.integration.api.served import Served
from tests.support.attacks import ATTACKER, attack, trusted

pytestmark = pytest.mark.usefixtures("each_system")

MEMBERS = {
    "id", "kind", "value", "organizationId", "site", "agentIds", "agentCount", "openedAt", "firstSeenAt", "lastSeenAt",
    "closedAt", "late", "chronic", "mergedInto", "reportCount", "returnCount", "response", "responseReason",
    "respondedAt", "organizationWide", "approvalExpiresAt", "approvedBy", "timeToAcceptance", "timeToImmunity",
    "vouchedAgentCount", "targetCount", "acceptedCount", "enforcedCount", "notEnforced", "workState", "workBy",
    "workAt",
}  # fmt: skip


def address_incident(admin: httpx2.Client) -> dict[str, object]:
    """Return the newest incident of a source address."""
    found: dict[str, object] = admin.get("/api/incidents?kind=source_ip").json()["data"][0]
    return found


def test_an_incident_has_every_documented_member(served: Served, admin: httpx2.Client) -> None:
    """The record of an incident: indicator, agents, times, response and time to immunity."""
    with served.bench() as bench:
        agents = trusted(bench, "a", "b", organization_id="acme", site="berlin")
        attack(bench, *agents)
    incident = address_incident(admin)
    assert incident.keys() == MEMBERS
    assert (incident["value"], incident["organizationId"], incident["site"]) == (ATTACKER, "acme", None)
    assert incident["agentIds"] == sorted(agent.agent_id for agent in agents)
    assert (incident["agentCount"], incident["reportCount"]) == (2, 2)
    assert incident["openedAt"] == incident["lastSeenAt"] == "2027-01-15T08:00:00.000Z"
    assert (incident["closedAt"], incident["late"], incident["chronic"], incident["mergedInto"]) == (
        None, False, False, None,
    )  # fmt: skip
    assert incident["response"] == "applied"
    assert incident["responseReason"] == "block decided for the agents that report it"
    assert incident["timeToAcceptance"] == incident["timeToImmunity"] == {"50": None, "95": None, "100": None}
    assert (incident["vouchedAgentCount"], incident["agentCount"]) == (2, 2)


def test_time_to_acceptance_stands_in_the_record(served: Served, admin: httpx2.Client) -> None:
    """Once both agents say that the block is in force, the incident says after how many seconds."""
    with served.bench() as bench:
        agents = trusted(bench, "a", "b")
        attack(bench, *agents)
        bench.pass_time(2)
        for agent in agents:
            policy = bench.fleet.policies.effective[agent.agent_id]
            force = {"policy_version": policy.version, "policy_digest": policy.resolved.digest}
            beat = agent.heartbeat(bench.wall, policy_state=PolicyState.APPLIED, **force)
            bench.receive(topics.HEARTBEAT, agent.agent_id, beat)
    incident = address_incident(admin)
    assert incident["timeToAcceptance"] == {"50": 2.0, "95": 2.0, "100": 2.0}
    assert incident["timeToImmunity"] == {"50": None, "95": None, "100": None}


def test_incidents_are_filtered_and_paged_newest_first(served: Served, admin: httpx2.Client) -> None:
    """Each filter leaves what meets it; pages follow one another without gap or overlap."""
    with served.bench() as bench:
        agents = trusted(bench, "a", "b", organization_id="acme")
        attack(bench, *agents)
        bench.pass_time(700, step=9)
        for number in (1, 2):
            attack(bench, *agents, sourceIp=f"203.0.113.{number}")
        attack(bench, *agents, sourceIp="127.0.0.1")

    def values(query: str) -> list[str]:
        return [incident["value"] for incident in admin.get(f"/api/incidents?{query}").json()["data"]]

    opened_last = {"203.0.113.1", "203.0.113.2", "127.0.0.1"}
    assert set(values("kind=source_ip&open=true")) == opened_last
    assert values("kind=source_ip&open=false") == [ATTACKER]
    assert values("kind=source_ip")[-1] == ATTACKER
    assert values("response=refused") == ["127.0.0.1"]
    assert set(values("since=2027-01-15T08:10:00Z&kind=source_ip")) == opened_last
    assert values("kind=file_hash") == values("org_id=other") == values("chronic=true") == values("merged=true") == []
    first = admin.get("/api/incidents?limit=2&kind=source_ip").json()
    rest = admin.get(f"/api/incidents?limit=2&kind=source_ip&cursor={first['nextCursor']}").json()
    assert [each["value"] for each in first["data"] + rest["data"]] == values("kind=source_ip")
    assert rest["nextCursor"] is None


def test_a_list_names_two_hundred_agents_and_counts_them_all(served: Served, admin: httpx2.Client) -> None:
    """An incident of many agents does not make a list long; its own record names up to a thousand."""
    with served.bench() as bench:
        attack(bench, *trusted(bench, *(f"srv-{number}" for number in range(203))))
    listed = address_incident(admin)
    assert (len(listed["agentIds"]), listed["agentCount"]) == (200, 203)  # type: ignore[arg-type]
    shown = admin.get(f"/api/incidents/{listed['id']}").json()["data"]
    assert (len(shown["agentIds"]), len(shown["members"]), shown["agentCount"]) == (203, 203, 203)
    assert shown["members"][0].keys() == {"agentId", "hostname", "actionable", "vouched"}


def test_undo_takes_the_entries_away_and_says_who_did(served: Served, admin: httpx2.Client) -> None:
    """The incident shows its entries until it is undone; a further agent brings no block back."""
    with served.bench() as bench:
        agents = trusted(bench, "a", "b", "c")
        attack(bench, *agents[:2])
    incident = address_incident(admin)
    before = admin.get(f"/api/incidents/{incident['id']}").json()["data"]
    assert {entry["target"] for entry in before["entries"]} == {agent.agent_id for agent in agents[:2]}
    undone = admin.post(f"/api/incidents/{incident['id']}/undo")
    assert undone.status_code == 200
    after = undone.json()["data"]
    assert (after["response"], after["responseReason"], after["entries"]) == ("undone", "undone by admin", [])
    with served.bench() as bench:
        attack(bench, agents[2])
    assert admin.get("/api/blocks?kind=ip").json()["data"] == []


def test_what_does_not_wait_cannot_be_approved(served: Served, admin: httpx2.Client) -> None:
    """409 for an incident that was answered already, 404 for one that is not there."""
    with served.bench() as bench:
        attack(bench, *trusted(bench, "a", "b"))
    answer = admin.post(f"/api/incidents/{address_incident(admin)['id']}/approve")
    assert answer.status_code == 409
    assert "does not wait for approval" in answer.json()["error"]
    for decision in ("", "/undo", "/approve"):
        path = f"/api/incidents/inc-0000000000000000{decision}"
        answer = admin.post(path) if decision else admin.get(path)
        assert (answer.status_code, "not found" in answer.json()["error"]) == (404, True)


def test_what_waits_for_approval_responds_once_approved(served: Served, admin: httpx2.Client) -> None:
    """Two liars made their share of blocks; the next waits, with the time until which it does, for a person."""
    with served.bench() as bench:
        liars = trusted(bench, "a", "b")
        for number in range(11):
            attack(bench, *liars, sourceIp=f"203.0.113.{number + 1}")
    (waiting,) = admin.get("/api/incidents?response=pending_approval").json()["data"]
    assert waiting["approvalExpiresAt"] == "2027-01-16T08:00:00.000Z"
    approved = admin.post(f"/api/incidents/{waiting['id']}/approve").json()["data"]
    assert (approved["response"], approved["approvedBy"], len(approved["entries"])) == ("applied", "admin", 2)


def test_blocks_show_what_is_in_force_and_one_can_be_removed(served: Served, admin: httpx2.Client) -> None:
    """An organization-wide block is one entry; removed, it is gone, and a second time it is not found."""
    with served.bench() as bench:
        attack(bench, *trusted(bench, "a", "b", "c", organization_id="acme"))
    (wide, *_) = admin.get("/api/blocks?kind=ip&target=acme").json()["data"]
    assert (wide["kind"], wide["value"], wide["scope"], wide["target"]) == ("ip", ATTACKER, "organization", "acme")
    assert wide["incidentId"] == address_incident(admin)["id"]
    assert (wide["createdAt"], wide["expiresAt"]) == ("2027-01-15T08:00:00.000Z", "2027-01-15T12:00:00.000Z")
    assert wide["reason"]
    assert wide["incidentKept"] is True
    assert admin.delete(f"/api/blocks/{wide['id']}").json()["data"] == {"id": wide["id"], "removed": True}
    assert admin.get("/api/blocks?kind=ip&target=acme").json()["data"] == []
    again = admin.delete(f"/api/blocks/{wide['id']}")
    assert (again.status_code, wide["id"] in again.json()["error"]) == (404, True)


def test_a_block_that_has_ended_is_not_listed(served: Served, admin: httpx2.Client) -> None:
    """Not even while the engine has not taken it away yet."""
    with served.bench() as bench:
        attack(bench, *trusted(bench, "a", "b"))
        assert bench.rows("SELECT count(*) FROM emergency_entry WHERE kind = 'ip'") == [(2,)]
        bench.elapsed += 4 * 3600
    assert admin.get("/api/blocks").json()["data"] == []


def test_freeze_stops_automatic_response_until_it_is_let_go_on(served: Served, admin: httpx2.Client) -> None:
    """Frozen, an incident is refused with that reason; what is in force stays."""
    with served.bench() as bench:
        agents = trusted(bench, "a", "b")
        attack(bench, *agents)
    assert admin.get("/api/responses").json()["data"]["frozen"] is False
    frozen = admin.post("/api/responses/freeze").json()["data"]
    assert frozen == {
        "frozen": True, "simulation": False, "organizationResponse": "vouched", "organizationResponseChosen": True,
        "entries": 4, "pending": 0,
    }  # fmt: skip
    with served.bench() as bench:
        bench.elapsed += 1  # two incidents of one moment have no newest
        attack(bench, *agents, sourceIp="203.0.113.1")
    assert address_incident(admin)["responseReason"] == "automatic response is frozen"
    assert admin.post("/api/responses/thaw").json()["data"]["frozen"] is False
    assert len(admin.get("/api/blocks?kind=ip").json()["data"]) == 2


def test_an_admin_chooses_which_agents_a_block_of_the_organization_counts(served: Served, admin: httpx2.Client) -> None:
    """Unvouched reports block with their agents only, until the choice is `any`; incidents say how many vouched."""
    with served.bench() as bench:
        agents = trusted(bench, "a", "b", "c")
        agents[0].vouches = agents[1].vouches = False
        attack(bench, *agents)
    incident = address_incident(admin)
    assert (incident["vouchedAgentCount"], incident["agentCount"], incident["organizationWide"]) == (1, 3, False)
    assert str(incident["responseReason"]).endswith("1 of 3 agents vouched, 3 are needed")
    chosen = admin.put("/api/responses", json={"organizationResponse": "any"})
    assert chosen.json()["data"]["organizationResponse"] == "any"
    refused = admin.put("/api/responses", json={"organizationResponse": "all"})
    assert refused.status_code == 400
    with served.bench() as bench:
        bench.elapsed += 1
        agents = trusted(bench, "d")
        agents[0].vouches = False
        attack(bench, *agents)
    assert address_incident(admin)["organizationWide"] is True


def test_open_incidents_are_the_overviews_correlated_groups(served: Served, admin: httpx2.Client) -> None:
    """The address and the technique that two agents share are two."""
    with served.bench() as bench:
        attack(bench, *trusted(bench, "a", "b"))
    assert admin.get("/api/overview").json()["data"]["threatSummary"]["correlatedGroups"] == 2


def test_an_agents_token_opens_none_of_it(served: Served) -> None:
    """All of this is the admin's."""
    agent = served.enroll("srv-01")
    with served.client(agent.keys.http_token) as own:
        for path in ("incidents", "incidents/inc-1", "blocks", "responses", "allowlist", "policies", "policies/drift"):
            assert own.get(f"/api/{path}").status_code == 403, path
        for path in ("incidents/inc-1/undo", "incidents/inc-1/approve", "responses/freeze", "policies/broadcast"):
            assert own.post(f"/api/{path}").status_code == 403, path
        for path in ("allowlist", "policies/rollback", "policies/diff"):
            assert own.post(f"/api/{path}", json={}).status_code == 403, path
        for path in ("blocks/blk-1", "allowlist?value=192.0.2.1"):
            assert own.delete(f"/api/{path}").status_code == 403, path
