"""The console's second steps about tokens and channels in a real browser: rights, and changes since a page was read."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.api.console_steps import click, faults, go, page_text, second_step, set_field, sign_in
from tests.integration.api.served import LOOPBACK, Served
from tests.support.attacks import trusted
from tests.support.browser import Browser
from tests.support.processes import ManagerProcess
from tests.support.waiting import eventually

pytestmark = pytest.mark.chromium

_TOLD = "return document.querySelector('dialog .notice')?.innerText ?? ''"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as running:
        yield running


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with Served(tmp_path, client_addresses=LOOPBACK, rate_limit=0) as running:
        yield running


def _tells(browser: Browser, expected: str) -> None:
    eventually(lambda: expected in str(browser.run(_TOLD)), what=expected)


def _closed(browser: Browser) -> None:
    eventually(lambda: not browser.run("return document.querySelector('dialog')"), what="no second step")


def test_an_access_token_is_made_with_organizations_and_an_expiry(served: Served, browser: Browser) -> None:
    """The second step says what it may do, where and until when; an unknown organization is refused before it."""
    with served.bench() as bench:
        trusted(bench, "web-1", "web-2", organization_id="acme")
    sign_in(browser, served.url)
    go(browser, "access", "beside the admin token")
    form = "form[name=access]"
    for name, value in (("name", "carol"), ("role", "responder"), ("organizations", "acem"), ("accessDays", "90")):
        set_field(browser, name, value, form)
    assert "\n".join(faults(browser)) == ""
    click(browser, "Create a token", form)
    eventually(lambda: "names the organization acem" in page_text(browser), what="the refusal")
    set_field(browser, "organizations", "acme, acme", form)
    click(browser, "Create a token", form)
    said = second_step(browser)
    assert "carol has the role responder in acme (2 hosts) alone, and may read what is of them" in said
    assert "(in 89 d)" in said or "(in 90 d)" in said
    click(browser, "Create it", "dialog")
    eventually(lambda: browser.run("return document.getElementById('made')?.innerText"), what="the token")
    with served.client() as admin:
        (made,) = admin.get("/api/access").json()["data"]
    assert (made["name"], made["role"], made["organizations"]) == ("carol", "responder", ["acme"])
    assert made["expiresAt"] is not None
    for name, value in (("name", "prometheus"), ("role", "metrics"), ("accessDays", "0")):
        set_field(browser, name, value, form)
    click(browser, "Create a token", form)
    said = second_step(browser)
    assert "has the role metrics in all organizations, and may read the figures of /metrics" in said
    assert "until somebody revokes it" in said


def test_revoking_an_access_token_says_what_has_changed(served: Served, browser: Browser) -> None:
    """The name may be another token's by now: that one is not revoked without asking."""
    with served.client() as admin:
        admin.post("/api/access", json={"name": "alice", "role": "viewer"})
        sign_in(browser, served.url)
        go(browser, "access", "alice")
        click(browser, "Revoke", "table")
        assert "has changed" not in second_step(browser)
        admin.post("/api/access/alice/rotate", json={})
        with served.bench() as bench:
            bench.pass_time(1)
        admin.delete("/api/access/alice")
        with served.bench() as bench:
            bench.pass_time(1)
        admin.post("/api/access", json={"name": "alice", "role": "admin"})
        click(browser, "Revoke it", "dialog")
        _tells(browser, "it was revoked, and the name is that of another token: admin")
        assert [each["role"] for each in admin.get("/api/access").json()["data"] if not each["revokedAt"]] == ["admin"]
        click(browser, "Revoke it", "dialog")
        _closed(browser)
        assert [each for each in admin.get("/api/access").json()["data"] if not each["revokedAt"]] == []


def test_revoking_an_enrollment_token_says_what_has_changed(served: Served, browser: Browser) -> None:
    """Somebody else revoked it after the page was read."""
    with served.client() as admin:
        made = admin.post("/api/tokens", json={"name": "web"}).json()["data"]
        sign_in(browser, served.url)
        go(browser, "access", "web")
        assert admin.delete(f"/api/tokens/{made['tokenId']}").status_code == 200
    click(browser, "Revoke", "section[aria-label=Enrollment]")
    second_step(browser)
    _tells(browser, "This has changed since you looked: it was revoked")


def test_pausing_a_channel_says_what_has_changed(browser: Browser, tmp_path: Path) -> None:
    """Somebody else paused it, before the second step and while it is open."""
    prepared = ManagerProcess(tmp_path / "home")
    prepared.data.mkdir(mode=0o700)
    settings = f'[notifications.siem]\ntype = "file"\nurl = "{tmp_path / "siem.jsonl"}"\n'
    (prepared.data / "manager.toml").write_text(settings)
    with prepared as manager:
        sign_in(browser, manager.http, (manager.data / "admin.token").read_text().strip())
        go(browser, "notifications", "siem")
        manager.request("POST", "/api/notifications/siem/pause", {"seconds": 600})
        browser.run("document.activeElement.blur()")
        click(browser, "Pause for 2 h", "main")
        second_step(browser)
        _tells(browser, "it is paused until")
        manager.request("DELETE", "/api/notifications/siem/pause")
        click(browser, "Pause for 2 h", "dialog")
        eventually(lambda: browser.run(_TOLD) == "", what="what the page showed")
        (channel,) = manager.get("/api/notifications")
        assert channel["state"] == "ok"
        click(browser, "Pause for 2 h", "dialog")
        _closed(browser)
        (channel,) = manager.get("/api/notifications")
        assert channel["state"] == "paused"
