"""Rate limits and CORS."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from manager.domain.budget import Budget
from tests.integration.api.served import HOST, LOOPBACK, Served


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with Served(tmp_path, client_addresses=LOOPBACK, cors_origins=["https://dashboard.example"]) as running:
        yield running


def _statuses(client: httpx2.Client, path: str, number: int) -> list[int]:
    return [client.get(path).status_code for _ in range(number)]


def test_a_caller_without_a_credential_is_limited_to_60_a_minute(served: Served) -> None:
    """The 61st request is 429 with the three headers, whatever its path; health is answered all the same."""
    with served.client("wrong") as wrong, served.client(None) as anybody:
        assert _statuses(wrong, "/api/agents", 30) == [401] * 30
        assert _statuses(anybody, "/api/agents", 30) == [401] * 30
        answer = anybody.get("/api/nothing")
        assert (answer.status_code, answer.json()["ok"]) == (429, False)
        assert 0 < int(answer.headers["Retry-After"]) <= 60
        assert (answer.headers["X-RateLimit-Limit"], answer.headers["X-RateLimit-Remaining"]) == ("60", "0")
        assert anybody.get("/health").status_code == 200


def test_each_agent_has_its_own_limit(served: Served) -> None:
    """One agent that asks too often is refused; its neighbour behind the same address is not."""
    loud, quiet = served.join("loud"), served.join("quiet")
    with loud.client, quiet.client:
        statuses = [loud.heartbeat().status_code for _ in range(61)]
        assert (set(statuses[:60]), statuses[60]) == ({200}, 429)
        assert loud.heartbeat().headers["X-RateLimit-Remaining"] == "0"
        assert quiet.heartbeat().status_code == 200


def _report(number: int) -> dict[str, Any]:
    return {"id": f"t-{number}", "threat": {"type": "scan", "confidence": 50}}


def test_a_burst_of_reports_is_taken_and_keeps_no_heartbeat_out(served: Served) -> None:
    """200 reports at once pass, as over MQTT; heartbeats, polls and everything else have budgets of their own."""
    agent = served.join("loud")
    with agent.client as client:
        assert {agent.events(_report(number)).status_code for number in range(200)} == {201}
        assert {agent.heartbeat().status_code for _ in range(30)} == {200}
        assert {agent.poll(version=1).status_code for _ in range(30)} == {304}
        assert agent.heartbeat().status_code == agent.poll().status_code == 429
        own = f"/api/agents/{agent.agent_id}"
        assert set(_statuses(client, own, 60)) == {200}
        assert client.get(own).status_code == 429
        assert agent.events(_report(200)).status_code == 201


def test_an_agent_beyond_its_report_budget_waits(tmp_path: Path) -> None:
    """429 with Retry-After once the burst is used up; a request of many reports counts as many, a bad one as one."""
    budget = Budget(messages=0.01, bytes=1e6, burst=2000)
    with Served(tmp_path, client_addresses=LOOPBACK, report_budget=budget) as served:
        agent, other = served.join("loud"), served.join("quiet")
        with agent.client, other.client:
            assert agent.events({"threats": [None]}).status_code == 400
            many = {"threats": [_report(number) for number in range(19)]}
            assert agent.events(many).status_code == 200
            refused = agent.events(_report(19))
            assert refused.status_code == 429
            assert refused.headers["X-RateLimit-Remaining"] == "0"
            assert 0 < int(refused.headers["Retry-After"]) <= 100
            assert "20 in one burst" in refused.json()["error"]
            assert other.events(_report(0)).status_code == 201
            assert agent.heartbeat().status_code == 200


def test_paths_that_are_no_route_cost_the_report_budget_too(tmp_path: Path) -> None:
    """An agent cannot ask without end on a path that only looks like the route of its reports."""
    budget = Budget(messages=0.01, bytes=1e6, burst=300)
    with Served(tmp_path, client_addresses=LOOPBACK, report_budget=budget) as served:
        agent = served.join()
        with agent.client as client:
            assert _statuses(client, f"/api/agents/{agent.agent_id}/events", 4) == [405, 405, 405, 429]


def test_the_admin_is_not_limited(admin: httpx2.Client) -> None:
    """Neither by its token nor by its address."""
    assert set(_statuses(admin, "/api/agents/ag-0000000000000000", 100)) == {404}


def test_a_whole_fleet_behind_one_address_is_let_in(served: Served) -> None:
    """Registrations and heartbeats of many agents from one address: none is refused, with a token or without."""
    with served.bench() as bench:
        token = bench.token()
    with served.client(None) as anybody, served.client(str(token)) as enrolling:
        for number in range(80):
            client = anybody if number % 2 else enrolling
            answer = client.post("/api/agents/register", json={**HOST, "hostname": f"srv-{number}"})
            assert answer.status_code == 201, answer.text
            told = answer.json()
            own = {"Authorization": f"Bearer {told['token']}"}
            path = f"/api/agents/{told['agentId']}/heartbeat"
            assert anybody.post(path, json={}, headers=own).status_code == 200


def test_a_hundred_agents_behind_one_address_are_all_heard(served: Served) -> None:
    """A heartbeat each 30 s is two in a minute from each of them: two hundred from one address, and none is refused."""
    with served.bench() as bench:
        token = bench.token()
        agents = [bench.enroll(f"srv-{number}", token) for number in range(100)]
    refused = {}
    with served.client(None) as one_address:
        for number in range(200):
            agent = agents[number % 100]
            own = {"Authorization": f"Bearer {agent.keys.http_token}"}
            answer = one_address.post(f"/api/agents/{agent.agent_id}/heartbeat", json={}, headers=own)
            if answer.status_code != 200:
                refused[number] = answer.status_code
    assert refused == {}


def test_a_page_of_a_named_origin_may_read(served: Served) -> None:
    """Preflight is 204 with what is allowed; answers, and refusals too, name the origin."""
    origin = {"Origin": "https://dashboard.example"}
    ask = {**origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    with served.client(None) as page:
        preflight = page.options("/api/policy", headers=ask)
        assert (preflight.status_code, preflight.content) == (204, b"")
        assert preflight.headers["Access-Control-Allow-Origin"] == "https://dashboard.example"
        assert "POST" in preflight.headers["Access-Control-Allow-Methods"]
        assert "Authorization" in preflight.headers["Access-Control-Allow-Headers"]
        for path in ("/health", "/api/agents"):
            answer = page.get(path, headers=origin)
            assert answer.headers["Access-Control-Allow-Origin"] == "https://dashboard.example"
            assert answer.headers["Vary"] == "Origin"


def test_no_other_page_may_read(served: Served) -> None:
    """The answer to another origin, or to none, names none."""
    with served.client(None) as page:
        evil = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
        for answer in (page.get("/health", headers=evil), page.options("/health", headers=evil), page.get("/health")):
            assert "Access-Control-Allow-Origin" not in answer.headers
