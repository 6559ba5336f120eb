"""The contract's table of routes, held against the door: every row of it is asked, and every route is a row."""

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import httpx2
import pytest

from manager.domain.notifications.message import Change, Message
from manager.engine.notifications import ChannelCursor, Delivery, NotificationRow, RecordNotifications
from manager.notifications.stored_message import dump_message
from schemas import topics
from schemas.threats import Severity
from tests.integration.api.documented import DOCUMENT, GROUP, HEADERS, REPORT, ROWS, Row, filled
from tests.integration.api.served import LOOPBACK, HttpAgent, Served
from tests.support.attacks import attack, trusted

BY_COOKIE = {"GET /api/session", "DELETE /api/session"}
"""Routes of the console's cookie: tests/integration/api/test_console_sessions.py asks them."""

_FOUND = {
    "entry_id": "/api/blocks",
    "incident_id": "/api/incidents?response=applied&kind=source_ip",
    "waiting_id": "/api/incidents?response=pending_approval",
    "mute_id": "/api/notifications/mutes",
}
"""Ids that fill the placeholders of a row."""


class Channel:
    """One notification channel that delivers every test at once."""

    def records(self) -> list[dict[str, Any]]:
        state = {"name": "ops", "state": "ok", "destination": "mailtos://…", "sent": 1, "notTold": 0, "judgement": True}
        return [state | {"pausedUntil": None, "failingSince": None, "reason": None}]

    def pause(self, channel: str, until: float | None) -> None:
        assert channel == "ops"
        assert until is None or until > 0

    def test_result(self, channel: str, test_id: str) -> tuple[bool, str | None]:
        assert channel == "ops"
        assert test_id
        return True, None


_BEFORE: dict[str, tuple[str, dict[str, Any]]] = {
    "/api/policy/active": ("/api/policy", {"rules": []}),
    "/api/keys/rollback": ("/api/keys/rotate", {}),
}
"""The request that some paths need to be made before theirs, and its body."""


class Fleet:
    """A manager that has one of everything that a row may ask for."""

    def __init__(self, served: Served, admin: httpx2.Client) -> None:
        self.served = served
        self.admin = admin
        self._joined = 0
        for _ in range(2):
            admin.put("/api/policies/global", json=DOCUMENT)
            admin.delete("/api/policies/global")
        with served.bench() as bench:
            liars = trusted(bench, "liar-1", "liar-2")
            for number in range(11):
                attack(bench, *liars, sourceIp=f"203.0.113.{number + 1}")
            bench.receive(topics.HEARTBEAT, liars[0].agent_id, b"no heartbeat")
            message = Message("waits-12.1", "waits-12", Change.OPENED, Severity.HIGH, ())
            row = NotificationRow(
                "ops", message.id, message.group, Delivery.SENT, 1, bench.wall, bench.wall, bench.wall, None,
                dump_message(message),
            )  # fmt: skip
            bench.submit(RecordNotifications(ChannelCursor("ops", 0), (row,)))
            bench.engine.step(bench.now)

    def join(self) -> HttpAgent:
        self._joined += 1
        agent = self.served.join(f"srv-{self._joined}")
        self.admin.patch(f"/api/agents/{agent.agent_id}", json={"tags": ["web", "eu"]})
        return agent

    def prepare(self, row: Row, agent: HttpAgent) -> dict[str, str]:
        """Make what a row asks for; return what fills its braces. What it takes away is there for no other row."""
        method, _, path = row.operation.partition(" ")
        known = {"agent_id": agent.agent_id, "organization_id": "acme", "group": "web"}
        if path.startswith("/api/policies/groups") and method != "PUT":
            self.admin.put("/api/policies/groups/web", json=GROUP)
        elif path.startswith("/api/policies"):
            self._prepare_documents(path.format_map(known), method)
        elif path in _BEFORE:
            self.admin.post(_BEFORE[path][0], json=_BEFORE[path][1])
        elif path in {"/api/blocks", "/api/feeds/blocklist"} and method == "GET":
            self.admin.post("/api/blocks", json={"value": "198.51.100.90"})
        elif path == "/api/allowlist" and method != "POST":
            self.admin.post("/api/allowlist", json={"value": "192.0.2.1"})
        elif path.startswith("/api/notifications/mutes"):
            self.admin.post("/api/notifications/mute", json={"seconds": 60, "site": "graz"})
        elif path.startswith("/api/threats"):
            told = agent.events(REPORT)
            assert told.status_code == 201
            known["threat_id"] = told.json()["data"]["eventIds"][0]
        elif path.startswith(("/api/tokens", "/api/access")):
            known["token_id"] = self.admin.post("/api/tokens", json={}).json()["data"]["tokenId"]
            known["name"] = f"holder-{self._joined}"
            self.admin.post("/api/access", json={"name": known["name"], "role": "viewer"})
        elif row.status == 304:
            known["version"] = str(agent.poll().json()["data"]["version"])
        return known | {name: self._first(there) for name, there in _FOUND.items() if f"{{{name}}}" in path}

    def _prepare_documents(self, path: str, method: str) -> None:
        if path == "/api/policies":
            self.admin.put("/api/policies/global", json=DOCUMENT)
        elif path == "/api/policies/diff":
            for threshold in (91, 81):
                self.admin.put("/api/policies/global", json={"thresholds": {"autoRespond": threshold}})
        elif method == "GET":
            self.admin.put(path, json=DOCUMENT)

    def _first(self, path: str) -> str:
        return str(self.admin.get(path).json()["data"][0]["id"])


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    directory = tmp_path_factory.mktemp("manager")
    options: dict[str, Any] = {"channels": frozenset({"ops"}), "notifications": Channel()}
    options["step_down"] = lambda _force: None  # as where another manager stands by
    with Served(directory, client_addresses=LOOPBACK, rate_limit=0, **options) as served, served.client() as admin:
        yield Fleet(served, admin)


