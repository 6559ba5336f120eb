"""Requests of HTTP agents: the documented request and answer of each row."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from manager.api.middleware.client_address import ClientAddresses
from manager.domain.agents.registry import Takeover
from manager.engine.settings import EngineSettings
from schemas import topics
from schemas.policy import digest_of
from tests.integration.api.served import HOST, LOOPBACK, HttpAgent, Served
from tests.support.attacks import attack, trusted

pytestmark = pytest.mark.usefixtures("each_system")

PAGE = {
    "threat": {"type": "brute_force", "confidence": 90, "evidence": {"sourceIp": "198.51.100.7"}},
    "response": "block_ip",
    "timestamp": "2027-01-15T07:59:00Z",
}


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with Served(tmp_path, client_addresses=LOOPBACK, rate_limit=0) as running:
        yield running


@pytest.fixture
def agent(served: Served) -> Iterator[HttpAgent]:
    agent = served.join()
    with agent.client:
        yield agent


def test_a_registration_is_answered_with_the_record_twice_named(served: Served, admin: httpx2.Client) -> None:
    """201 with the documented fields, and agentId and token at the top level; the list shows the same record."""
    with served.client(token=None) as anybody:
        body = {**HOST, "hostname": "srv-01", "org_id": "acme", "tags": ["web"], "site": "berlin", "ip": "10.0.0.7"}
        answer = anybody.post("/api/agents/register", json=body)
    told = answer.json()
    data = told["data"]
    assert (answer.status_code, told["ok"]) == (201, True)
    assert told["agentId"] == data["agentId"] == data["id"]
    assert told["token"] == data.pop("token")
    assert (data["status"], data["organizationId"], data["site"], data["tags"]) == ("online", "acme", None, [])
    assert (data["reportedSite"], data["reportedTags"]) == ("berlin", ["web"])
    assert data["platform"] == {"os": "Debian 12", "arch": "x64", "ip": "10.0.0.7"}
    assert data["addresses"] == ["10.0.0.7", "127.0.0.1"]
    assert data["lastHeartbeat"] is None
    (listed,) = admin.get("/api/agents").json()["data"]
    assert listed == data


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "Missing required fields: hostname, os, arch, version"),
        ({"hostname": "a", "arch": "", "os": "x", "version": None}, "Missing required fields: arch, version"),
        ({**HOST, "hostname": "a b"}, "hostname: "),
        ({**HOST, "hostname": "a", "tags": ["x y"]}, "tags.0: "),
        ([], "Input should be an object"),
    ],
)
def test_a_registration_that_lacks_something_names_it(served: Served, body: Any, words: str) -> None:
    """400 with the documented words."""
    with served.client(token=None) as anybody:
        answer = anybody.post("/api/agents/register", json=body)
    assert (answer.status_code, answer.json()["ok"]) == (400, False)
    assert answer.json()["error"].startswith(words)


def test_the_same_host_again_is_a_reconnection(served: Served, admin: httpx2.Client) -> None:
    """The agentId stays, the credential is a new one, and the old one opens nothing any more."""
    first, second = served.join(), served.join(version="2.0")
    with first.client, second.client:
        assert second.agent_id == first.agent_id
        assert first.heartbeat().status_code == 401
        assert second.heartbeat().json()["data"]["version"] == "2.0"
    assert len(admin.get("/api/agents").json()["data"]) == 1


def test_one_host_name_in_two_organizations_is_two_agents(served: Served) -> None:
    """Hostname and organization together name an agent."""
    assert served.join(organizationId="a").agent_id != served.join(organizationId="b").agent_id


def _from(address: str) -> dict[str, str]:
    return {"X-Forwarded-For": address}


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Served]:
    """A manager as beyond loopback: 10.0.0.0/8 is trusted, and clients are told apart by a proxy's word."""
    addresses = ClientAddresses(trusted=["10.0.0.0/8"], proxies=["127.0.0.1"])
    with Served(tmp_path, client_addresses=addresses) as served:
        with served.bench() as bench:
            bench.fleet.settings = EngineSettings(takeover=Takeover.WHEN_OFFLINE)
        yield served


