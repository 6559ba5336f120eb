"""Threats, tokens, dead letters, the overview and health: the documented request and answer of each."""

from typing import Any

import httpx2
import pytest

from schemas import topics
from schemas.keys import EnrollmentToken
from schemas.threats import ResponseTaken
from tests.integration.api.served import Served
from tests.support.attacks import ATTACKER, attack, trusted


def test_a_threat_has_the_reports_fields_and_the_managers(served: Served, admin: httpx2.Client) -> None:
    """A threat is the report as it was sent, with hostname, event time and time of receipt."""
    agent = served.enroll("srv-01")
    with served.bench() as bench:
        bench.receive(topics.THREATS, agent.agent_id, agent.threat(bench.wall, "t-1", sourceIp="198.51.100.7"))
    (threat,) = admin.get("/api/threats").json()["data"]
    assert (threat["id"], threat["agentId"], threat["hostname"]) == ("t-1", agent.agent_id, "srv-01")
    assert threat["threat"]["evidence"] == {"sourceIp": "198.51.100.7"}
    assert (threat["threat"]["type"], threat["threat"]["technique"], threat["response"]) == (
        "brute_force",
        "T1110",
        "block_ip",
    )
    assert threat["receivedAt"] == threat["eventTime"] == "2027-01-15T08:00:00.000Z"
    assert "mac" not in threat


def test_threats_are_filtered_and_paged_newest_first(served: Served, admin: httpx2.Client) -> None:
    """Each filter leaves what meets it; pages follow one another without gap or overlap."""
    first = served.enroll("a", organization_id="acme")
    second = served.enroll("b")
    with served.bench() as bench:
        for number in range(3):
            bench.receive(topics.THREATS, first.agent_id, first.threat(bench.wall, f"a-{number}"))
            bench.pass_time(60)
        bench.receive(topics.THREATS, second.agent_id, second.threat(bench.wall, "b-0"))

    def ids(query: str) -> list[str]:
        return [threat["id"] for threat in admin.get(f"/api/threats?{query}").json()["data"]]

    assert ids("") == ["b-0", "a-2", "a-1", "a-0"]
    assert ids("org_id=acme") == ["a-2", "a-1", "a-0"]
    assert ids(f"agentId={second.agent_id}") == ["b-0"]
    assert ids("since=2027-01-15T08:02:00Z") == ["b-0", "a-2"]
    assert ids("severity=medium&type=brute_force&limit=1") == ["b-0"]
    assert ids("severity=critical") == ids("type=other") == []
    page = admin.get("/api/threats?limit=3").json()
    assert ids(f"limit=3&cursor={page['nextCursor']}") == ["a-0"]


@pytest.mark.parametrize("value", [b"1e999", b"9" * 400, b'"\\ud800"', b"-1e999"])
def test_evidence_that_json_cannot_carry_spoils_no_list(served: Served, admin: httpx2.Client, value: bytes) -> None:
    """For any content of a report, the list is valid JSON and has the later reports too."""
    agent = served.enroll("srv-01")
    with served.bench() as bench:
        body = agent.threat(bench.wall, "t-1", x="MARK").partition(b',"mac":')[0] + b"}"
        bench.receive(topics.THREATS, agent.agent_id, agent.coded(topics.THREATS, body.replace(b'"MARK"', value)))
        bench.receive(topics.THREATS, agent.agent_id, agent.threat(bench.wall, "t-2"))
    answer = admin.get("/api/threats")
    assert (answer.status_code, answer.json()["data"][0]["id"]) == (200, "t-2")
    assert all("x" not in evidence or evidence["x"] is None for evidence in _evidence(answer))


def _evidence(answer: httpx2.Response) -> list[dict[str, object]]:
    return [threat["threat"]["evidence"] for threat in answer.json()["data"]]


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=201", "limit=x", "severity=awful", "since=yesterday", "since=1800000000", "cursor=!"]
)
def test_a_wrong_parameter_is_400_and_named(admin: httpx2.Client, query: str) -> None:
    """The sentence names the parameter; 422 is never answered."""
    answer = admin.get(f"/api/threats?{query}")
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(query.partition("=")[0])


