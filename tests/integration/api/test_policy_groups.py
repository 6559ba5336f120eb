"""Policy groups over HTTP: who is in one, in which order they apply, and what is refused."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx2
import pytest

from tests.integration.api.served import HttpAgent, Served

Join = Callable[..., HttpAgent]


@pytest.fixture
def join(served: Served) -> Iterator[Join]:
    """Register agents over HTTP; their clients are closed after the test."""
    with ExitStack() as clients:

        def joined(hostname: str, **members: Any) -> HttpAgent:
            agent = served.join(hostname, **members)
            clients.enter_context(agent.client)
            return agent

        yield joined


def group(priority: int, threshold: float, /, organization: str | None = None, **selector: list[str]) -> dict[str, Any]:
    """Return the body of a group whose policy sets one threshold."""
    body = {"selector": selector, "priority": priority, "policy": {"thresholds": {"autoRespond": threshold}}}
    return body if organization is None else {**body, "organization": organization}


def threshold(admin: httpx2.Client, agent_id: str) -> float:
    """Return `autoRespond` of an agent's effective policy."""
    return float(admin.get(f"/api/policy/agent/{agent_id}").json()["data"]["thresholds"]["autoRespond"])


def test_a_group_reaches_its_agents_between_organization_and_agent(served: Served, admin: httpx2.Client) -> None:
    """It takes precedence over the organization's document, and the agent's own over it; the answer counts hosts."""
    web, other = served.enroll("web-1", organization_id="acme"), served.enroll("db-1", organization_id="acme")
    admin.patch(f"/api/agents/{web.agent_id}", json={"tags": ["web"]})
    admin.put("/api/policies/organizations/acme", json={"thresholds": {"autoRespond": 60}})
    body = group(10, 70, tagsAll=["web"])
    dry = admin.put("/api/policies/groups/web", json=body, params={"dry_run": "true"}).json()["data"]
    assert (dry["agents"], dry["changed"], dry["dryRun"]) == (1, True, True)
    assert admin.get("/api/policies/groups/web").status_code == 404
    done = admin.put("/api/policies/groups/web", json=body).json()["data"]
    assert (done["scope"], done["target"], done["agents"]) == ("group", "web", 1)
    assert (threshold(admin, web.agent_id), threshold(admin, other.agent_id)) == (70, 60)
    admin.put(f"/api/policies/agents/{web.agent_id}", json={"thresholds": {"autoRespond": 80}})
    assert threshold(admin, web.agent_id) == 80
    shown = admin.get("/api/policies/groups/web").json()["data"]
    counts = {"agents": 1, "setToProtection": 0, "inProtection": 0, "blocking": 0}
    assert shown == {"name": "web", "organization": None, **body, **counts}
    assert admin.delete("/api/policies/groups/web").json()["data"]["changed"] is True
    assert admin.delete("/api/policies/groups/web").status_code == 404


def test_a_claimed_tag_gains_nothing(served: Served, admin: httpx2.Client, join: Join) -> None:
    """An agent that states a tag or a site over either door is in no group by it, also when it registers again."""
    admin.put("/api/policies/groups/web", json=group(10, 70, tagsAny=["web", "edge"]))
    admin.put("/api/policies/groups/bonn", json=group(11, 71, sites=["bonn"]))
    by_mqtt = served.enroll("liar-1", tags=["web"], site="bonn")
    by_http = join("liar-2", tags=["edge"])
    again = join("liar-2", tags=["web"], site="bonn")
    assert again.agent_id == by_http.agent_id
    for agent_id, claimed in ((by_mqtt.agent_id, ["web"]), (by_http.agent_id, ["web"])):
        record = admin.get(f"/api/agents/{agent_id}").json()["data"]
        assert (record["tags"], record["reportedTags"]) == ([], claimed)
        assert (record["site"], record["reportedSite"]) == (None, "bonn")
        assert threshold(admin, agent_id) == 85
    for name in ("web", "bonn"):
        assert admin.get(f"/api/policies/groups/{name}").json()["data"]["agents"] == 0


def test_an_operators_tags_and_site_survive_a_registration(admin: httpx2.Client, join: Join) -> None:
    """What an operator set is kept when the agent registers again; PATCH replaces tags, and takes a site away."""
    agent = join("srv-01", tags=["mine"], site="bonn")
    path = f"/api/agents/{agent.agent_id}"
    changed = admin.patch(path, json={"tags": ["web", "eu", "web"], "site": "berlin"}).json()["data"]
    assert (changed["tags"], changed["site"]) == (["web", "eu"], "berlin")
    join("srv-01", tags=["other"], site="rome")
    record = admin.get(path).json()["data"]
    assert (record["tags"], record["site"], record["reportedTags"]) == (["web", "eu"], "berlin", ["other"])
    assert admin.patch(path, json={"site": None, "tags": []}).json()["data"]["site"] is None
    assert admin.get(path).json()["data"]["tags"] == []
    entry = admin.get("/api/audit").json()["data"][0]
    assert (entry["action"], entry["target"], entry["before"]["tags"]) == ("agent.set", agent.agent_id, ["web", "eu"])