def test_a_restarted_guard_without_its_token_is_taken_back(fleet: Served) -> None:
    """On a trusted network, from the address it came from: a reconnection at once, while it still counts as online."""
    body = {**HOST, "hostname": "srv-01"}
    with fleet.client(token=None) as guard:
        first = guard.post("/api/agents/register", json=body, headers=_from("10.0.0.7"))
        again = guard.post("/api/agents/register", json=body, headers=_from("10.0.0.7"))
        other = guard.post("/api/agents/register", json=body, headers=_from("10.0.0.8"))
    assert (first.status_code, again.status_code) == (201, 201), again.text
    assert again.json()["agentId"] == first.json()["agentId"]
    assert again.json()["token"] != first.json()["token"]
    assert other.status_code == 409


def test_the_same_address_outside_of_trusted_networks_proves_nothing(fleet: Served) -> None:
    """With an enrollment token a second instance of an online host is refused, whatever its address."""
    with fleet.bench() as bench:
        token = str(bench.token())
    body = {**HOST, "hostname": "srv-01"}
    with fleet.client(token) as guard:
        statuses = [
            guard.post("/api/agents/register", json=body, headers=_from("203.0.113.7")).status_code for _ in range(2)
        ]
    assert statuses == [201, 409]


def test_a_living_instance_is_replaced_only_by_proof(fleet: Served) -> None:
    """Beyond loopback: 409 for a stranger, 201 for the agent itself with its token, and for the admin."""
    served, body = fleet, {**HOST, "hostname": "srv-01"}
    with served.client(token=None) as first:
        told = first.post("/api/agents/register", json=body, headers=_from("10.0.0.7")).json()
    agent = HttpAgent(told["agentId"], served.client(told["token"]), told)
    with served.client(token=None) as stranger, agent.client as own:
        answer = stranger.post("/api/agents/register", json=body, headers=_from("10.0.0.8"))
        assert answer.status_code == 409
        assert "online" in answer.json()["error"]
        again = own.post("/api/agents/register", json=body)
        assert (again.status_code, again.json()["token"]) == (201, agent.told["token"])
        assert own.post("/api/agents/register", json={**body, "hostname": "srv-02"}).status_code == 409
    assert served.join().agent_id == agent.agent_id


def test_who_may_register(tmp_path: Path) -> None:
    """Without a trusted network it takes a token: an enrollment's or the admin's; a wrong one learns nothing."""
    with Served(tmp_path) as served:
        with served.bench() as bench:
            good, spent = bench.token(site="berlin", tags=("web",)), bench.token(max_uses=1)
        assert served.join("a", str(good)).told["data"]["site"] == "berlin"
        assert served.join("b", str(spent)).told["data"]["tokenId"] == spent.token_id
        assert served.join("b", str(spent)).agent_id
        refusals = {}
        damaged = str(good).replace(good.token_id, "tok-0000000000000000")
        for name, token in (("none", None), ("wrong", "wrong"), ("damaged", damaged), ("spent", str(spent))):
            with served.client(token) as client:
                answer = client.post("/api/agents/register", json={**HOST, "hostname": "c"})
                refusals[name] = (answer.status_code, answer.json()["error"])
        assert refusals["none"] == refusals["wrong"] == refusals["damaged"] == (401, "Unauthorized")
        assert refusals["spent"] == (403, "the enrollment token's uses are used up; ask for a new one")


