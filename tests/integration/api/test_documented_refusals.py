"""Each status that the contract names for refusals: how one gets it, and that it is answered as all of them are."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Never

import httpx2
import pytest
from structlog.testing import capture_logs

from tests.integration.api.documented import HEADERS, REPORT, STATUSES
from tests.integration.api.served import HOST, LOOPBACK, Served

Ask = Callable[[Served, httpx2.Client], httpx2.Response]


class Refusal(NamedTuple):
    """A status, what is asked for it, of a door with which options, and what the answer has beside the sentence."""

    status: int
    ask: Ask
    options: dict[str, Any]
    headers: tuple[str, ...]


class _Failing:
    """Queries that fail as nothing should."""

    def __getattr__(self, _name: str) -> Any:
        def fail(*_: object, **__: object) -> Never:
            raise RuntimeError("the password is swordfish")

        return fail


def _malformed(_served: Served, admin: httpx2.Client) -> httpx2.Response:
    return admin.post("/api/tokens", content=b"{", headers={"Content-Type": "application/json"})


def _lacking(_served: Served, admin: httpx2.Client) -> httpx2.Response:
    return admin.post("/api/agents/register", json={"hostname": "srv-01"})


def _unfitting(_served: Served, admin: httpx2.Client) -> httpx2.Response:
    return admin.get("/api/threats", params={"severity": "awful"})


def _nobody(served: Served, _admin: httpx2.Client) -> httpx2.Response:
    with served.client(None) as anybody:
        return anybody.get("/api/agents")


def _an_agent(served: Served, _admin: httpx2.Client) -> httpx2.Response:
    with served.join().client as agent:
        return agent.get("/api/agents")


def _nowhere(_served: Served, admin: httpx2.Client) -> httpx2.Response:
    return admin.get("/api/nothing")


def _unknown(_served: Served, admin: httpx2.Client) -> httpx2.Response:
    return admin.post("/api/agents/ag-0000000000000000/heartbeat", json={})


def _by_the_wrong_method(_served: Served, admin: httpx2.Client) -> httpx2.Response:
    return admin.put("/api/agents/register", json=HOST)


def _twice(served: Served, _admin: httpx2.Client) -> httpx2.Response:
    agent = served.join()
    with agent.client:
        agent.events({**REPORT, "id": "t-1"})
        return agent.events({**REPORT, "id": "t-1", "response": "other"})


def _too_much(_served: Served, admin: httpx2.Client) -> httpx2.Response:
    return admin.post("/api/tokens", content=b" " * 2_000_000, headers={"Content-Type": "application/json"})


def _by_a_form(_served: Served, admin: httpx2.Client) -> httpx2.Response:
    return admin.post("/api/tokens", data={"site": "a"})


def _too_often(served: Served, _admin: httpx2.Client) -> httpx2.Response:
    with served.client(None) as anybody:
        for _ in range(60):
            assert anybody.get("/api/agents").status_code == 401
        return anybody.get("/api/agents")


def _failing(_served: Served, admin: httpx2.Client) -> httpx2.Response:
    return admin.get("/api/agents")


def _while_the_store_is_held(served: Served, admin: httpx2.Client) -> httpx2.Response:
    with served.bench():
        return admin.post("/api/tokens", json={})


REFUSALS = (
    Refusal(400, _malformed, {}, ()),
    Refusal(400, _lacking, {}, ()),
    Refusal(400, _unfitting, {}, ()),
    Refusal(401, _nobody, {}, ("WWW-Authenticate",)),
    Refusal(403, _an_agent, {}, ()),
    Refusal(404, _nowhere, {}, ()),
    Refusal(404, _unknown, {}, ()),
    Refusal(405, _by_the_wrong_method, {}, ("Allow",)),
    Refusal(409, _twice, {}, ()),
    Refusal(413, _too_much, {}, ()),
    Refusal(415, _by_a_form, {}, ()),
    Refusal(429, _too_often, {}, ("Retry-After", "X-RateLimit-Limit", "X-RateLimit-Remaining")),
    Refusal(500, _failing, {"queries": _Failing()}, ()),
    Refusal(503, _while_the_store_is_held, {"reply_timeout": 0.05}, ("Retry-After",)),
)


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: f"{refusal.status} {refusal.ask.__name__}")
def test_a_refusal_is_one_sentence_with_the_headers_of_every_answer(refusal: Refusal, tmp_path: Path) -> None:
    """Its status, `ok` false, a sentence of one line, and nothing of what went on inside."""
    with (
        capture_logs(),
        Served(tmp_path, client_addresses=LOOPBACK, **refusal.options) as served,
        served.client() as admin,
    ):
        answer = refusal.ask(served, admin)
    assert (answer.status_code, answer.json()["ok"]) == (refusal.status, False)
    assert answer.json().keys() == {"ok", "error"} | ({"hint"} if refusal.status == 401 else set())
    assert answer.json()["error"]
    assert "\n" not in answer.json()["error"]
    assert "swordfish" not in answer.text
    assert [name for name in refusal.headers if not answer.headers.get(name)] == []
    assert {name: begin for name, begin in HEADERS.items() if not answer.headers.get(name, "-").startswith(begin)} == {}
    if refusal.status == 500:
        assert answer.headers["X-Request-Id"] in answer.json()["error"]


def test_each_documented_status_is_in_the_table() -> None:
    """And no other: 422 never."""
    assert {refusal.status for refusal in REFUSALS} == STATUSES
