"""Roles in the console: what a role may not do it does not see, and the API refuses it in the same session."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.api.console_steps import go, page_text, sign_in
from tests.integration.api.served import LOOPBACK, Served
from tests.support.attacks import attack, trusted
from tests.support.browser import Browser
from tests.support.waiting import eventually

pytestmark = pytest.mark.chromium

READS = {"Search", "Open", "Close", "Read again", "Show more"}
RESPONDS = {
    "Lift\u2026", "Block\u2026", "Check", "Acknowledge\u2026", "Add a note\u2026", "Close\u2026",
    "Undo the response\u2026", "It was me\u2026",
}  # fmt: skip
ADMINISTERS = {
    "Open and edit", "Edit", "Write it", "Roll back to it\u2026", "Check and save\u2026", "Remove\u2026",
    "Create a token\u2026", "Set\u2026", "Create an enrollment token\u2026", "Revoke\u2026",
}  # fmt: skip
SHOWN = {"viewer": READS, "responder": READS | RESPONDS, "admin": READS | RESPONDS | ADMINISTERS}
RANK = ("viewer", "responder", "admin")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as running:
        yield running


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A manager with something to do on each page."""
    with Served(tmp_path_factory.mktemp("store"), client_addresses=LOOPBACK, rate_limit=0) as running:
        with running.bench() as bench:
            attack(bench, *trusted(bench, "web-1", "web-2", "web-3"), sourceIp="203.0.113.7")
            bench.pass_time(1)
        with running.client() as admin:
            admin.put("/api/policies/groups/web", json={"selector": {"tagsAll": ["web"]}, "priority": 1, "policy": {}})
            admin.put("/api/policies/global", json={"thresholds": {"autoRespond": 70}})
        yield running


def _token(served: Served, role: str) -> str:
    with served.client() as admin:
        number = len(admin.get("/api/access").json()["data"])
        made = admin.post("/api/access", json={"name": f"{role}-{number}", "role": role})
    return str(made.json()["data"]["token"])


def _pages(served: Served) -> list[str]:
    with served.client() as admin:
        incident = admin.get("/api/incidents?value=203.0.113.7").json()["data"][0]["id"]
        threat = admin.get("/api/threats").json()["data"][0]["id"]
        agent = admin.get("/api/agents").json()["data"][0]["agentId"]
    return [
        "now", "agents", "incidents", "threats", "blocks", "policies", "policies/groups", "policies/groups/web",
        "policies/drift", "notifications", "access", "audit",
        f"incidents/{incident}", f"threats/{threat}", f"agents/{agent}",
    ]  # fmt: skip


def _buttons(browser: Browser, page: str) -> set[str]:
    browser.run("location.hash = '#/nothing'")
    browser.run("location.hash = arguments[0]", f"#/{page}")
    ready = "return !document.querySelector('main[aria-busy]') && !!document.querySelector('main h1')"
    eventually(lambda: browser.run(ready), what=page)
    script = """
        const seen = [...document.querySelectorAll("main button")].filter((each) => each.checkVisibility());
        return seen.map((each) => each.textContent);
    """
    return set(browser.run(script))


@pytest.mark.parametrize("role", RANK)
def test_a_role_sees_the_buttons_that_it_may_press_and_no_others(served: Served, browser: Browser, role: str) -> None:
    """On every page; what no role below admin may do, no role below admin sees."""
    sign_in(browser, served.url, _token(served, role))
    seen: set[str] = set()
    for page in _pages(served):
        found = _buttons(browser, page)
        assert found <= SHOWN[role], page
        assert "Not to be read with this token" not in page_text(browser), page
        seen |= found
    assert seen >= SHOWN[role] - READS


@pytest.mark.parametrize("role", ["viewer", "responder"])
def test_the_api_refuses_in_the_session_of_a_role_what_the_console_hides(
    served: Served, browser: Browser, role: str
) -> None:
    """Every route of a higher role, with cookie and CSRF token of the page: 403, and nothing is changed."""
    sign_in(browser, served.url, _token(served, role))
    go(browser, "now", "Nobody")
    with served.client() as admin:
        paths: dict[str, Any] = admin.get("/openapi.json").json()["paths"]
    above = RANK[RANK.index(role) + 1 :]
    routes = [
        (method.upper(), re.sub(r"\{[a-z_]+\}", "x", path))
        for path, methods in paths.items()
        for method, known in methods.items()
        if method != "get" and known.get("x-role") in above and "x-agent" not in known
    ]
    assert len(routes) > 15
    script = """
        const [routes] = arguments;
        return (async () => {
            const { csrfToken } = (await (await fetch("/api/session")).json()).data;
            const headers = { "X-Panguard-CSRF": csrfToken, "Content-Type": "application/json" };
            const found = [];
            for (const [method, path] of routes) {
                const answer = await fetch(path + "?value=203.0.113.7", { method, headers, body: "{}" });
                found.push([method, path, answer.status]);
            }
            return found;
        })();
    """
    with served.bench() as bench:
        before = bench.rows("SELECT count(*) FROM audit_entry")
    answers = browser.run(script, routes)
    assert [each for each in answers if each[2] != 403] == []
    with served.bench() as bench:
        assert bench.rows("SELECT count(*) FROM audit_entry") == before