def test_a_token_is_shown_once_and_enrolls(served: Served, admin: httpx2.Client) -> None:
    """The answer to POST holds the text; a guard that has it registers under the token's terms."""
    terms = {"organizationId": "acme", "site": "berlin", "tags": ["web"], "maxUses": 1}
    made = admin.post("/api/tokens", json=terms)
    assert made.status_code == 201
    text = made.json()["data"]["token"]
    token = EnrollmentToken.parse(text)
    (kept,) = admin.get("/api/tokens").json()["data"]
    assert text not in str(kept)
    assert (kept["tokenId"], kept["uses"], kept["maxUses"]) == (token.token_id, 0, 1)
    with served.bench() as bench:
        agent = bench.enroll("srv-01", token)
    assert admin.get(f"/api/agents/{agent.agent_id}").json()["data"]["organizationId"] == "acme"
    assert admin.get("/api/tokens").json()["data"][0]["uses"] == 1


def test_a_revoked_token_says_when(admin: httpx2.Client) -> None:
    """DELETE revokes; the token stays in the list with the time of it; one that is not there is 404."""
    token_id = admin.post("/api/tokens", json={}).json()["data"]["tokenId"]
    assert admin.delete(f"/api/tokens/{token_id}").json()["data"] == {"tokenId": token_id, "revoked": True}
    assert admin.get("/api/tokens").json()["data"][0]["revokedAt"] == "2027-01-15T08:00:00.000Z"
    assert admin.delete("/api/tokens/tok-nobodys").status_code == 404


@pytest.mark.parametrize(
    "terms", [{"maxUses": 0}, {"expiresAt": "2020-01-01T00:00:00Z"}, {"tags": ["a b"]}, {"organizationId": "a/b"}]
)
def test_a_token_with_senseless_terms_is_not_made(admin: httpx2.Client, terms: dict[str, object]) -> None:
    """400 names the member, and no token is made."""
    answer = admin.post("/api/tokens", json=terms)
    assert answer.status_code == 400
    assert next(iter(terms)) in answer.json()["error"]
    assert admin.get("/api/tokens").json()["data"] == []


def test_tokens_are_paged(admin: httpx2.Client) -> None:
    """Tokens of one moment are still met once each."""
    made = {admin.post("/api/tokens", json={}).json()["data"]["tokenId"] for _ in range(3)}
    page = admin.get("/api/tokens?limit=2").json()
    rest = admin.get(f"/api/tokens?limit=2&cursor={page['nextCursor']}").json()
    assert {token["tokenId"] for token in page["data"] + rest["data"]} == made
    assert rest["nextCursor"] is None


def test_dead_letters_show_reason_and_first_bytes(served: Served, admin: httpx2.Client) -> None:
    """A message that changed nothing is listed as text, whatever its bytes were."""
    agent = served.enroll("srv-01")
    with served.bench() as bench:
        bench.receive(topics.HEARTBEAT, agent.agent_id, b"\xff\x00{]")
    (letter,) = admin.get("/api/dead-letters").json()["data"]
    assert (letter["topic"], letter["size"]) == (f"agents/{agent.agent_id}/heartbeat", 4)
    assert letter["payload"] == "\\xff\x00{]"
    assert letter["reason"]


def test_the_overview_counts_the_fleet_and_shows_the_unwell_first(served: Served, admin: httpx2.Client) -> None:
    """States, today's threats by severity, the policy's revision, and the stale agent before the others."""
    agents = {name: served.enroll(name) for name in ("a", "b", "c")}
    with served.bench() as bench:
        for agent in (agents["a"], agents["c"]):
            bench.receive(topics.HEARTBEAT, agent.agent_id, agent.heartbeat(bench.wall + 60))
        bench.elapsed += 60
        bench.receive(topics.THREATS, agents["a"].agent_id, agents["a"].threat(bench.wall, sourceIp="198.51.100.7"))
        bench.receive(topics.PRESENCE, agents["b"].agent_id, agents["b"].presence("lost", bench.wall))
        bench.pass_time(10)
    overview = admin.get("/api/overview").json()["data"]
    assert [overview[key] for key in ("totalAgents", "onlineAgents", "staleAgents", "offlineAgents")] == [3, 2, 1, 0]
    assert overview["agents"][0]["hostname"] == "b"
    assert overview["agents"][0]["reason"] == "connection_lost"
    summary = overview["threatSummary"]
    assert summary["last24h"] == {"total": 1, "critical": 0, "high": 0, "medium": 1, "low": 0} == summary["last7d"]
    assert (summary["totalThreats"], summary["uniqueAttackers"], summary["affectedAgents"]) == (1, 1, 1)
    assert (overview["activePolicyVersion"], overview["uptimeMs"]) == (1, 70_000)
    assert overview["topThreats"] == [{"type": "brute_force", "count": 1}]
    assert overview["agentsByOs"] == {"Debian 12": 3}