def test_a_group_that_no_message_has_is_not_acknowledged(fleet: Fleet) -> None:
    """404, and neither an event nor an audit entry; a group that was told is acknowledged."""
    before = fleet.admin.get("/api/audit").json()["data"]
    refused = fleet.admin.post("/api/notifications/acknowledge", json={"group": "no-such-group"})
    assert (refused.status_code, "notifications history" in refused.text) == (404, True)
    assert fleet.admin.get("/api/audit").json()["data"] == before
    assert fleet.admin.post("/api/notifications/acknowledge", json={"group": "waits-12"}).status_code == 200


@pytest.fixture
def thawed(fleet: Fleet) -> Iterator[None]:
    """Automatic response goes on after each row."""
    yield
    fleet.admin.post("/api/responses/thaw")


@pytest.mark.usefixtures("thawed")
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_documented_request_has_its_documented_answer(fleet: Fleet, row: Row) -> None:
    """Status, every documented member, and the headers of every answer."""
    agent = fleet.join()
    method, _, path = row.operation.partition(" ")
    with closing(agent.client):
        known = fleet.prepare(row, agent)
        url = path.format_map(known) + (f"?{row.query.format_map(known)}" if row.query else "")
        headers = {name: value.format_map(known) for name, value in row.headers.items()}
        content = {} if row.body is None else {"json": filled(row.body, known)}
        client = agent.client if row.own else fleet.admin
        with client.stream(method, url, headers=headers, **content) as answer:
            if not answer.headers.get("Content-Type", "").startswith("text/event-stream"):
                answer.read()
    assert answer.status_code == row.status
    assert [name for name in row.answered if name not in answer.headers] == []
    assert {name: begin for name, begin in HEADERS.items() if not answer.headers.get(name, "-").startswith(begin)} == {}
    if row.status == 304:
        assert answer.content == b""
    elif not row.text:
        told = answer.json()
        assert told["ok"] is True
        assert [name for name in row.data if not _has(told["data"], name)] == []
        assert [name for name in row.top if name not in told] == []


def test_every_route_is_a_row_and_every_row_a_route(fleet: Fleet) -> None:
    """So no route can come without what it is documented to answer."""
    described = fleet.admin.get("/openapi.json").json()["paths"]
    served = {f"{method.upper()} {path}" for path, known in described.items() for method in known}
    rows = {row.operation.replace("{waiting_id}", "{incident_id}").replace("{group}", "{name}") for row in ROWS}
    rows = {row.replace("/api/notifications/ops/", "/api/notifications/{name}/") for row in rows}
    assert rows == (served - BY_COOKIE) | {"GET /docs", "GET /openapi.json"}


def _has(data: Any, path: str) -> bool:
    for name in path.split("."):
        if isinstance(data, list):
            if len(data) <= int(name):
                return False
            data = data[int(name)]
        elif not isinstance(data, dict) or name not in data:
            return False
        else:
            data = data[name]
    return True
