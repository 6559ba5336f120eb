"""Every error has its status, one sentence and the same headers; none tells what a caller should not know."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Never

import httpx2
import pytest
from structlog.testing import capture_logs

from manager.api.errors import UNAUTHORIZED_HINT
from schemas.limits import BODY_LIMIT
from tests.integration.api.served import Served

_JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One manager for all refusals: what is refused leaves nothing behind."""
    with Served(tmp_path_factory.mktemp("manager")) as running:
        yield running


@pytest.mark.parametrize("header", [None, "Bearer wrong", "Bearer", "Basic YWRtaW46YWRtaW4=", "wrong", "Bearer \xff"])
def test_a_missing_and_a_wrong_token_get_the_same_answer(served: Served, header: str | None) -> None:
    """401 with the same words, whatever was wrong."""
    with served.client(token=None) as anybody:
        headers = {} if header is None else {"Authorization": header.encode("latin-1")}
        answer = anybody.get("/api/agents", headers=headers)
    assert (answer.status_code, answer.json()) == (
        401,
        {"ok": False, "error": "Unauthorized", "hint": UNAUTHORIZED_HINT},
    )
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_nobody_learns_of_a_wrong_body_without_a_token(served: Served) -> None:
    """A caller who may not set a policy gets 403, without the errors of the document."""
    with served.client(token=None) as anybody:
        assert anybody.put("/api/policies/global", content=b"{", headers=_JSON).status_code == 401


def test_an_unknown_path_is_404(admin: httpx2.Client) -> None:
    """In the envelope, like everything else."""
    answer = admin.get("/api/nothing")
    assert (answer.status_code, answer.json()) == (404, {"ok": False, "error": "Not found"})


def test_a_wrong_method_is_405_with_all_that_are_right(admin: httpx2.Client) -> None:
    """Allow names the methods of every route on the path."""
    answer = admin.post("/api/policies/global", json={})
    assert (answer.status_code, answer.headers["Allow"]) == (405, "DELETE, GET, PUT")
    assert answer.json()["ok"] is False
    assert [admin.put(path).headers["Allow"] for path in ("/docs", "/health")] == ["GET", "GET, HEAD"]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_a_body_that_is_not_declared_as_json_is_415(admin: httpx2.Client, kind: str) -> None:
    """For any content of the body."""
    answer = admin.put("/api/policies/global", content=b"{}", headers={"Content-Type": kind})
    assert answer.status_code == 415
    assert "application/json" in answer.json()["error"]


def test_json_with_a_charset_is_json(admin: httpx2.Client) -> None:
    """A parameter of the media type changes nothing."""
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert admin.put("/api/policies/global", content=b"{}", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b'{"thresholds":{"autoRespond":500}}', "thresholds.autoRespond"),
        (b'{"thresholds":{"autoRespond":"70"}}', "thresholds.autoRespond"),
        (b'{"blocklist":{"ips":["not an address"]}}', "blocklist.ips.0"),
        (b'{"thresholds":', "JSON"),
        (b"[]", "object"),
        (b'{"monitors":{"advanced":{"x":NaN}}}', "NaN"),
        (b'{"monitors":{"advanced":{"x":1e999}}}', "infinities"),
        (b'{"monitors":{"advanced":{"x":' + b"9" * 5000 + b"}}}", "JSON"),
        (b'{"monitors":{"advanced":{"x":"\\ud800"}}}', "JSON"),
        (b'{"x":' + b"[" * 5000 + b"]" * 5000 + b"}", "JSON"),
    ],
)
def test_a_wrong_document_is_400_and_names_what_is_wrong(admin: httpx2.Client, body: bytes, named: str) -> None:
    """A refused document changes nothing; the sentence names the field."""
    before = admin.get("/api/policies/history").json()["data"]
    answer = admin.put("/api/policies/global", content=body, headers=_JSON)
    assert answer.status_code == 400
    assert named in answer.json()["error"]
    assert "Value error" not in answer.json()["error"]
    assert admin.get("/api/policies/history").json()["data"] == before