def test_health_needs_no_token_and_counts_agents(served: Served) -> None:
    """Anybody learns that the manager runs and how many agents it has, and nothing else."""
    served.enroll("srv-01")
    with served.client(token=None) as anybody:
        health = anybody.get("/health").json()["data"]
        assert (health["status"], health["running"], health["version"]) == ("healthy", True, "1.2.3")
        assert (health["agents"], health["agentCounts"]["online"]) == (1, 1)
        for path in ("/health", "/health/live", "/health/ready"):
            head = anybody.head(path)
            assert (head.status_code, head.content) == (200, b""), path
        assert anybody.get("/health/live").status_code == 200


def test_readiness_says_why_not(served: Served) -> None:
    """Ready is 200; not ready is 503 with the reason, while the process is alive all the same."""
    with served.client(token=None) as anybody:
        assert anybody.get("/health/ready").status_code == 200
        served.not_ready = "the broker is not connected"
        answer = anybody.get("/health/ready")
        assert (answer.status_code, answer.json()["error"]) == (503, "the broker is not connected")
        assert anybody.get("/health").json()["data"]["status"] == "degraded"
        assert anybody.get("/health/live").status_code == 200


def test_the_overview_says_why_the_manager_is_not_ready(served: Served, admin: httpx2.Client) -> None:
    """The overview says in the same answer that reports do not arrive; null while they do."""
    assert admin.get("/api/overview").json()["data"]["notReady"] is None
    served.not_ready = "the broker is not connected"
    assert admin.get("/api/overview").json()["data"]["notReady"] == "the broker is not connected"


def test_the_counts_of_mqtt_agents_are_their_threats(served: Served, admin: httpx2.Client) -> None:
    """Their heartbeats have no counts: each stored threat counts once, and each action that was carried out."""
    agent = served.enroll("srv-01")
    responses: list[Any] = [
        "block_ip", "notify", None, ResponseTaken(action="block_ip", outcome="taken"),
        ResponseTaken(action="block_ip", outcome="would have been taken: mode is learning"),
    ]  # fmt: skip
    with served.bench() as bench:
        for response in responses:
            agent.response = response
            payload = agent.threat(bench.wall)
            for _ in range(2):  # the second one is a repetition
                bench.receive(topics.THREATS, agent.agent_id, payload)
        bench.pass_time(10)
    record = admin.get(f"/api/agents/{agent.agent_id}").json()["data"]
    assert (record["threatsDetected"], record["threatCount"], record["actionsExecuted"]) == (5, 5, 2)


def test_the_counts_that_an_http_agent_states_are_its_own(served: Served) -> None:
    """A heartbeat that states them decides; without them its stored threats count."""
    agent = served.join("srv-02")
    with agent.client:
        for _ in range(2):
            agent.events({"threat": {"type": "scan", "confidence": 9}, "response": "block_ip"})
        assert agent.heartbeat().json()["data"]["threatCount"] == 2
        agent.heartbeat(threatCount=7)
        agent.events({"threat": {"type": "scan", "confidence": 9}})
        assert agent.heartbeat().json()["data"]["threatsDetected"] == 7