def test_a_heartbeat_is_answered_with_the_record(served: Served, admin: httpx2.Client, agent: HttpAgent) -> None:
    """Every documented field is taken, under each of its names, and the answer says what the record says later."""
    answer = agent.heartbeat(
        cpuUsage=12.5, memUsage=40, eventsProcessed=7, threatCount=2, actionsExecuted=1, mode="learning", uptime=60.5,
        version="1.5.0", timestamp="2027-01-15T08:00:00Z",
    )  # fmt: skip
    data = answer.json()["data"]
    assert (answer.status_code, data.pop("pendingPolicies"), data.pop("pendingPolicyCount")) == (200, [], 0)
    assert (data["cpu"], data["memory"], data["eventsProcessed"], data["uptime"]) == (12.5, 40, 7, 60.5)
    assert (data["threatsDetected"], data["actionsExecuted"], data["mode"]) == (2, 1, "learning")
    assert (data["version"], data["lastHeartbeat"]) == ("1.5.0", "2027-01-15T08:00:00.000Z")
    with served.bench() as bench:
        bench.pass_time(10)
    kept = admin.get(f"/api/agents/{agent.agent_id}").json()["data"]
    assert {name: kept[name] for name in data} == data


@pytest.mark.parametrize("body", [b"", b"{}", b'{"unknown": 1, "cpu": null}', b'{"cpu":1,"cpu":2}'])
def test_an_empty_heartbeat_is_one(agent: HttpAgent, body: bytes) -> None:
    """Nothing must be in it, and what nobody knows is ignored."""
    headers = {"Content-Type": "application/json"}
    answer = agent.client.post(f"/api/agents/{agent.agent_id}/heartbeat", content=body, headers=headers)
    assert answer.status_code == 200


@pytest.mark.parametrize("body", [b"[]", b"{", b'"x"', b'{"cpu":NaN}'])
def test_a_heartbeat_that_is_no_json_object_is_400(served: Served, agent: HttpAgent, body: bytes) -> None:
    """It is no sign of life."""
    with served.bench() as bench:
        before = bench.fleet.registry.agents[agent.agent_id].heard_monotonic
        bench.elapsed += 10
    headers = {"Content-Type": "application/json"}
    answer = agent.client.post(f"/api/agents/{agent.agent_id}/heartbeat", content=body, headers=headers)
    assert answer.status_code == 400
    with served.bench() as bench:
        assert bench.fleet.registry.agents[agent.agent_id].heard_monotonic == before


@pytest.mark.parametrize(
    ("body", "dropped"),
    [
        ({"memUsage": 2048}, ["memUsage"]),
        ({"cpu": 101, "memory": "40"}, ["cpu", "memory"]),
        ({"uptime": -1}, ["uptime"]),
        (
            {"version": ["x"], "policyDigest": "short", "timestamp": "yesterday"},
            ["policyDigest", "timestamp", "version"],
        ),
    ],
)
def test_a_bad_value_does_not_refuse_a_heartbeat(
    served: Served, agent: HttpAgent, body: dict[str, Any], dropped: list[str]
) -> None:
    """The agent is heard, the good values are recorded, and `warnings` names each dropped one."""
    with served.bench() as bench:
        for _ in range(12):
            bench.pass_time(10)
        assert bench.fleet.registry.agents[agent.agent_id].state == "stale"
    answer = agent.heartbeat(eventsProcessed=7, **body)
    assert answer.status_code == 200, answer.text
    assert [warning.partition(":")[0] for warning in answer.json()["warnings"]] == dropped
    data = answer.json()["data"]
    assert (data["status"], data["eventsProcessed"], data["memory"], data["cpu"]) == ("online", 7, None, None)
    with served.bench() as bench:
        assert bench.fleet.counters["heartbeat_values_dropped"] == len(dropped)


@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        ({"uptime": 61_500, "memoryUsageMB": 58.25}, 61.5),
        ({"uptime": 61.5, "memoryUsageMB": 58.25}, 61.5),
        ({"uptime": 61_500}, 61_500),
        ({"uptime": 20_000_000_000}, 20_000_000),
    ],
)
def test_the_shipped_clients_uptime_is_in_milliseconds(agent: HttpAgent, body: dict[str, Any], seconds: float) -> None:
    """Only the shipped client sends `memoryUsageMB`, and its uptime is a whole number of milliseconds."""
    answer = agent.heartbeat(**body).json()
    assert (answer["data"]["uptime"], "warnings" in answer) == (seconds, False)