def test_priorities_and_organizations_order_the_groups(served: Served, admin: httpx2.Client) -> None:
    """A higher priority takes precedence, and any group of the organization over the fleet-wide ones."""
    agent = served.enroll("srv-01", organization_id="acme")
    admin.patch(f"/api/agents/{agent.agent_id}", json={"tags": ["a"], "site": "bonn"})
    admin.put("/api/policies/groups/high", json=group(90, 71, tagsAll=["a"]))
    admin.put("/api/policies/groups/low", json=group(10, 72, sites=["bonn"]))
    assert threshold(admin, agent.agent_id) == 71
    admin.put("/api/policies/groups/own", json=group(1, 73, "acme", tagsAny=["a"]))
    admin.put("/api/policies/groups/foreign", json=group(2, 74, "other", tagsAny=["a"]))
    assert threshold(admin, agent.agent_id) == 73


def test_explain_names_the_scope_of_each_value(admin: httpx2.Client, join: Join) -> None:
    """Of a merged mapping each member, of a list that adds up each entry with all scopes that list it."""
    agent = join("srv-01", organizationId="acme")
    admin.patch(f"/api/agents/{agent.agent_id}", json={"tags": ["web"]})
    admin.put("/api/policies/global", json={"blocklist": {"ips": ["198.51.100.1", "198.51.100.2"]}})
    admin.put("/api/policies/organizations/acme", json={"thresholds": {"autoRespond": 60, "notifyAndWait": 40}})
    policy = {"mode": "protection", "thresholds": {"autoRespond": 70}, "blocklist": {"ips": ["198.51.100.2"]}}
    admin.put("/api/policies/groups/web", json={**group(10, 1, tagsAll=["web"]), "policy": policy})
    admin.post("/api/blocks", json={"value": "198.51.100.7", "organization": "acme"})
    admin.post("/api/blocks", json={"value": "198.51.100.8", "agentId": agent.agent_id})
    told = admin.get(f"/api/policies/agent/{agent.agent_id}/explain").json()["data"]
    found = {each["path"]: each for each in told["values"]}
    expected = {
        "thresholds.autoRespond": ("group", "web"), "thresholds.notifyAndWait": ("organization", "acme"),
        "response.mode": ("group", "web"), "monitors.enabled": ("default", None),
        "blocklist.ips[198.51.100.1]": ("global", None), "blocklist.ips[198.51.100.2]": ("group", "web"),
        "blocklist.ips[198.51.100.7]": ("blocklist", "acme"),
        "blocklist.ips[198.51.100.8]": ("emergency", agent.agent_id),
    }  # fmt: skip
    assert {path: (found[path]["scope"], found[path]["target"]) for path in expected} == expected
    listed = [(each["scope"], each["target"]) for each in found["blocklist.ips[198.51.100.2]"]["setBy"]]
    assert listed == [("global", None), ("group", "web")]
    policy = admin.get(f"/api/policy/agent/{agent.agent_id}").json()["data"]
    assert (told["version"], told["digest"], told["groups"]) == (policy["version"], policy["digest"], ["web"])
    assert {entry if isinstance(entry, str) else entry["value"] for entry in policy["blocklist"]["ips"]} == {
        path.partition("[")[2].rstrip("]") for path in found if path.startswith("blocklist.ips")
    }
    assert admin.get("/api/policies/agent/ag-0000000000000000/explain").status_code == 404


