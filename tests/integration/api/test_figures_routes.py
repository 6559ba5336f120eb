"""Summaries, metrics and the policies of earlier admin tools: the documented request and answer of each."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from manager.runtime.metrics import EngineCollector, Histograms
from schemas import topics
from tests.integration.api.served import LOOPBACK, HttpAgent, Served


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with Served(tmp_path, client_addresses=LOOPBACK, rate_limit=0) as running:
        yield running


def _report(served: Served, agent: HttpAgent, number: int, **threat: Any) -> None:
    body = {"type": "brute_force", "confidence": 90, "severity": "high", **threat}
    assert agent.events({"threats": [{"threat": body}] * number}).status_code == 200
    assert served


def test_a_summary_counts_within_its_period(served: Served, admin: httpx2.Client) -> None:
    """Each period has what happened in it, by severity, type, agent and source, for all or for one organization."""
    first, second = served.join("a", organizationId="acme"), served.join("b")
    with first.client, second.client:
        _report(served, first, 3, evidence={"sourceIp": "198.51.100.7"})
        with served.bench() as bench:
            bench.elapsed += 3 * 3600
        _report(served, second, 2, type="scan", severity="low", evidence={"sourceIp": "198.51.100.8"})
    totals = {
        period: admin.get("/api/threats/summary", params={"period": period}).json()["data"]["total"]
        for period in ("1h", "6h", "24h", "7d", "30d")
    }
    assert totals == {"1h": 2, "6h": 5, "24h": 5, "7d": 5, "30d": 5}
    for period in ("6h", "24h", "7d"):
        data = admin.get("/api/threats/summary", params={"period": period}).json()["data"]
        assert data["bySeverity"] == {"critical": 0, "high": 3, "medium": 0, "low": 2}
        assert data["byType"] == {"brute_force": 3, "scan": 2}
        assert data["topAgents"][0] == {"agentId": first.agent_id, "hostname": "a", "count": 3}
        assert data["topSourceIps"] == [
            {"sourceIp": "198.51.100.7", "ip": "198.51.100.7", "count": 3},
            {"sourceIp": "198.51.100.8", "ip": "198.51.100.8", "count": 2},
        ]
        assert (data["uniqueAttackers"], data["affectedAgents"]) == (2, 2)
        assert (data["totalThreats"], data["highCount"], data["suspiciousCount"]) == (5, 3, 2)
        own = admin.get("/api/threats/summary", params={"period": period, "org_id": "acme"}).json()["data"]
        assert (own["total"], own["uniqueAttackers"], own["affectedAgents"]) == (3, 1, 1)
    hour = admin.get("/api/threats/summary", params={"period": "1h"}).json()["data"]
    assert (hour["uniqueAttackers"], hour["affectedAgents"], hour["byType"]) == (1, 1, {"scan": 2})
    assert admin.get("/api/threats/summary", params={"period": "2h"}).status_code == 400


def test_a_weeks_summary_outlives_the_threats(served: Served, admin: httpx2.Client) -> None:
    """Threats are pruned after a day; their counts are not, and a crash changes neither."""
    agent = served.join()
    with agent.client:
        _report(served, agent, 4, evidence={"sourceIp": "198.51.100.7"})
        with served.bench() as bench:
            bench.elapsed += 3 * 86_400
            for _ in range(6):
                bench.elapsed += 3600
                bench.pass_time(61)
            bench.crash()
            assert bench.rows("SELECT count(*) FROM threat") == [(0,)]
    overview = admin.get("/api/overview").json()["data"]["threatSummary"]
    assert (overview["last24h"]["total"], overview["last7d"]["total"], overview["last7d"]["high"]) == (0, 4, 4)
    assert (overview["uniqueAttackers"], overview["affectedAgents"]) == (0, 0)
    week = admin.get("/api/threats/summary", params={"period": "7d"}).json()["data"]
    assert (week["total"], week["uniqueAttackers"], week["topSourceIps"][0]["count"]) == (4, 1, 4)


def test_a_repeated_report_is_counted_once(served: Served, admin: httpx2.Client) -> None:
    """A duplicate of a stored report changes no count."""
    agent = served.join()
    body = {"threats": [{"id": "x", "threat": {"type": "scan", "confidence": 1}}]}
    with agent.client:
        for _ in range(3):
            assert agent.events(body).status_code == 200
    assert admin.get("/api/threats/summary").json()["data"]["total"] == 1


@pytest.mark.parametrize(
    ("rule", "section"),
    [
        ({"type": "block_ip", "config": {"ip": "198.51.100.7"}, "enabled": True}, "blocklist"),
        ({"type": "block_ip", "value": "198.51.100.7", "duration": "24h", "reason": "seen"}, "blocklist"),
        ({"ruleId": "r-1", "type": "alert_threshold", "condition": {"minimumSeverity": "high"}, "action": "notify",
          "severity": "high", "description": "d"}, "alerting"),
        ({"type": "auto_respond", "config": {"threshold": 70}, "enabled": True}, "thresholds"),
        ({"type": "custom", "config": {"anything": [1]}}, "rules"),
    ],
)  # fmt: skip
def test_each_shape_of_a_rule_becomes_policy(
    served: Served, admin: httpx2.Client, rule: dict[str, Any], section: str
) -> None:
    """201 with the documented answer; the agent's effective policy shows what the rule does."""
    agent = served.join()
    before = agent.poll().json()["data"]
    answer = admin.post("/api/policy", json={"rules": [rule], "name": "mine", "description": "why"})
    data = answer.json()["data"]
    assert answer.status_code == 201, answer.text
    assert data["id"] == data["policyId"] == f"pol-{data['version']}"
    assert (data["name"], data["version"], data["broadcastedTo"]) == ("mine", 2, 1)
    assert (data["rules"], data["appliedTo"]) == ([rule], [agent.agent_id])
    assert data["createdAt"] == data["updatedAt"] == "2027-01-15T08:00:00.000Z"
    after = agent.poll().json()["data"]
    assert after[section] != before[section]
    active = admin.get("/api/policy/active").json()["data"]
    assert (active["id"], active["name"], active["description"], active["version"]) == (data["id"], "mine", "why", 2)
    agent.client.close()


