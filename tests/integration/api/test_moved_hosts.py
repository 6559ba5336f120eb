"""A host and a policy group that change their organization, over HTTP: which tokens see and remove what is blocked."""

import httpx2
import pytest

from tests.integration.api.served import Served
from tests.support.attacks import ATTACKER, attack, trusted

ADDRESS = "198.51.100.9"
OWN, OTHER = "acme", "umbrella"


def client(served: Served, admin: httpx2.Client, organization: str) -> httpx2.Client:
    """Return a client with the token of a responder of one organization."""
    body = {"name": f"res-{organization}", "role": "responder", "organizations": [organization]}
    made = admin.post("/api/access", json=body).json()["data"]
    return served.client(made["token"])


def listed(client: httpx2.Client) -> list[str]:
    """Return the addresses of the blocks that a token finds."""
    return [str(block["value"]) for block in client.get("/api/blocks?kind=ip").json()["data"]]


@pytest.mark.parametrize("scope", ["host", "group"])
def test_the_tokens_of_the_new_organization_see_and_lift_the_block(
    served: Served, admin: httpx2.Client, scope: str
) -> None:
    """Those of the former one find nothing, remove nothing, and are told nothing of it."""
    with served.bench() as bench:
        agent, other = trusted(bench, "a", "b", organization_id=OWN)
        attack(bench, agent, other)
    holder = {"agentId": agent.agent_id}
    group = {"selector": {"tagsAll": ["web"]}, "priority": 1, "organization": OWN, "policy": {}}
    if scope == "group":
        assert admin.put("/api/policies/groups/web", json=group).status_code == 200
        holder = {"group": "web"}
    block = admin.post("/api/blocks", json={"value": ADDRESS, **holder}).json()["data"]
    with client(served, admin, OWN) as former, client(served, admin, OTHER) as new:
        assert (sorted(listed(former)), listed(new)) == ([ADDRESS, ATTACKER, ATTACKER], [])
        if scope == "host":
            moved = admin.patch(f"/api/agents/{agent.agent_id}", json={"organization": OTHER})
        else:
            moved = admin.put("/api/policies/groups/web", json={**group, "organization": OTHER})
        assert moved.status_code == 200
        assert listed(new) == [ADDRESS]
        assert listed(former) == ([ATTACKER] if scope == "host" else [ATTACKER, ATTACKER])
        assert former.delete(f"/api/blocks/{block['id']}").status_code == 404
        assert former.delete(f"/api/blocks?value={ADDRESS}").json()["data"]["blocks"] == []
        assert new.delete(f"/api/blocks?value={ADDRESS}").json()["data"]["blocks"] == [block["id"]]
        assert (listed(new), admin.get("/api/blocks?value=" + ADDRESS).json()["data"]) == ([], [])


def test_the_new_organization_sees_all_threats_that_a_moved_host_has_reported(
    served: Served, admin: httpx2.Client
) -> None:
    """The former one sees none of them, in lists, with filters and by id; the incident stays with the former one."""
    with served.bench() as bench:
        agent, other = trusted(bench, "a", "b", organization_id=OWN)
        attack(bench, agent, other)
    (threat,) = admin.get(f"/api/threats?agentId={agent.agent_id}").json()["data"]
    queries = ("", f"?agentId={agent.agent_id}", f"?type={threat['type']}", f"?severity={threat['severity']}")

    def seen(holder: httpx2.Client) -> list[bool]:
        lists = [holder.get(f"/api/threats{query}") for query in queries]
        found = [agent.agent_id in {each["agentId"] for each in one.json().get("data") or ()} for one in lists]
        return [*found, holder.get(f"/api/threats/{threat['id']}?agentId={agent.agent_id}").status_code == 200]

    with client(served, admin, OWN) as former, client(served, admin, OTHER) as new:
        assert (set(seen(former)), set(seen(new))) == ({True}, {False})
        assert admin.patch(f"/api/agents/{agent.agent_id}", json={"organization": OTHER}).status_code == 200
        assert (set(seen(former)), set(seen(new))) == ({False}, {True})
        assert len(former.get("/api/incidents").json()["data"]) > 0
        assert new.get("/api/incidents").json()["data"] == []
