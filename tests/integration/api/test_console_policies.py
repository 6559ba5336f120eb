"""The console's pages about policies in a real browser: documents with their schema, groups, drift, roll-back."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.api.console_steps import click, faults, go, page_text, second_step, set_field, sign_in
from tests.integration.api.served import LOOPBACK, Served
from tests.support.attacks import trusted
from tests.support.browser import Browser
from tests.support.waiting import eventually

pytestmark = pytest.mark.chromium

EDITOR = "form[name=editor]"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as running:
        yield running


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with Served(tmp_path, client_addresses=LOOPBACK, rate_limit=0) as running:
        with running.bench() as bench:
            trusted(bench, "web-1", "web-2", "db-1")
        with running.client() as admin:
            hosts = {each["hostname"]: each["agentId"] for each in admin.get("/api/agents").json()["data"]}
            for hostname in ("web-1", "web-2"):
                admin.patch(f"/api/agents/{hosts[hostname]}", json={"tags": ["web"]}).raise_for_status()
        yield running


def _data(served: Served, path: str) -> Any:
    with served.client() as admin:
        return admin.get(path).raise_for_status().json()["data"]


def _said(browser: Browser) -> str:
    return str(browser.run("return document.querySelector('main .error, main .notice')?.innerText ?? ''"))


def test_a_document_is_set_with_its_schema_beside_it(served: Served, browser: Browser) -> None:
    """The second step names hosts and differences; a document that somebody else has set meanwhile is told."""
    sign_in(browser, served.url)
    go(browser, "policies", "No document is set")
    click(browser, "Edit", "form[name=scope]")
    eventually(lambda: "thresholds" in page_text(browser), what="the schema")
    browser.run("for (const each of document.querySelectorAll('.schema details')) each.open = true")
    schema = page_text(browser)
    assert "autoRespond number 0 to 100 (without it 85)" in schema
    assert "quietHours" in schema
    set_field(browser, "document", "{", EDITOR)
    click(browser, "Check and save", EDITOR)
    eventually(lambda: "This is no JSON" in _said(browser), what="bad JSON")
    set_field(browser, "document", '{"threshold": {}}', EDITOR)
    click(browser, "Check and save", EDITOR)
    eventually(lambda: "did you mean" in _said(browser) or "threshold" in _said(browser), what="an unknown field")
    set_field(browser, "document", '{"thresholds": {"autoRespond": 70}}', EDITOR)
    set_field(browser, "message", "less patience", EDITOR)
    with served.client() as admin:
        admin.put("/api/policies/global", json={"mode": "learning"})
    click(browser, "Check and save", EDITOR)
    asked = second_step(browser)
    assert "somebody set another document meanwhile" in asked
    assert "The policy of 3 hosts changes" in asked
    assert "thresholds.autoRespond\t85\t70" in asked
    assert "To undo it: roll back" in asked
    click(browser, "Set it: 3 hosts", "dialog")
    eventually(lambda: "less patience" in page_text(browser), what="the history")
    assert _data(served, "/api/policies/global") == {"thresholds": {"autoRespond": 70}}


def test_a_roll_back_shows_what_it_changes_first(served: Served, browser: Browser) -> None:
    """With the number of hosts and the differences of documents; and a document is removed in the same way."""
    with served.client() as admin:
        admin.put("/api/policies/global", json={"thresholds": {"autoRespond": 70}})
        admin.put("/api/policies/global", json={"thresholds": {"autoRespond": 90}})
    sign_in(browser, served.url)
    go(browser, "policies", "Roll back to it")
    script = """
        const rows = [...document.querySelectorAll("main table.records tbody tr")];
        const wanted = (row) => row.textContent.includes("Roll back") && row.cells[0].textContent === arguments[0];
        rows.find(wanted).querySelector("button").click()
    """
    first = str(_data(served, "/api/policies/history")[-1]["revision"])
    browser.run(script, first)
    asked = second_step(browser)
    assert "the policy of 3 hosts changes" in asked
    assert "\t90\t70" in asked
    click(browser, "Change 3 hosts", "dialog")
    eventually(lambda: f"rollback to {first}" in page_text(browser), what="the history")
    assert _data(served, "/api/policies/global") == {"thresholds": {"autoRespond": 70}}
    click(browser, "Edit", "form[name=scope]")
    click(browser, "Remove", EDITOR)
    assert "The policy of 3 hosts changes" in second_step(browser)
    click(browser, "Remove it: 3 hosts", "dialog")
    eventually(lambda: "No document is set" in page_text(browser), what="no document")


def test_a_group_is_made_changed_and_removed_with_its_number_of_hosts(served: Served, browser: Browser) -> None:
    """Before each of them; its hosts are a link."""
    sign_in(browser, served.url)
    go(browser, "policies/groups", "There is no group")
    set_field(browser, "name", "web", "form[name=group]")
    click(browser, "Write it", "form[name=group]")
    eventually(lambda: "There is no such group yet" in page_text(browser), what="the group's page")
    set_field(browser, "tagsAll", "web", EDITOR)
    set_field(browser, "priority", "10", EDITOR)
    set_field(browser, "document", '{"mode": "protection"}', EDITOR)
    click(browser, "Check and save", EDITOR)
    assert "The policy of 2 hosts changes" in second_step(browser)
    assert _data(served, "/api/policies/groups") == []
    click(browser, "Set it: 2 hosts", "dialog")
    eventually(lambda: "It has 2 hosts" in page_text(browser), what="the group")
    click(browser, "Check and save", EDITOR)
    eventually(lambda: "nothing would change" in _said(browser), what="no change")
    set_field(browser, "tagsAny", "web, eu", EDITOR)
    click(browser, "Check and save", EDITOR)
    assert "The policy of 0 hosts changes" in second_step(browser)
    click(browser, "Set it: 0 hosts", "dialog")
    eventually(lambda: _data(served, "/api/policies/groups/web")["selector"]["tagsAny"] == ["web", "eu"], what="tags")
    listed = go(browser, "policies/groups", "2 hosts")
    assert "all of web ; one of web eu" in listed
    browser.run("document.querySelector('main a[href=\"#/agents?group=web\"]').click()")
    eventually(lambda: "2 of 2 agents" in page_text(browser), what="its hosts")
    go(browser, "policies/groups/web", "It has 2 hosts")
    click(browser, "Remove", EDITOR)
    assert "The policy of 2 hosts changes" in second_step(browser)
    click(browser, "Remove it: 2 hosts", "dialog")
    eventually(lambda: "There is no such group yet" in page_text(browser), what="no group")
    assert _data(served, "/api/policies/groups") == []


def test_tags_and_site_of_a_host_are_set_with_the_effect_on_its_policy(served: Served, browser: Browser) -> None:
    """The second step says whether the policy changes; tags that somebody else has set meanwhile are told."""
    with served.client() as admin:
        group = {"selector": {"tagsAll": ["db"]}, "priority": 1, "policy": {"mode": "protection"}}
        admin.put("/api/policies/groups/db", json=group).raise_for_status()
    agent = next(each for each in _data(served, "/api/agents") if each["hostname"] == "db-1")
    sign_in(browser, served.url)
    go(browser, f"agents/{agent['agentId']}", "Vitals")
    form = "form[name=tags]"
    click(browser, "Set", form)
    eventually(lambda: "what is set already" in _said(browser), what="no change")
    set_field(browser, "tags", "db, eu", form)
    set_field(browser, "site", "berlin", form)
    click(browser, "Set", form)
    asked = second_step(browser)
    assert "db-1: 1 host, whose policy changes by it" in asked
    with served.client() as admin:
        admin.patch(f"/api/agents/{agent['agentId']}", json={"tags": ["web"]}).raise_for_status()
    click(browser, "Set them on 1 host", "dialog")
    notice = "return document.querySelector('dialog .notice')?.innerText ?? ''"
    eventually(lambda: "somebody set other tags" in browser.run(notice), what="the change")
    assert _data(served, f"/api/agents/{agent['agentId']}")["tags"] == ["web"]
    click(browser, "Set them on 1 host", "dialog")
    eventually(lambda: _data(served, f"/api/agents/{agent['agentId']}")["site"] == "berlin", what="the site")
    assert {"db", "eu"} <= {*_data(served, f"/api/agents/{agent['agentId']}")["tags"]}
    go(browser, "agents?group=db", "1 of 1 agents")


def test_drift_names_each_host_that_has_not_what_is_meant(served: Served, browser: Browser) -> None:
    """With what it has, and a link to where its policy comes from."""
    with served.client() as admin:
        admin.put("/api/policies/global", json={"thresholds": {"autoRespond": 70}})
    sign_in(browser, served.url)
    said = go(browser, "policies/drift", "web-1")
    assert "is meant" in said
    browser.run("[...document.querySelectorAll('main a')].find((each) => each.textContent === 'web-1').click()")
    eventually(lambda: "thresholds.autoRespond\t70\tglobal" in page_text(browser), what="the policy's origin")
    browser.run("document.querySelector('main details').open = true")
    assert "thresholds.notifyAndWait\t50\tdefault" in page_text(browser)


@pytest.mark.long("tests/integration/api/test_console.py")
def test_the_pages_about_policies_keep_nobody_out(served: Served, browser: Browser) -> None:
    """No rule of axe-core is broken, in light and dark, wide and narrow; a viewer sees them without a way to change."""
    with served.client() as admin:
        admin.put("/api/policies/groups/web", json={"selector": {"tagsAll": ["web"]}, "priority": 1, "policy": {}})
        admin.put("/api/policies/global", json={"thresholds": {"autoRespond": 70}})
        viewer = admin.post("/api/access", json={"name": "v", "role": "viewer"}).json()["data"]["token"]
    sign_in(browser, served.url)
    found = {}
    for page, expected in (("policies", "History"), ("policies/groups", "2 hosts"), ("policies/groups/web", "Schema"),
                           ("policies/drift", "web-1")):  # fmt: skip
        go(browser, page, expected)
        if page == "policies":
            click(browser, "Edit", "form[name=scope]")
            eventually(lambda: "thresholds" in page_text(browser), what="the schema")
        for width, scheme in ((1400, "light"), (400, "dark"), (1400, "dark"), (400, "light")):
            browser.emulate(width, scheme)
            found[f"{page} {width} {scheme}"] = faults(browser)
    assert {page: broken for page, broken in found.items() if broken} == {}
    sign_in(browser, served.url, viewer)
    for page, expected in (("policies", "History"), ("policies/groups", "2 hosts"), ("policies/groups/web", "Schema")):
        go(browser, page, expected)
        assert browser.run("return document.querySelectorAll('main .danger, main [type=submit]').length") == 0
