"""Refusals of the routes of incidents, allowlists and revisions: they name the field and change nothing."""

from collections.abc import Iterator

import httpx2
import pytest

from tests.integration.api.served import Served

DIGEST = "ab" * 32


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One manager for all refusals: what is refused leaves nothing behind."""
    with Served(tmp_path_factory.mktemp("manager")) as running:
        yield running


@pytest.mark.parametrize("query", ["open=maybe", "kind=ip", "response=done", "since=yesterday", "limit=0", "cursor=!"])
def test_a_wrong_filter_is_400_and_named(admin: httpx2.Client, query: str) -> None:
    """The sentence names the parameter."""
    answer = admin.get(f"/api/incidents?{query}")
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(query.partition("=")[0])


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"value": ""},
        {"value": "nonsense"},
        {"value": "10.0.0.0/33"},
        {"value": "0.0.0.0/0"},
        {"value": "::/0"},
        {"value": "192.0.2.1", "kind": "file_hash"},
        {"value": DIGEST, "kind": "ip"},
        {"value": " ", "kind": "process"},
        {"value": "192.0.2.1", "kind": "host"},
        {"value": 5},
    ],
)
def test_what_is_no_entry_is_400_and_changes_nothing(admin: httpx2.Client, body: dict[str, object]) -> None:
    """The sentence names the field; every address there is would leave nothing to block."""
    answer = admin.post("/api/allowlist", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"].partition(":")[0] in {"value", "kind"}
    assert admin.get("/api/policies/history").json()["data"] == []


@pytest.mark.parametrize(("revision", "status"), [(99, 404), (0, 400), (-1, 400), ("2", 400), (None, 400)])
def test_a_revision_that_never_was_is_refused(admin: httpx2.Client, revision: object, status: int) -> None:
    """By name, and nothing is changed."""
    answer = admin.post("/api/policies/rollback", json={"revision": revision})
    assert answer.status_code == status
    assert "evision" in answer.json()["error"]


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, "scope"),
        ({"scope": "organization"}, "target"),
        ({"scope": "galaxy"}, "scope"),
        ({"scope": "global", "document": {"thresholds": {"autoRespond": 500}}}, "document.thresholds.autoRespond"),
        ({"scope": "global", "document": {"rules": [{"type": "block_ip", "value": "x"}]}}, "document.rules.0"),
        ({"from": 0}, "from"),
    ],
)
def test_a_comparison_of_nothing_is_400_and_named(admin: httpx2.Client, body: object, named: str) -> None:
    """The sentence names the field."""
    answer = admin.post("/api/policies/diff", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(named)