def test_an_unknown_agent_is_404_for_the_admin_and_403_for_others(admin: httpx2.Client, agent: HttpAgent) -> None:
    """Whether another agent exists is told to nobody but the admin."""
    for path, body in (("heartbeat", {}), ("events", PAGE)):
        unknown = f"/api/agents/ag-0000000000000000/{path}"
        assert admin.post(unknown, json=body).status_code == 404
        assert admin.post(f"/api/agents/nobody/{path}", json=body).status_code == 404
        assert agent.client.post(unknown, json=body).status_code == 403


def test_silence_makes_an_agent_stale_and_any_word_ends_it(served: Served, agent: HttpAgent) -> None:
    """90 seconds without a word; then a heartbeat, a poll or a report each make it online without registering."""
    for word in (agent.heartbeat, agent.poll, lambda: agent.events(PAGE)):
        with served.bench() as bench:
            for _ in range(12):
                bench.pass_time(10)
            assert bench.fleet.registry.agents[agent.agent_id].state == "stale"
        assert word().status_code < 300
        with served.bench() as bench:
            assert bench.fleet.registry.agents[agent.agent_id].state == "online"


def test_a_stopped_agent_is_offline_and_comes_back_as_itself(served: Served, agent: HttpAgent) -> None:
    """DELETE keeps the record; the next heartbeat with the same token resumes it."""
    done = agent.client.delete(f"/api/agents/{agent.agent_id}")
    assert done.json()["data"]["removed"] is True
    with served.bench() as bench:
        assert bench.fleet.registry.agents[agent.agent_id].state == "offline"
    assert agent.heartbeat().json()["data"]["status"] == "online"


def test_a_removed_agents_token_opens_nothing_at_once(admin: httpx2.Client, agent: HttpAgent) -> None:
    """After the forced removal heartbeat, events and poll are 401."""
    assert admin.delete(f"/api/agents/{agent.agent_id}", params={"purge": "true"}).status_code == 200
    assert [agent.heartbeat().status_code, agent.events(PAGE).status_code, agent.poll().status_code] == [401] * 3


def test_both_doors_meet_in_one_incident(served: Served, agent: HttpAgent) -> None:
    """One address reported by MQTT and by HTTP is one incident, told to those who watch."""
    other = served.enroll("srv-02")
    heard: list[Any] = []
    with served.bench() as bench:
        bench.engine.listeners.append(heard.append)
        bench.receive(topics.THREATS, other.agent_id, other.threat(bench.wall, sourceIp="198.51.100.7"))
    assert agent.events(PAGE).status_code == 201
    with served.bench() as bench:
        bench.pass_time(5)
    incidents = [row.event.data for row in heard if row.event.event == "incident_opened"]
    assert [(incident["value"], incident["agents"]) for incident in incidents] == [("198.51.100.7", 2)]
    assert "threats_reported" in {row.event.event for row in heard}


def test_an_urgent_change_comes_with_the_next_heartbeat(admin: httpx2.Client, agent: HttpAgent) -> None:
    """A block is in pendingPolicies until the agent says that it has the version, by heartbeat or poll."""
    assert agent.heartbeat().json()["data"]["pendingPolicies"] == []
    rules = [{"type": "block_ip", "value": "198.51.100.7", "duration": "1h", "reason": "seen"}]
    created = admin.post("/api/policy", json={"rules": rules, "name": "first"})
    assert created.status_code == 201, created.text
    (pending,) = agent.heartbeat(policyVersion=1).json()["data"]["pendingPolicies"]
    assert (pending["version"], pending["agentId"]) == (2, agent.agent_id)
    assert [entry["value"] for entry in pending["blocklist"]["ips"]] == ["198.51.100.7"]
    assert len(agent.heartbeat(policyVersion=1).json()["data"]["pendingPolicies"]) == 1
    done = agent.heartbeat(policyVersion=2).json()["data"]
    assert (done["pendingPolicies"], done["policyVersion"], done["policyCurrent"]) == ([], 2, True)