def _chunks() -> Iterator[bytes]:
    yield from (b" " * 65_536 for _ in range(2 * BODY_LIMIT // 65_536))


@pytest.mark.parametrize("path", ["/api/tokens", "/api/nothing"])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit_is_answered(served: Served, path: str, *, chunked: bool) -> None:
    """413 is an answer, not a reset, and the connection serves the next request."""
    with served.client() as client:
        content = _chunks() if chunked else b"".join(_chunks())
        answer = client.post(path, content=content, headers=_JSON)
        unread = path == "/api/nothing" and chunked
        assert answer.status_code == (404 if unread else 413)
        assert answer.json()["ok"] is False
        assert client.get("/health/live").status_code == 200


def test_a_body_of_exactly_the_limit_is_read(admin: httpx2.Client) -> None:
    """One MiB is not yet too large."""
    assert admin.post("/api/tokens", content=b"{}" + b" " * (BODY_LIMIT - 2), headers=_JSON).status_code == 201


class _Failing:
    """Queries that fail as nothing should."""

    def __getattr__(self, _name: str) -> Any:
        def fail(*_: object, **__: object) -> Never:
            raise RuntimeError("the password is swordfish")

        return fail


def test_an_unforeseen_failure_says_nothing_but_where_to_look(tmp_path: Path) -> None:
    """500 names the request id and not the exception; the log has both."""
    with Served(tmp_path, queries=_Failing()) as served, served.client() as client, capture_logs() as logs:
        answer = client.get("/api/agents", headers={"X-Request-Id": "my-request"})
    assert (answer.status_code, answer.headers["X-Request-Id"]) == (500, "my-request")
    assert "my-request" in answer.json()["error"]
    assert "swordfish" not in answer.text
    assert [entry["request_id"] for entry in logs if entry["event"] == "request_failed"] == ["my-request"]


def test_a_command_that_is_not_committed_in_time_is_503(tmp_path: Path) -> None:
    """While the engine cannot commit the answer is 503 with Retry-After, reads go on, and it is carried out later."""
    with Served(tmp_path, reply_timeout=0.05) as served, served.client() as client, capture_logs():
        with served.bench():
            answer = client.put("/api/policies/global", json={"thresholds": {"autoRespond": 70}})
            assert answer.status_code == 503
            assert "cannot commit" in answer.json()["error"]
            assert answer.headers["Retry-After"] == "5"
            assert client.get("/api/agents").status_code == 200
        assert client.get("/health").status_code == 200


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/health"), ("GET", "/api/agents"), ("GET", "/x"), ("PATCH", "/health")]
)
def test_every_answer_has_the_headers(served: Served, method: str, path: str) -> None:
    """Good and bad answers alike carry the security headers and a request id."""
    with served.client(token=None) as anybody:
        headers = anybody.request(method, path).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["X-XSS-Protection"] == "0"
    assert headers["Referrer-Policy"] == "strict-origin-when-cross-origin"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert re.fullmatch("[0-9a-f]{32}", headers["X-Request-Id"])
    assert "server" not in headers
    assert "Strict-Transport-Security" not in headers


@pytest.mark.parametrize("given", ["a b", "x" * 65, "a\tb", ""])
def test_a_request_id_that_is_no_plain_word_is_replaced(admin: httpx2.Client, given: str) -> None:
    """Only a plain word of the caller's comes back and reaches the log."""
    assert admin.get("/health/live", headers={"X-Request-Id": given}).headers["X-Request-Id"] != given


def test_the_document_describes_every_route_and_never_a_422(admin: httpx2.Client) -> None:
    """OpenAPI 3.1: each reference in it resolves, each operation has a success and the envelope of errors."""
    document = admin.get("/openapi.json").json()
    text = json.dumps(document)
    assert "422" not in text
    for name in re.findall(r'"#/components/schemas/([^"]+)"', text):
        assert name in document["components"]["schemas"]
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    assert all("default" in operation["responses"] and len(operation["responses"]) > 1 for operation in operations)
    assert all(operation["description"] for operation in operations)


def test_the_reference_page_needs_no_other_host(admin: httpx2.Client) -> None:
    """/docs names every path and every member of a body, has no script, and lets nothing in but its own style."""
    page = admin.get("/docs")
    models = admin.get("/openapi.json").json()["components"]["schemas"]
    members = {member for model in models.values() for member in model.get("properties", ())}
    assert {"hostname", "memoryUsageMB", "sigmaRuleId"} <= members
    assert [member for member in sorted(members) if f"{member}</code>" not in page.text] == []
    assert page.headers["Content-Type"].startswith("text/html")
    assert all(path in page.text for path in admin.get("/openapi.json").json()["paths"])
    assert "<script" not in page.text
    assert "://" not in page.text
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
