"""`/api/agents`: what is asked and answered, and who may ask."""

import httpx2
import pytest

from schemas import topics
from tests.integration.api.served import Served
from tests.support.attacks import trusted

pytestmark = pytest.mark.usefixtures("each_system")


def test_an_agent_record_has_the_fields_of_both_generations(served: Served, admin: httpx2.Client) -> None:
    """A record names the agent twice, its platform twice, and says when it registered."""
    with served.bench() as bench:
        agent = bench.enroll("srv-01", bench.token(tags=("web",), site="berlin"), organization_id="acme")
    answer = admin.get("/api/agents").json()
    assert answer["ok"] is True
    (record,) = answer["data"]
    assert record["agentId"] == record["id"] == agent.agent_id
    assert (record["hostname"], record["organizationId"], record["site"]) == ("srv-01", "acme", "berlin")
    assert record["platform"] == {"os": record["os"], "arch": record["arch"], "ip": record["ip"]}
    assert (record["status"], record["tags"]) == ("online", ["web"])
    assert record["registeredAt"] == "2027-01-15T08:00:00.000Z"
    assert answer["nextCursor"] is None


def test_a_heartbeat_shows_in_the_record_once_it_is_written(served: Served, admin: httpx2.Client) -> None:
    """The record shows the values of the newest heartbeat."""
    agent = served.enroll("srv-01")
    with served.bench() as bench:
        bench.receive(topics.HEARTBEAT, agent.agent_id, agent.heartbeat(bench.wall, cpu=12.5, memory=40.0))
        bench.pass_time(10)
    record = admin.get(f"/api/agents/{agent.agent_id}").json()["data"]
    assert (record["cpu"], record["memory"], record["mode"]) == (12.5, 40.0, "protection")
    assert record["lastHeartbeat"] == "2027-01-15T08:00:00.000Z"


def test_the_list_is_filtered_by_state_organization_name_and_every_tag(served: Served, admin: httpx2.Client) -> None:
    """A filter leaves exactly the agents that meet it; several tags must all be carried."""
    for hostname, organization_id, tags in (
        ("a", "acme", ["web", "eu"]), ("b", "acme", ["web"]), ("c", "other", ["WEB", "webserver"]),
    ):  # fmt: skip
        agent = served.enroll(hostname, organization_id=organization_id)
        admin.patch(f"/api/agents/{agent.agent_id}", json={"tags": tags})

    def names(query: str) -> list[str]:
        return [record["hostname"] for record in admin.get(f"/api/agents?{query}").json()["data"]]

    assert names("org_id=acme") == ["a", "b"]
    assert names("tag=web") == ["a", "b"]
    assert names("tag=web&tag=eu") == ["a"]
    assert names("hostname=c") == ["c"]
    assert names("status=online") == ["a", "b", "c"]
    assert names("status=stale") == []


def test_pages_together_are_the_whole_list(served: Served, admin: httpx2.Client) -> None:
    """Following nextCursor meets every agent once, in the order of registration."""
    for name in "abcde":
        served.enroll(name)
    met: list[str] = []
    cursor: str | None = None
    while True:
        page = admin.get("/api/agents", params={"limit": 2, **({"cursor": cursor} if cursor else {})}).json()
        met += [record["hostname"] for record in page["data"]]
        cursor = page["nextCursor"]
        if cursor is None:
            break
    assert met == list("abcde")


def test_one_agent_comes_with_its_newest_threats(served: Served, admin: httpx2.Client) -> None:
    """GET of one agent has its vitals, its recent threats and the policy version that it should have."""
    agent = served.enroll("srv-01")
    with served.bench() as bench:
        for number in range(12):
            bench.put(topics.THREATS, agent.agent_id, agent.threat(bench.wall, f"t-{number}", sourceIp="198.51.100.7"))
        bench.engine.step(bench.now)
    record = admin.get(f"/api/agents/{agent.agent_id}").json()["data"]
    assert [threat["id"] for threat in record["recentThreats"]] == [f"t-{number}" for number in range(11, 1, -1)]
    assert {"cpu", "memory", "uptime"} <= record.keys()
    assert record["activePolicyVersion"] == 1


def test_an_unknown_agent_is_404_by_name(admin: httpx2.Client) -> None:
    """The sentence names the agent that was asked for."""
    answer = admin.get("/api/agents/ag-0000000000000000")
    assert answer.status_code == 404
    assert answer.json() == {"ok": False, "error": "Agent ag-0000000000000000 not found"}