def test_an_agent_that_names_no_version_is_told_once(admin: httpx2.Client, agent: HttpAgent) -> None:
    """Earlier clients say nothing of policies: what an answer carried is not sent again."""
    admin.put("/api/policies/global", json={"blocklist": {"ips": ["198.51.100.7"]}})
    assert [len(agent.heartbeat().json()["data"]["pendingPolicies"]) for _ in range(2)] == [1, 0]


def test_what_an_agent_polls_for_is_its_own_word(served: Served, admin: httpx2.Client, agent: HttpAgent) -> None:
    """The version in a poll is what is in force: 200 with the newest, then 304, then the record says so."""
    admin.put("/api/policies/global", json={"thresholds": {"autoRespond": 70}})
    assert agent.poll(version=1).json()["data"]["version"] == 2
    assert agent.poll(version=2).status_code == 304
    with served.bench() as bench:
        bench.pass_time(10)
    record = admin.get(f"/api/agents/{agent.agent_id}").json()["data"]
    assert (record["policyVersion"], record["policyCurrent"], record["policyState"]) == (2, True, "applied")


def test_older_guards_pull_their_rules(admin: httpx2.Client, agent: HttpAgent) -> None:
    """`rules` stands at the top level, for the agent and for the admin."""
    rule = "title: one\nlogsource: {product: linux}\ndetection:\n  a: {x: 1}\n  condition: a\n"
    assert agent.client.get("/api/rules/latest").json()["rules"] == []
    assert admin.put("/api/policies/global", json={"detection": {"sigma": [rule]}}).status_code == 200
    assert agent.client.get("/api/rules/latest").json()["rules"] == [rule]
    assert admin.get("/api/rules/latest").json()["rules"] == [rule]


def test_what_is_acknowledged_outlives_a_crash(served: Served, agent: HttpAgent) -> None:
    """Agents, their tokens and their threats are there after the core ended as by SIGKILL."""
    ids = agent.events({"threats": [PAGE, PAGE]}).json()["data"]["eventIds"]
    with served.bench() as bench:
        bench.crash()
        stored = {row[0] for row in bench.rows("SELECT threat_id FROM threat")}
        known = bench.fleet.registry.agents[agent.agent_id]
    assert stored == set(ids)
    assert known.door == "http"


def test_an_organizations_blocks_reach_its_http_agents(served: Served, agent: HttpAgent) -> None:
    """The polled document includes the organization's blocklist, under the higher of the two numbers."""
    assert agent.poll().json()["data"]["version"] == 1
    with served.bench() as bench:
        others = trusted(bench, "a", "b", "c")
        attack(bench, *others)
        sequence = bench.fleet.blocklists.sequences["default"]
    (pending,) = agent.heartbeat(policyVersion=1).json()["data"]["pendingPolicies"]
    assert pending["version"] == sequence
    assert pending["blocklist"]["ips"][0]["incidentId"].startswith("inc-")
    assert pending["blocklist"] == agent.poll(version=1).json()["data"]["blocklist"]
    assert agent.poll(version=sequence).status_code == 304
    done = agent.heartbeat(policyVersion=sequence).json()["data"]
    assert (done["pendingPolicies"], done["policyCurrent"], done["blocklistSequence"]) == ([], True, sequence)
    assert agent.heartbeat().json()["data"]["pendingPolicies"] == []


def test_the_never_list_is_in_the_allowlist_of_the_polled_policy(served: Served, agent: HttpAgent) -> None:
    """The fleet's own addresses beat every blocklist over HTTP, too, under a version and a digest that fit."""
    assert agent.poll().json()["data"]["allowlist"]["ips"] == []
    with served.bench() as bench:
        bench.enroll("a", bench.token(), addresses=["203.0.113.1"], gateways=["203.0.113.254"])
        bench.pass_time(62)
        sequence = bench.fleet.blocklists.sequences["default"]
    policy = agent.poll(version=1).json()["data"]
    assert {"203.0.113.1", "203.0.113.254"} <= set(policy["allowlist"]["ips"])
    assert (policy["version"], policy["digest"]) == (sequence, digest_of(policy))
    assert agent.poll(version=sequence).status_code == 304
