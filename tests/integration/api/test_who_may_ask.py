"""Authorization of every documented route: without a token, with an unknown one, as an agent, as a removed agent."""

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from manager.api.errors import UNAUTHORIZED_HINT
from tests.integration.api.documented import REPORT
from tests.integration.api.served import HttpAgent, Served

OPEN = {"GET /health", "GET /health/live", "GET /health/ready"}
"""For everybody."""

OWN = {
    "POST /api/agents/{agent_id}/heartbeat",
    "POST /api/agents/{agent_id}/events",
    "GET /api/agents/{agent_id}",
    "GET /api/agents/{agent_id}/vitals",
    "DELETE /api/agents/{agent_id}",
    "GET /api/policy/agent/{agent_id}",
}
"""For the admin, and the agent that the path names."""

ANY_AGENT = {"POST /api/agents/register", "GET /api/rules/latest"}
"""For the admin and every agent: what they answer is the asking agent's own."""

SIGN_IN = "POST /api/session"
"""For everybody: the token is in the body."""

OF_COOKIE = {"GET /api/session", "DELETE /api/session"}
"""For the console's session alone: any other request is 401."""

_OTHERS = {
    "organization_id": "default",
    "incident_id": "inc-0000000000000000",
    "entry_id": "blk-1",
    "threat_id": "t-1",
    "token_id": "tok-1",
    "name": "nobody",
    "mute_id": "mute-9",
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("manager"), rate_limit=0) as running:
        yield running


@pytest.fixture(scope="module")
def routes(served: Served) -> list[str]:
    with served.client() as admin:
        paths = admin.get("/openapi.json").json()["paths"]
    return [f"{method.upper()} {path}" for path, operations in paths.items() for method in operations]


@pytest.fixture(scope="module")
def agent(served: Served) -> Iterator[HttpAgent]:
    agent = served.join("asking")
    with agent.client:
        yield agent


@pytest.fixture(scope="module")
def other(served: Served) -> str:
    """The id of an agent that does not ask."""
    agent = served.join("asked-for")
    agent.client.close()
    return agent.agent_id


def _ask(client: httpx2.Client, route: str, agent_id: str) -> httpx2.Response:
    """Ask with a body that no route takes: who may not ask is told so before."""
    method, _, path = route.partition(" ")
    url = path.format(agent_id=agent_id, **_OTHERS)
    body: dict[str, Any] = {"json": [None]} if method in {"POST", "PUT"} else {}
    return client.request(method, url, **body)


def _not(status: int, client: httpx2.Client, routes: list[str], agent_id: str) -> dict[str, tuple[int, str]]:
    """Return the routes that answer otherwise, and how."""
    answers = {route: _ask(client, route, agent_id) for route in routes}
    return {route: (told.status_code, told.text) for route, told in answers.items() if told.status_code != status}


@pytest.mark.parametrize("token", [None, "wrong", "pg1.tok-0000000000000000.AAAA.BBBB", "x" * 5000])
def test_nobody_is_told_anything_but_that(served: Served, routes: list[str], other: str, token: str | None) -> None:
    """Without a token, and with one that is nobody's: every route but health is 401 in the same words."""
    closed = [route for route in routes if route not in {*OPEN, SIGN_IN}]
    assert len(closed) > 40
    with served.client(token) as anybody:
        assert _not(401, anybody, closed, other) == {}
        (told,) = {_ask(anybody, route, other).text for route in closed}
        assert json.loads(told) == {"ok": False, "error": "Unauthorized", "hint": UNAUTHORIZED_HINT}
        assert _not(200, anybody, sorted(OPEN), other) == {}


def test_an_agent_opens_its_own_paths_alone(routes: list[str], agent: HttpAgent, other: str) -> None:
    """Every admin path, every path of another agent and of one that does not exist is 403 in the same words."""
    closed = [route for route in routes if route not in {*OPEN, *ANY_AGENT, *OF_COOKIE, SIGN_IN}]
    assert set(closed) >= OWN
    for agent_id in (other, "ag-0000000000000000"):
        assert _not(403, agent.client, closed, agent_id) == {}
    assert _not(403, agent.client, [route for route in closed if route not in OWN], agent.agent_id) == {}
    said = {_ask(agent.client, route, other).text for route in closed}
    assert said == {'{"ok":false,"error":"this token does not open this path"}'}


def test_an_agents_own_paths_are_open_to_it(agent: HttpAgent) -> None:
    """So the refusals above say something: the same requests for itself pass."""
    found = {route: _ask(agent.client, route, agent.agent_id).status_code for route in sorted(OWN)}
    assert set(found.values()) == {200, 400}
    assert {route for route, status in found.items() if status == 400} == {route for route in OWN if "POST" in route}


def test_only_the_admin_is_told_that_there_is_no_such_agent(served: Served) -> None:
    """404, by its id: of one that never was, and of one that was removed; deregistered ones are still there."""
    gone, stopped = served.join("gone"), served.join("stopped")
    bodies: dict[str, Any] = {"heartbeat": {}, "events": REPORT}
    with gone.client, stopped.client, served.client() as admin:
        admin.delete(f"/api/agents/{gone.agent_id}", params={"purge": "true"})
        assert stopped.client.delete(f"/api/agents/{stopped.agent_id}").status_code == 200
        for route in sorted(OWN):
            method, _, path = route.partition(" ")
            told = {
                agent_id: admin.request(method, path.format(agent_id=agent_id), json=bodies.get(path.split("/")[-1]))
                for agent_id in (gone.agent_id, "ag-0000000000000000", stopped.agent_id)
            }
            assert told.pop(stopped.agent_id).status_code in {200, 201}, route
            for agent_id, answer in told.items():
                assert (answer.status_code, answer.json()["error"]) == (404, f"Agent {agent_id} not found"), route


def test_a_removed_agents_token_is_refused_at_once(served: Served, routes: list[str]) -> None:
    """On every route, its own too, from the answer to its removal on."""
    agent = served.join("leaving")
    with agent.client, served.client() as admin:
        assert agent.heartbeat().status_code == 200
        assert admin.delete(f"/api/agents/{agent.agent_id}", params={"purge": "true"}).status_code == 200
        closed = [route for route in routes if route not in {*OPEN, SIGN_IN}]
        assert _not(401, agent.client, closed, agent.agent_id) == {}