def test_changes_of_groups_are_in_history_diff_and_rollback(served: Served, admin: httpx2.Client) -> None:
    """A rollback restores selector, priority and policy of a group, and removes one that was not there."""
    agent = served.enroll("srv-01")
    admin.patch(f"/api/agents/{agent.agent_id}", json={"tags": ["a"]})
    first = admin.put("/api/policies/groups/a", json=group(10, 71, tagsAll=["a"])).json()["data"]["revision"]
    admin.put("/api/policies/groups/a", json=group(20, 72, tagsAll=["b"]))
    admin.put("/api/policies/groups/b", json=group(10, 73, tagsAll=["a"]))
    newest = admin.get("/api/policies/history").json()["data"][0]
    assert (newest["scope"], newest["target"]) == ("group", "b")
    found = admin.post("/api/policies/diff", json={"from": first}).json()["data"]
    assert ("group", "a", "selector.tagsAll", ["a"], ["b"]) in [tuple(each.values()) for each in found]
    tried = {"scope": "group", "target": "b", "document": {"thresholds": {"autoRespond": 55}}}
    assert [each["after"] for each in admin.post("/api/policies/diff", json=tried).json()["data"]] == [55.0]
    admin.post("/api/policies/rollback", json={"revision": first})
    assert threshold(admin, agent.agent_id) == 71
    assert [each["name"] for each in admin.get("/api/policies/groups").json()["data"]] == ["a"]


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"selector": {}, "priority": 1, "policy": {}}, "selector: name tagsAll, tagsAny or sites"),
        ({"selector": {"tags": ["a"]}, "priority": 1, "policy": {}}, "selector.tags: no such field"),
        ({"selector": {"tagsAl": ["a"]}, "priority": 1, "policy": {}}, "did you mean tagsAll?"),
        ({"selector": {"tagsAll": ["a b"]}, "priority": 1, "policy": {}}, "selector.tagsAll.0: "),
        ({"selector": {"tagsAll": ["a"]}, "policy": {}}, "priority: "),
        ({"selector": {"tagsAll": ["a"]}, "priority": -1, "policy": {}}, "priority: "),
        ({"selector": {"tagsAll": ["a"]}, "priority": 1, "policy": {}, "colour": 1}, "colour: no such field"),
        ({"selector": {"tagsAll": ["a"]}, "priority": 1, "policy": {"thresholds": {"autoRespnd": 1}}},
         "policy.thresholds.autoRespnd: no such field, did you mean autoRespond?"),
        ({"selector": {"tagsAll": ["a"]}, "priority": 1, "policy": {"rules": [{"type": "block_ip", "value": "x"}]}},
         "policy.rules.0.value: "),
        ({"selector": {"tagsAll": ["a"]}, "priority": 1, "organization": "a b", "policy": {}}, "organization: "),
    ],
)  # fmt: skip
def test_a_mistyped_group_is_refused_with_the_field_named(admin: httpx2.Client, body: Any, error: str) -> None:
    """Every refusal of a policy document holds for a group's policy, and for what is around it."""
    answer = admin.put("/api/policies/groups/web", json=body)
    assert answer.status_code == 400
    assert error in answer.json()["error"]
    assert admin.get("/api/policies/groups/web").status_code == 404


def test_a_priority_is_given_once_in_an_organization(admin: httpx2.Client) -> None:
    """A second fleet-wide group of one priority is a conflict, also in a dry run; an organization counts for itself."""
    assert admin.put("/api/policies/groups/a", json=group(10, 71, tagsAll=["a"])).status_code == 200
    for params in ({}, {"dry_run": "true"}):
        refused = admin.put("/api/policies/groups/b", json=group(10, 72, tagsAll=["b"]), params=params)
        assert refused.status_code == 409
        assert "priority 10 is that of group a" in refused.json()["error"]
    assert admin.put("/api/policies/groups/c", json=group(10, 73, "acme", tagsAll=["b"])).status_code == 200
    assert admin.put("/api/policies/groups/a", json=group(10, 75, tagsAll=["c"])).status_code == 200


def test_groups_that_fit_alone_and_not_together_are_refused(admin: httpx2.Client) -> None:
    """An agent that gets both tags later would have a policy above the size limit of a message."""
    for name, first, status in (("a", 0, 200), ("b", 128, 400)):
        entries = [{"value": f"10.{first + n // 200}.{n % 200}.0/24", "reason": "x" * 400} for n in range(280)]
        body = {**group(first, 70, tagsAll=[name]), "policy": {"blocklist": {"ips": entries}}}
        answer = admin.put(f"/api/policies/groups/{name}", json=body)
        assert answer.status_code == status
    assert "fit in a message" in answer.json()["error"]


@pytest.mark.parametrize(
    ("body", "error"),
    [({}, "name tags"), ({"tag": ["a"]}, "tag: no such field"), ({"tags": None}, "empty list"),
     ({"organization": None}, "default"), ({"tags": ["a b"]}, "tags.0: "), ({"site": ""}, "site: ")],
)  # fmt: skip
def test_a_wrong_change_of_an_agent_is_refused(served: Served, admin: httpx2.Client, body: Any, error: str) -> None:
    """Nothing is changed, and the error says what to do."""
    agent = served.enroll("srv-01")
    answer = admin.patch(f"/api/agents/{agent.agent_id}", json=body)
    assert answer.status_code == 400
    assert error in answer.json()["error"]
    assert admin.patch("/api/agents/ag-0000000000000000", json={"tags": []}).status_code == 404


def test_an_http_agent_that_was_moved_polls_its_new_organizations_policy(admin: httpx2.Client, join: Join) -> None:
    """Under a higher version, without the former organization's blocks; its registration finds it as before."""
    agent = join("srv-01", organizationId="acme")
    for organization, value in (("acme", "198.51.100.1"), ("other", "198.51.100.2")):
        admin.post("/api/blocks", json={"value": value, "organization": organization})
    before = agent.poll().json()["data"]
    assert [entry["value"] for entry in before["blocklist"]["ips"]] == ["198.51.100.1"]
    admin.patch(f"/api/agents/{agent.agent_id}", json={"organization": "other"})
    after = agent.poll(version=before["version"]).json()["data"]
    assert after["version"] > before["version"]
    assert (after["organizationId"], [entry["value"] for entry in after["blocklist"]["ips"]]) == (
        "other",
        ["198.51.100.2"],
    )
    assert agent.poll(version=after["version"]).status_code == 304
    assert join("srv-01", organizationId="acme").agent_id == agent.agent_id
    assert [each["organizationId"] for each in admin.get("/api/agents").json()["data"]] == ["other"]
