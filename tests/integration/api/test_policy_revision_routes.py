"""Rollback, comparison, drift and broadcast over HTTP."""

import httpx2

from schemas import topics
from schemas.presence import PolicyState
from tests.integration.api.served import Served
from tests.support.attacks import trusted


def put(admin: httpx2.Client, threshold: int, path: str = "global") -> None:
    """Set a threshold for a scope."""
    assert admin.put(f"/api/policies/{path}", json={"thresholds": {"autoRespond": threshold}}).status_code == 200


def test_a_rollback_brings_the_documents_of_a_revision_back(served: Served, admin: httpx2.Client) -> None:
    """As a new revision; an agent gets what was then, and what is the same again changes nothing."""
    agent = served.enroll("srv-01")
    put(admin, 70)
    put(admin, 40)
    done = admin.post("/api/policies/rollback", json={"revision": 2}).json()["data"]
    assert done == {"revision": 4, "changed": True, "agents": 1}
    effective = admin.get(f"/api/policy/agent/{agent.agent_id}").json()["data"]
    assert effective["thresholds"]["autoRespond"] == 70
    again = admin.post("/api/policies/rollback", json={"revision": 2}).json()["data"]
    assert again == {"revision": 4, "changed": False, "agents": 0}


def test_a_dry_run_of_a_rollback_counts_as_the_rollback_does(served: Served, admin: httpx2.Client) -> None:
    """Hosts whose own document hides the change are not counted, those that leave a group are; nothing is changed."""
    agents = [served.enroll(f"srv-{number}") for number in range(5)]
    put(admin, 70)
    put(admin, 41, f"agents/{agents[0].agent_id}")
    put(admin, 40)
    for agent in agents[1:3]:
        admin.patch(f"/api/agents/{agent.agent_id}", json={"tags": ["web"]})
    policy = {"thresholds": {"autoRespond": 30}}
    admin.put("/api/policies/groups/web", json={"selector": {"tagsAll": ["web"]}, "priority": 1, "policy": policy})
    history = admin.get("/api/policies/history").json()
    for revision in (4, 3):
        tried = admin.post("/api/policies/rollback", json={"revision": revision, "dryRun": True}).json()["data"]
        assert (tried["agents"], tried["changed"]) == ({4: 2, 3: 4}[revision], False)
    assert admin.get("/api/policies/history").json() == history
    assert not admin.get("/api/audit?action=policy.rollback").json()["data"]
    assert admin.post("/api/policies/rollback", json={"revision": 3}).json()["data"]["agents"] == 4
    assert admin.post("/api/policies/rollback", json={"revision": 99, "dryRun": True}).status_code == 404


def test_a_rollback_before_the_history_is_refused(served: Served, admin: httpx2.Client) -> None:
    """A number that is smaller than that of the first change names no state; no document is removed."""
    served.enroll("srv-01")
    assert admin.post("/api/policies/rollback", json={"revision": 1}).status_code == 404
    put(admin, 70)
    refused = admin.post("/api/policies/rollback", json={"revision": 1})
    assert (refused.status_code, refused.json()["error"]) == (
        404,
        "Revision 1 not found: the history of policies begins with revision 2; remove the documents set since",
    )
    assert len(admin.get("/api/policies").json()["data"]) == 1


def test_a_rollback_says_in_the_history_where_it_goes_back_to(served: Served, admin: httpx2.Client) -> None:
    """Unless the operator gives a reason."""
    served.enroll("srv-01")
    for threshold in (70, 40):
        put(admin, threshold)
    admin.post("/api/policies/rollback", json={"revision": 2})
    admin.post("/api/policies/rollback", json={"revision": 3, "message": "quieter"})
    history = admin.get("/api/policies/history").json()["data"]
    assert [each["message"] for each in history[:2]] == ["quieter", "rollback to 2"]


def test_scopes_with_a_document_are_listed(served: Served, admin: httpx2.Client) -> None:
    """Each once, as it stands now; a scope that lost its own is not there."""
    agent = served.enroll("srv-01")
    for path in ("global", "organizations/acme", f"agents/{agent.agent_id}", "organizations/acme", "global"):
        put(admin, len(admin.get("/api/policies/history").json()["data"]), path)
    admin.delete(f"/api/policies/agents/{agent.agent_id}")
    listed = admin.get("/api/policies").json()["data"]
    assert [(each["scope"], each["target"], each["revision"]) for each in listed] == [
        ("global", None, 6),
        ("organization", "acme", 5),
    ]
    assert listed[0]["document"] == {"thresholds": {"autoRespond": 4}}