def test_an_admin_sees_the_organizations_entries_of_every_agent(served: Served, admin: httpx2.Client) -> None:
    """Over both doors, each emergency entry with its scope; an MQTT agent's version and digest stay its policy's."""
    over_http = served.join("srv-01")
    with served.bench() as bench:
        attack(bench, *trusted(bench, "a", "b", "c"))
        mqtt_agent = bench.fleet.registry.find_by_hostname("default", "a")
        assert mqtt_agent is not None
        effective = bench.fleet.policies.effective[mqtt_agent.agent_id]
        sequence = bench.fleet.blocklists.sequences["default"]
    for agent_id in (over_http.agent_id, mqtt_agent.agent_id):
        policy = admin.get(f"/api/policy/agent/{agent_id}").json()["data"]
        shown = [(entry["value"], entry["scope"]) for entry in policy["blocklist"]["ips"] if isinstance(entry, dict)]
        assert (ATTACKER, "organization") in shown, policy["blocklist"]
        assert len({value for value, _ in shown}) == len(shown)
        assert policy["blocklistSequence"] == sequence
    policy = admin.get(f"/api/policy/agent/{mqtt_agent.agent_id}").json()["data"]
    assert (policy["version"], policy["digest"]) == (effective.version, effective.resolved.digest)
    with over_http.client as own:
        document = own.get(f"/api/policy/agent/{over_http.agent_id}").json()["data"]
        assert "scope" not in document["blocklist"]["ips"][0]


def test_a_threat_has_the_shapes_of_earlier_clients(served: Served, admin: httpx2.Client) -> None:
    """Flat members, `originalThreat` as {event, verdict}, and the other agents' threats that it is correlated with."""
    first, second = served.join("srv-01"), served.join("srv-02")
    event = {
        "id": "evt-1", "timestamp": "2027-01-15T08:00:00Z", "source": "network", "severity": "high",
        "category": "T1110", "description": "many failed logins", "raw": {"a": 1}, "host": "srv",
        "metadata": {"sourceIP": ATTACKER},
    }  # fmt: skip
    verdict = {"conclusion": "malicious", "confidence": 92, "action": "block_ip"}
    with first.client, second.client:
        answer = first.events({"event": event, "verdict": verdict}).json()["data"]["threats"][0]
        assert (answer["receivedAt"], answer["sourceHostname"]) == ("2027-01-15T08:00:00.000Z", "srv-01")
        second.events({"threats": [{"id": "t-2", "threat": {"type": "scan", "confidence": 9,
                                                            "evidence": {"sourceIp": ATTACKER}}}]})  # fmt: skip
        second.events({"id": "t-3", "threat": {"type": "scan", "confidence": 9}})
    by_id = {threat["id"]: threat for threat in admin.get("/api/threats").json()["data"]}
    threat = by_id["evt-1"]
    assert (threat["sourceAgentId"], threat["sourceHostname"]) == (first.agent_id, "srv-01")
    assert (threat["type"], threat["severity"], threat["confidence"]) == ("T1110", "high", 92)
    assert threat["details"]["sourceIp"] == ATTACKER
    assert {name: threat["originalThreat"]["event"][name] for name in event if name != "metadata"} == {
        name: value for name, value in event.items() if name != "metadata"
    }
    assert threat["originalThreat"]["verdict"] == verdict
    assert [by_id[each]["correlatedWith"] for each in ("evt-1", "t-2", "t-3")] == [["t-2"], ["evt-1"], []]
    (recent,) = admin.get(f"/api/agents/{first.agent_id}").json()["data"]["recentThreats"]
    assert recent == threat


def test_private_addresses_correlate_within_a_site(served: Served, admin: httpx2.Client) -> None:
    """10.0.0.9 of another site or organization is another host; so is what came more than five minutes apart."""
    agents = {
        "a": served.enroll("a", site="berlin"), "b": served.enroll("b", site="berlin"), "c": served.enroll("c"),
        "d": served.enroll("d", organization_id="acme", site="berlin"),
    }  # fmt: skip
    with served.bench() as bench:
        for name, agent in agents.items():
            bench.receive(topics.THREATS, agent.agent_id, agent.threat(bench.wall, name, sourceIp="10.0.0.9"))
        bench.elapsed += 301
        again = agents["b"]
        bench.receive(topics.THREATS, again.agent_id, again.threat(bench.wall, "later", sourceIp="10.0.0.9"))
    found = {threat["id"]: threat["correlatedWith"] for threat in admin.get("/api/threats").json()["data"]}
    assert found == {"a": ["b"], "b": ["a"], "c": [], "d": [], "later": []}
