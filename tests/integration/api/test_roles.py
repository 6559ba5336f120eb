"""Roles: each role of an access token on each route and each command."""

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from manager.domain.access import Role
from tests.integration.api.served import Served

PUBLIC = {
    "GET /health", "GET /health/live", "GET /health/ready",
    "GET /api/session", "POST /api/session", "DELETE /api/session",
}  # fmt: skip
RESPONDS = {
    "POST /api/incidents/{incident_id}/undo",
    "POST /api/incidents/{incident_id}/approve",
    "POST /api/incidents/{incident_id}/acknowledge",
    "POST /api/incidents/{incident_id}/note",
    "POST /api/incidents/{incident_id}/close",
    "DELETE /api/blocks/{entry_id}",
    "POST /api/blocks",
    "POST /api/blocks/import",
    "DELETE /api/blocks",
    "POST /api/allowlist",
    "DELETE /api/allowlist",
    "POST /api/threats/{threat_id}/recognize",
    "DELETE /api/threats/{threat_id}/recognize",
    "POST /api/notifications/acknowledge",
    "POST /api/notifications/mute",
    "DELETE /api/notifications/mutes/{mute_id}",
}
BY_COOKIE = {"GET /api/session", "DELETE /api/session"}
"""Ask for the console's cookie, which no bearer token replaces."""

READS_BY_POST = {"POST /api/policies/diff", "POST /api/events/ticket"}
AGENTS_ALONE = {"POST /api/agents/{agent_id}/heartbeat", "POST /api/agents/{agent_id}/events"}
"""Open to admins of the whole fleet too, in words of their own."""

RANK = {Role.VIEWER: 0, Role.RESPONDER: 1, Role.ADMIN: 2}
_IDS = {
    "agent_id": "ag-0000000000000000", "organization_id": "default", "incident_id": "inc-1", "entry_id": "blk-1",
    "threat_id": "t-1", "token_id": "tok-1", "name": "nobody", "mute_id": "mute-9",
}  # fmt: skip


def needed(route: str) -> Role | None:
    """Return the least role of a route, by the rules in words; None where no token is needed."""
    method, _, path = route.partition(" ")
    if route in PUBLIC:
        return None
    if path == "/metrics":
        return Role.METRICS
    if path.startswith("/api/feeds/"):
        return Role.FEED
    if method == "GET" or route in READS_BY_POST:
        return Role.VIEWER
    return Role.RESPONDER if route in RESPONDS else Role.ADMIN


def is_open(route: str, role: Role) -> bool:
    """Return whether a token of all organizations opens a route."""
    least = needed(route)
    if least is None or least is role:
        return True
    if role not in RANK:
        return False
    return least not in RANK or RANK[role] >= RANK[least]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("manager"), rate_limit=0) as running:
        yield running


@pytest.fixture(scope="module")
def described(served: Served) -> dict[str, dict[str, Any]]:
    """Each operation of the API's document, by method and path."""
    with served.client() as admin:
        paths = admin.get("/openapi.json").json()["paths"]
    return {f"{method.upper()} {path}": about for path, each in paths.items() for method, about in each.items()}


def _token(served: Served, role: Role, *organizations: str) -> str:
    name = "-".join(("test", role, *organizations))
    with served.client() as admin:
        admin.delete(f"/api/access/{name}")
        made = admin.post("/api/access", json={"name": name, "role": role, "organizations": organizations})
    assert made.status_code == 201, made.text
    return str(made.json()["data"]["token"])


def _status(client: httpx2.Client, route: str) -> int:
    """Ask with a body that no route takes: a role is checked before it."""
    method, _, path = route.partition(" ")
    body: dict[str, Any] = {"json": [None]} if method in {"POST", "PUT", "PATCH"} else {}
    with client.stream(method, path.format_map(_IDS), **body) as answer:
        return answer.status_code


def test_the_document_names_the_role_of_each_route(described: dict[str, dict[str, Any]]) -> None:
    """As the rules have it: whoever reads is a viewer, incidents, blocks and the allowlist are for responders."""
    assert len(described) > 50
    assert {route: about["x-role"] for route, about in described.items()} == {
        route: needed(route) or "none" for route in described
    }


@pytest.mark.parametrize("role", Role)
def test_each_role_opens_its_routes_and_no_others(
    served: Served, described: dict[str, dict[str, Any]], role: Role
) -> None:
    """Any other route is 403, in words that name the role that it needs."""
    with served.client(_token(served, role)) as holder:
        found = {route: _status(holder, route) for route in described}
    assert {route for route, status in found.items() if status == 401} == BY_COOKIE
    opened = {route for route, status in found.items() if status != 403}
    assert opened == {route for route in described if is_open(route, role)}


@pytest.mark.parametrize("role", [Role.VIEWER, Role.RESPONDER, Role.ADMIN])
def test_a_token_of_one_organization_opens_no_route_of_the_whole_fleet(
    served: Served, described: dict[str, dict[str, Any]], role: Role
) -> None:
    """Whatever its role; `x-scope` tells which routes these are."""
    fleet = [route for route, about in described.items() if about.get("x-scope") == "fleet"]
    assert fleet
    with served.client(_token(served, role, "acme")) as holder:
        assert {route: status for route in fleet if (status := _status(holder, route)) != 403} == {}