def test_deregistration_keeps_the_record(served: Served, admin: httpx2.Client) -> None:
    """DELETE with the agent's own token: offline, and still in the registry."""
    agent = served.enroll("srv-01")
    with served.client(agent.keys.http_token) as own:
        answer = own.delete(f"/api/agents/{agent.agent_id}")
    assert answer.status_code == 200
    assert answer.json()["data"]["agentId"] == agent.agent_id
    assert answer.json()["data"]["removed"] is True
    assert admin.get(f"/api/agents/{agent.agent_id}").json()["data"]["status"] == "offline"


def test_forced_removal_is_the_admins_and_for_good(served: Served, admin: httpx2.Client) -> None:
    """An agent cannot purge itself; purged by the admin it is gone, and its token opens nothing at once."""
    agent = served.enroll("srv-01")
    path = f"/api/agents/{agent.agent_id}"
    with served.client(agent.keys.http_token) as own:
        assert own.delete(path, params={"purge": "true"}).status_code == 403
        assert own.get(path).status_code == 200
        assert admin.delete(path, params={"purge": "true"}).status_code == 200
        assert own.get(path).status_code == 401
    assert admin.get(path).status_code == 404
    assert admin.get("/api/agents").json()["data"] == []


def test_an_agents_token_opens_its_own_paths_only(served: Served) -> None:
    """Another agent's path, one that does not exist and every admin path are closed alike."""
    first, second = served.enroll("a"), served.enroll("b")
    with served.client(first.keys.http_token) as own:
        assert own.get(f"/api/agents/{first.agent_id}").status_code == 200
        for closed in (
            f"/api/agents/{second.agent_id}",
            "/api/agents/ag-0000000000000000",
            f"/api/policy/agent/{second.agent_id}",
            "/api/agents",
            "/api/overview",
            "/api/threats",
            "/api/tokens",
            "/api/dead-letters",
            "/api/policies/global",
            "/api/policies/history",
        ):
            answer = own.get(closed)
            assert (answer.status_code, answer.json()["ok"]) == (403, False), closed


def test_no_answer_holds_a_secret(served: Served, admin: httpx2.Client) -> None:
    """Neither an agent's keys nor what verifies a token stands in any list."""
    agent = served.enroll("srv-01")
    text = "".join(
        admin.get(path).text
        for path in (
            "/api/agents",
            f"/api/agents/{agent.agent_id}",
            "/api/overview",
            "/api/tokens",
            "/api/dead-letters",
        )
    )
    hidden = [agent.keys.http_token, agent.keys.mqtt_password, str(agent.token).split(".")[2], agent.secret.hex()]
    assert [secret for secret in hidden if secret in text] == []
    assert "digest" not in {key.lower() for key in admin.get("/api/tokens").json()["data"][0]}


def test_brief_records_are_parts_of_the_whole_ones(served: Served, admin: httpx2.Client) -> None:
    """A list that is shorter to read says nothing else, page by page."""
    with served.bench() as bench:
        for agent in trusted(bench, "web-1", "web-2", "web-3", organization_id="acme", site="berlin", tags=["web"]):
            bench.receive(topics.HEARTBEAT, agent.agent_id, agent.heartbeat(bench.wall, health="ok"))
        bench.enroll("silent")
        bench.pass_time(10)
    whole = admin.get("/api/agents").json()["data"]
    first = admin.get("/api/agents?brief=true&limit=3").json()
    brief = first["data"] + admin.get(f"/api/agents?brief=true&cursor={first['nextCursor']}").json()["data"]
    assert len(brief) == 4
    assert [{name: full[name] for name in short} for full, short in zip(whole, brief, strict=True)] == brief
    assert len(str(brief)) < len(str(whole)) / 4


def test_vitals_over_time_have_a_row_for_each_period(served: Served, admin: httpx2.Client) -> None:
    """Each quarter of an hour with heartbeats has a row; an unknown agent is 404."""
    agent = served.enroll("web-9")
    with served.bench() as bench:
        bench.receive(topics.HEARTBEAT, agent.agent_id, agent.heartbeat(bench.wall, cpu=25.0, memory=50.0))
        bench.pass_time(12)
    answer = admin.get(f"/api/agents/{agent.agent_id}/vitals").json()["data"]
    assert (answer["agentId"], answer["periodSeconds"]) == (agent.agent_id, 900)
    (period,) = answer["periods"]
    assert (period["heartbeats"], period["cpu"], period["cpuHighest"], period["memory"]) == (1, 25.0, 25.0, 50.0)
    assert admin.get("/api/agents/ag-ffffffffffffffff/vitals").status_code == 404