def test_two_revisions_are_compared_member_by_member(admin: httpx2.Client) -> None:
    """Scope, path, what was and what is; without `to` the newest counts."""
    put(admin, 70)
    admin.put("/api/policies/organizations/acme", json={"blocklist": {"ips": ["203.0.113.7"]}})
    put(admin, 40)
    threshold = {"scope": "global", "target": None, "path": "thresholds.autoRespond", "before": 70.0, "after": 40.0}
    found = admin.post("/api/policies/diff", json={"from": 2}).json()["data"]
    assert found[0] == threshold
    assert [(each["scope"], each["target"], each["path"]) for each in found[1:]] == [
        ("organization", "acme", "blocklist.ips[203.0.113.7]")
    ]
    assert admin.post("/api/policies/diff", json={"from": 3, "to": 4}).json()["data"] == [threshold]
    assert admin.post("/api/policies/diff", json={"from": 4, "to": 9}).status_code == 404


def test_a_preview_shows_what_agents_would_get_and_sets_nothing(served: Served, admin: httpx2.Client) -> None:
    """The difference is one of effective policies; a document that setting refuses is refused alike."""
    agent = served.enroll("srv-01")
    put(admin, 70)
    wanted = {"thresholds": {"autoRespond": 60}, "detection": {"yara": ["rule x { condition: true }"]}}
    body = {"scope": "agent", "target": agent.agent_id, "document": wanted}
    answer = admin.post("/api/policies/diff", json=body).json()
    difference, _ = answer["data"][::-1]
    assert (difference["path"], difference["before"], difference["after"]) == ("thresholds.autoRespond", 70.0, 60.0)
    assert answer["warnings"][0].startswith("document.detection.yara: ")
    refused = admin.post("/api/policies/diff", json={**body, "document": {**wanted, "colour": "red"}})
    assert refused.status_code == 400
    assert refused.json()["error"].startswith("document.colour: no such field")
    assert len(admin.get("/api/policies/history").json()["data"]) == 1
    taken = admin.post("/api/policies/diff", json={"scope": "global", "document": None}).json()["data"]
    assert [(each["before"], each["after"]) for each in taken] == [(70.0, 85)]


def test_drift_is_what_agents_themselves_say(served: Served, admin: httpx2.Client) -> None:
    """An agent is in the list until it says that it has what is meant for it; pages meet every agent once."""
    with served.bench() as bench:
        agents = trusted(bench, "a", "b", "c")
    ids = sorted(agent.agent_id for agent in agents)
    first = admin.get("/api/policies/drift?limit=2").json()
    rest = admin.get(f"/api/policies/drift?limit=2&cursor={first['nextCursor']}").json()
    assert [each["agentId"] for each in first["data"] + rest["data"]] == ids
    assert (first["data"][0]["version"], first["data"][0]["versionInForce"]) == (1, 0)
    assert {each["hostname"] for each in first["data"] + rest["data"]} == {"a", "b", "c"}
    with served.bench() as bench:
        for agent in agents[1:]:
            policy = bench.fleet.policies.effective[agent.agent_id]
            force = {"policy_version": policy.version, "policy_digest": policy.resolved.digest}
            beat = agent.heartbeat(bench.wall, policy_state=PolicyState.APPLIED, **force)
            bench.receive(topics.HEARTBEAT, agent.agent_id, beat)
    (left,) = admin.get("/api/policies/drift").json()["data"]
    assert left["agentId"] == agents[0].agent_id


def test_a_broadcast_publishes_every_policy_again(served: Served, admin: httpx2.Client) -> None:
    """One message on each agent's policy topic."""
    agents = [served.enroll(name) for name in "ab"]
    with served.bench() as bench:
        bench.publisher.published.clear()
    assert admin.post("/api/policies/broadcast").json()["data"] == {"agents": 2}
    with served.bench() as bench:
        assert [len(bench.publisher.take(topics.POLICY.address(agent.agent_id))) for agent in agents] == [1, 1]