def test_a_policy_of_an_organization_or_agent_leaves_the_others_alone(served: Served, admin: httpx2.Client) -> None:
    """org_id and agentId name whom it is for; both at once are refused; other sections stay."""
    first, second = served.join("a", organizationId="acme"), served.join("b")
    admin.put("/api/policies/organizations/acme", json={"thresholds": {"autoRespond": 61}})
    rules = [{"type": "custom", "config": {}}]
    assert admin.post("/api/policy", json={"rules": rules, "org_id": "acme"}).json()["data"]["appliedTo"] == [
        first.agent_id
    ]
    policy = first.poll().json()["data"]
    assert (policy["thresholds"]["autoRespond"], len(policy["rules"])) == (61, 1)
    assert second.poll().json()["data"]["rules"] == []
    alone = {"rules": rules, "agentId": second.agent_id, "broadcast": False}
    assert admin.post("/api/policy", json=alone).json()["data"]["broadcastedTo"] == 0
    assert len(second.poll().json()["data"]["rules"]) == 1
    assert admin.post("/api/policy", json={**alone, "org_id": "acme"}).status_code == 400
    assert admin.post("/api/policy", json={**alone, "agentId": "ag-0000000000000000"}).status_code == 404
    assert admin.get("/api/policy/active").json()["data"] is None
    for agent in (first, second):
        agent.client.close()


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, "rules"),
        ({"rules": [{"type": "unheard_of"}]}, "rules.0.type"),
        ({"rules": [{"type": "custom"}, {"type": "block_ip", "value": "nowhere"}]}, "rules.1.value"),
        ({"rules": [{"type": "block_ip", "value": "198.51.100.7", "duration": "soon"}]}, "rules.0.duration"),
    ],
)
def test_a_wrong_rule_is_named(admin: httpx2.Client, body: Any, named: str) -> None:
    """400, and nothing is set."""
    answer = admin.post("/api/policy", json=body)
    assert (answer.status_code, answer.json()["error"].partition(":")[0]) == (400, named)
    assert admin.get("/api/policies/history").json()["data"] == []


def test_metrics_are_what_prometheus_reads(tmp_path: Path) -> None:
    """Every documented figure is there, under routes and not paths, and counts what happened."""
    options: dict[str, Any] = {"client_addresses": LOOPBACK, "rate_limit": 0}
    with Served(tmp_path, **options) as served, served.client() as admin, served.client(None) as anybody:
        _register_metrics(served)
        agent = served.join()
        with agent.client:
            _report(served, agent, 3)
            agent.heartbeat()
            anybody.get("/nobody/knows/this")
        assert anybody.get("/metrics").status_code == 401
        answer = admin.get("/metrics")
        found = {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(answer.text)
            for sample in family.samples
        }
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert found["panguard_threats_stored_total", ()] == 3
    assert found["panguard_agents", (("state", "online"),)] == 1
    heartbeats = (("method", "POST"), ("route", "/api/agents/{agent_id}/heartbeat"), ("status", "200"))
    assert found["panguard_http_request_seconds_count", heartbeats] == 1
    assert found["panguard_http_request_seconds_count", (("method", "GET"), ("route", "unmatched"), ("status", "404"))]
    names = {name for name, _ in found}
    assert {
        "panguard_batch_messages_bucket", "panguard_commit_seconds_count", "panguard_report_lag_seconds_sum",
        "panguard_dead_letters_total", "panguard_incidents_opened_total", "panguard_policy_publish_seconds_count",
        "panguard_policy_apply_seconds_count", "panguard_inbox_messages", "panguard_event_stream_readers",
    } <= names  # fmt: skip
    assert topics.ROOT not in answer.text


def _register_metrics(served: Served) -> None:
    registry = served.services.registry
    with served.bench() as bench:
        registry.register(EngineCollector(bench.engine, Histograms(registry)))


def test_the_example_dashboard_shows_figures_that_exist(tmp_path: Path) -> None:
    """Every figure that examples/grafana.json asks for is one that /metrics has."""
    with Served(tmp_path) as served, served.client() as admin:
        _register_metrics(served)
        admin.get("/metrics")
        text = admin.get("/metrics").text
    dashboard = (Path(__file__).parents[3] / "examples" / "grafana.json").read_text()
    asked = set(re.findall(r"panguard_[a-z_]+", dashboard))
    told = set(re.findall(r"panguard_[a-z_]+", text))
    assert len(asked) > 10
    assert asked <= told
