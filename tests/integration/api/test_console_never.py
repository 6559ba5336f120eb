"""The console never does: each rule as a browser test, on a fleet under attack."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from manager.api.middleware.client_address import ClientAddresses
from schemas import topics
from tests.integration.api.console_steps import click, faults, go, page_text, second_step, set_field, sign_in
from tests.integration.api.served import LOOPBACK, Served
from tests.support.attacks import attack, trusted
from tests.support.browser import Browser
from tests.support.simulated import SimulatedAgent
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import eventually

pytestmark = pytest.mark.chromium

ADDRESS = "203.0.113.7"
OPERATOR = "203.0.113.50"
LOGIN = {"type": "login_after_failures", "severity": "critical"}
PAGES = (
    "now", "agents", "incidents", "threats", "blocks", "policies", "policies/groups", "policies/groups/web",
    "policies/drift", "notifications", "access", "audit",
)  # fmt: skip
HARMLESS = {
    "Search",
    "Close",
    "Show more",
    "Open",
    "Open and edit",
    "Edit",
    "Write it",
    "Check",
    "Read again",
    "new: show",
}
"""Buttons that only read."""
BUTTONS = """
    const seen = [...document.querySelectorAll("main button")].filter((each) => each.checkVisibility());
    return seen.map((each) => each.textContent);
"""
BLOCKS = "SELECT count(*) FROM emergency_entry WHERE kind = 'ip'"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as running:
        yield running


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with Served(tmp_path, client_addresses=LOOPBACK, rate_limit=0) as running:
        yield running


def _attacked(served: Served, *addresses: str) -> list[SimulatedAgent]:
    """Let three hosts of an organization report attackers, and one of them a login after failures."""
    with served.bench() as bench:
        agents = trusted(bench, "web-1", "web-2", "web-3", organization_id="acme")
        for address in addresses or (ADDRESS,):
            attack(bench, *agents, sourceIp=address)
        bench.pass_time(1)
    _login(served, agents[0])
    return agents


def _login(served: Served, agent: SimulatedAgent, address: str = ADDRESS) -> None:
    with served.bench() as bench:
        report = json.loads(agent.threat(bench.wall, sourceIp=address, user="deploy"))
        report["threat"] |= LOGIN
        del report["mac"]
        body = json.dumps(report, separators=(",", ":")).encode()
        bench.receive(topics.THREATS, agent.agent_id, agent.coded(topics.THREATS, body))
        bench.pass_time(1)


def _state(served: Served) -> list[Any]:
    """Return what people and the console could have changed."""
    tables = ("audit_entry", "emergency_entry", "policy_revision", "enrollment_token", "access_token", "incident_work",
              "recognized_threat")  # fmt: skip
    with served.bench() as bench:
        return [bench.rows(f"SELECT count(*) FROM {table}") for table in tables]


def _inner(served: Served) -> tuple[str, ...]:
    with served.client() as admin:
        incident = admin.get(f"/api/incidents?value={ADDRESS}").json()["data"][0]["id"]
        threat = admin.get("/api/threats?type=login_after_failures").json()["data"][0]["id"]
        agent = admin.get("/api/agents").json()["data"][0]["agentId"]
    return f"incidents/{incident}", f"threats/{threat}", f"agents/{agent}"


def _show(browser: Browser, page: str) -> None:
    """Show a page anew, whatever was shown, to its end."""
    browser.run("for (const each of document.querySelectorAll('dialog')) each.close(); location.hash = '#/nothing'")
    browser.run("location.hash = arguments[0]", f"#/{page}")
    ready = "return !document.querySelector('main[aria-busy]') && !!document.querySelector('main h1')"
    eventually(lambda: browser.run(ready), what=page)
    assert not browser.run("return document.querySelector('main .error')"), page


def test_it_never_shows_a_number_or_green_once_the_stream_is_silent(served: Served, browser: Browser) -> None:
    """Page, charts and an open second step turn grey on every page, and the header says since when, with the zone."""
    _attacked(served)
    with TcpProxy(served.server.port) as proxy:
        sign_in(browser, f"http://127.0.0.1:{proxy.port}")
        go(browser, "blocks", ADDRESS)
        click(browser, "Lift", "table")
        second_step(browser)
        with proxy.holding(to_server=True, to_client=True):
            eventually(lambda: browser.run("return document.body.dataset.live") == "lost", what="not live")
            said = str(browser.run("return document.getElementById('live').innerText"))
            assert re.search(r"not live since .+ (UTC|GMT|[A-Z]{3,4})", said)
            grey = "return [...document.querySelectorAll('main, dialog')].map((e) => getComputedStyle(e).filter)"
            assert browser.run(grey) == ["grayscale(1)"] * 2
            outside = """
                const shown = [...document.querySelectorAll("body *")].filter((e) => e.checkVisibility());
                return shown.filter((e) => !e.closest("main, dialog, #live, #who, nav")
                    && [...e.childNodes].some((n) => n.nodeType === 3 && /[0-9]/.test(n.data))).map((e) => e.outerHTML);
            """
            assert browser.run(outside) == []
        eventually(lambda: browser.run("return document.body.dataset.live") == "live", what="live again")
        assert browser.run(grey) == ["none"] * 2


def test_it_never_moves_a_row_under_the_pointer(served: Served, browser: Browser) -> None:
    """New rows wait behind a button; a page that draws itself anew waits until pointer and focus are elsewhere."""
    agents = _attacked(served)
    sign_in(browser, served.url)
    place = """
        const found = [...document.querySelectorAll("main a")].find((each) => each.textContent.includes(arguments[0]));
        if (!found) return null;
        const box = found.getBoundingClientRect();
        return [box.x + box.width / 2, box.y + box.height / 2];
    """
    go(browser, "incidents", ADDRESS)
    before = browser.run(place, ADDRESS)
    browser.point_at(*before)
    with served.bench() as bench:
        attack(bench, *agents, sourceIp="203.0.113.8")
        bench.pass_time(1)
    eventually(lambda: "new: show" in page_text(browser), what="the button")
    assert "203.0.113.8" not in page_text(browser)
    under = "return document.elementFromPoint(...arguments)?.closest('a')?.textContent ?? ''"
    click(browser, "1 new", "main")
    eventually(lambda: "203.0.113.8" in page_text(browser), what="the new row")
    go(browser, "now", "deploy, from 203.0.113.7")
    spot = eventually(lambda: browser.run(place, "203.0.113.7"), what="the source")
    browser.point_at(*spot)
    _login(served, agents[1], "203.0.113.9")
    offered = "return [...document.querySelectorAll('.fresh button')].map((each) => each.textContent)"
    eventually(lambda: browser.run(offered) == ["new: show"], what="the offer")
    assert "203.0.113.7" in browser.run(under, *spot)
    assert "from 203.0.113.9" not in page_text(browser)
    browser.point_at(1, 1)
    eventually(lambda: "from 203.0.113.9" in page_text(browser), what="the page anew")
    assert browser.run(offered) == []


def test_it_never_acts_by_get(served: Served, browser: Browser) -> None:
    """All that every page asks for by itself, and by any address of it, changes nothing and is GET."""
    _attacked(served)
    sign_in(browser, served.url)
    inner = _inner(served)
    before = _state(served)
    browser.sent()
    for page in (*PAGES, *inner):
        for query in ("", f"?value={ADDRESS}&action=lift&recognized=true&revision=1"):
            _show(browser, page + query)
    asked = browser.sent()
    assert {method for method, _, _ in asked} == {"GET"}
    assert _state(served) == before
    with served.client() as admin:  # the same addresses change nothing with a token either
        for url in {url for _, url, _ in asked if "/api/" in url and "/stream" not in url}:
            admin.get(url)
    assert _state(served) == before


@pytest.mark.long("tests/integration/api/test_console.py")
def test_it_never_acts_on_a_single_click_or_without_hosts_and_undo(served: Served, browser: Browser) -> None:
    """Each button of each page is pressed once: nothing changes, and the second step says how many hosts and the undo.

    It cannot be taken by a double click or by the key that opened it: it waits half a second, and Cancel has the focus.
    """
    _attacked(served)
    with served.client() as admin:
        admin.put("/api/policies/groups/web", json={"selector": {"tagsAll": ["web"]}, "priority": 1, "policy": {}})
        admin.put("/api/policies/global", json={"thresholds": {"autoRespond": 70}})
        admin.post("/api/access", json={"name": "someone", "role": "viewer"})
    sign_in(browser, served.url)
    before, asked = _state(served), {}
    for page in (*PAGES, *_inner(served)):
        _show(browser, page)
        for label in dict.fromkeys(browser.run(BUTTONS)):
            _show(browser, page)
            _fill(browser, page)
            browser.sent()
            asked[f"{page}: {label}"] = _press(browser, label)
            changes = [each for each in browser.sent() if each[0] != "GET" and not _only_asks(each)]
            assert changes == [], (page, label)
            assert _state(served) == before, (page, label)
    assert {"now: It was me\u2026", "blocks: Lift\u2026", "blocks: Block\u2026"} <= asked.keys()
    assert len([each for each in asked.values() if each is not None]) >= 14
    for button, step in asked.items():
        if step is None:
            assert button.partition(": ")[2] in HARMLESS, button
            continue
        assert re.search(r"\d+ hosts?\b|No (new )?host", step["text"]), button
        assert "To undo it:" in step["text"], button
        assert step["ready"] is False, button
        assert step["focus"] == ("" if step["asks"] else "Cancel"), button


def _fill(browser: Browser, page: str) -> None:
    """Fill in the fields without which a form does nothing."""
    needed = {"blocks": (("new", "198.51.100.9"), ("list", "198.51.100.9")), "access": (("name", "someone-else"),),
              "policies/groups/web": (("priority", "7"),)}  # fmt: skip
    of_host = (("tags", "web"),) if page.startswith("agents/") else ()
    for name, value in (*needed.get(page, ()), *of_host):
        set_field(browser, name, value, "form")


def _press(browser: Browser, label: str) -> dict[str, Any] | None:
    """Press a button twice, as a double click does; return the second step, None where there is none."""
    script = """
        const [label] = arguments;
        const press = () => [...document.querySelectorAll("main button")].find((each) => each.textContent === label);
        press()?.click();
        return new Promise((resolve) => {
            const begun = performance.now();
            const look = () => {
                const dialog = document.querySelector("dialog");
                if (!dialog && performance.now() - begun < 1500) { setTimeout(look, 10); return; }
                if (!dialog) { resolve(null); return; }
                const danger = dialog.querySelector("button.danger");
                const ready = !danger.disabled;
                danger.click();
                const focus = document.activeElement.closest("dialog button")?.textContent ?? "";
                resolve({ text: dialog.innerText, ready, focus, asks: !!dialog.querySelector("input") });
            };
            look();
        });
    """
    found: dict[str, Any] | None = browser.run(script, label)
    return found


def _only_asks(request: tuple[str, str, str]) -> bool:
    """Return whether a request by another method than GET changes nothing: a dry run or a comparison."""
    method, url, body = request
    return "dry_run=true" in url or '"dryRun":true' in body or (method == "POST" and url.endswith("/api/policies/diff"))


@pytest.mark.long("tests/integration/api/test_console.py")
def test_it_never_shows_a_time_without_its_zone(served: Served, browser: Browser) -> None:
    """On every page: whatever looks like a time of day is an element that names the zone and has UTC on hover."""
    _attacked(served)
    sign_in(browser, served.url)
    script = """
        const times = [...document.querySelectorAll("time")].map((each) => [each.textContent, each.title]);
        const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
        const bare = [];
        while (walker.nextNode()) {
            const node = walker.currentNode;
            const exempt = "time, script, style, code, textarea, option, [data-clock]";
            if (/\\b\\d{1,2}:\\d{2}\\b/.test(node.data) && !node.parentElement.closest(exempt)) bare.push(node.data);
        }
        return [times, bare];
    """
    seen = 0
    for page in (*PAGES, *_inner(served)):
        _show(browser, page)
        times, bare = browser.run(script)
        assert bare == [], page
        assert [each for each in times if not each[1].endswith("(UTC)") or not re.search("UTC|GMT", each[0])] == []
        seen += len(times)
    assert seen > 10


def test_it_never_has_a_button_that_lifts_everything(served: Served, browser: Browser) -> None:
    """Each Lift stands in the row of its address and lifts that one; the others stay."""
    _attacked(served, ADDRESS, "203.0.113.8", "203.0.113.9")
    sign_in(browser, served.url)
    go(browser, "blocks", "203.0.113.8")
    rows = """
        return [...document.querySelectorAll("main table.records tbody tr")].map((row) =>
            [row.cells[0].querySelector("a").innerText,
             [...row.querySelectorAll("button")].map((each) => each.textContent)]);
    """
    found = browser.run(rows)
    assert {value for value, _ in found} == {ADDRESS, "203.0.113.8", "203.0.113.9"}
    assert all(buttons == ["Lift\u2026"] for _, buttons in found)
    lifts = [each for each in browser.run(BUTTONS) if re.search("lift|all|every", each, re.IGNORECASE)]
    assert lifts == ["Lift\u2026"] * len(found)
    press = """
        const rows = [...document.querySelectorAll("main tr")];
        rows.find((row) => row.innerText.startsWith(arguments[0])).querySelector("button").click()
    """
    browser.run(press, "203.0.113.8")
    asked = second_step(browser)
    assert "203.0.113.8 is unblocked" in asked
    assert ADDRESS not in asked
    click(browser, "Lift 203.0.113.8", "dialog")
    eventually(lambda: "203.0.113.8 is lifted" in page_text(browser), what="the lift")
    with served.bench() as bench:
        left = {value for (value,) in bench.rows("SELECT DISTINCT value FROM emergency_entry WHERE kind = 'ip'")}
    assert left == {ADDRESS, "203.0.113.9"}


@pytest.mark.long("tests/integration/api/test_console.py")
def test_it_never_hides_the_evidence_that_an_action_rests_on(served: Served, browser: Browser) -> None:
    """The second step shows it, wide and narrow, and breaks no rule of axe-core: of undo, lift, and *it was me*."""
    _attacked(served)
    sign_in(browser, served.url)
    incident, threat, _ = _inner(served)
    why = """
        const line = document.querySelector("dialog .why");
        const box = line.getBoundingClientRect();
        const hit = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
        return [line.checkVisibility() && box.bottom <= innerHeight && line.contains(hit), line.innerText];
    """
    expected = {
        (incident, "Undo the response"): r"(brute_force|login_after_failures) on web-\d, .+UTC",
        (incident, "Acknowledge"): r"(brute_force|login_after_failures) on web-\d, .+UTC",
        ("blocks", "Lift"): "agents were attacked from this address, .+UTC",
        (threat, "It was me"): "login_after_failures on web-1, user deploy, from 203.0.113.7, .+UTC",
        ("now", "It was me"): "login_after_failures on web-1, user deploy, from 203.0.113.7, .+UTC",
    }
    for width in (1400, 400):
        browser.emulate(width, "dark")
        for (page, label), evidence in expected.items():
            _show(browser, page)
            click(browser, label, "main")
            second_step(browser)
            seen, text = browser.run(why)
            assert seen, (page, label, width)
            assert re.search(evidence, text), text
            assert faults(browser) == [], (page, label, width)


def test_it_never_lets_operators_block_where_they_sit(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """By itself, within a network and in an import: the console says so, and the API refuses it all the same."""
    proxied, profile = ClientAddresses(proxies=["127.0.0.1"]), tmp_path_factory.mktemp("own")
    with Served(tmp_path, client_addresses=proxied, rate_limit=0) as served, Browser(profile) as own:
        with served.bench() as bench:
            trusted(bench, "web-1")
        own.add_header("X-Forwarded-For", OPERATOR)
        sign_in(own, served.url)
        go(own, "blocks", "No address is blocked")
        before = _state(served)[1]
        error = "return document.querySelector('main .error')?.innerText ?? ''"
        for value in (OPERATOR, "203.0.113.0/24", f"::ffff:{OPERATOR}"):
            set_field(own, "new", value)
            click(own, "Block", "form")
            eventually(lambda: "the address that you ask from" in own.run(error), what=value)
            own.run("document.querySelector('main .error').textContent = ''")
        set_field(own, "list", f"198.51.100.9\n{OPERATOR}", "form[name=import]")
        click(own, "Check", "form[name=import]")
        eventually(lambda: "1 are refused" in page_text(own), what="the import")
        assert "the address that you ask from" in page_text(own)
        with served.client() as admin:
            for value in (OPERATOR, "203.0.113.0/24"):
                answer = admin.post("/api/blocks", json={"value": value}, headers={"X-Forwarded-For": OPERATOR})
                assert answer.status_code == 409
        assert _state(served)[1] == before == [(0,)]


def test_it_never_acts_on_what_has_changed_without_asking(served: Served, browser: Browser) -> None:
    """Neither on a page that was opened long ago, nor in a second step that was left open."""
    _attacked(served)
    sign_in(browser, served.url)
    incident, threat, _ = _inner(served)
    with served.client() as admin:
        go(browser, incident, "Undo the response")
        click(browser, "Undo the response", "main")
        assert "has changed" not in second_step(browser)
        admin.post(f"/api/{incident}/close")
        click(browser, "Withdraw on", "dialog")
        script = "return document.querySelector('dialog .notice')?.innerText ?? ''"
        eventually(lambda: "workState is closed, was new" in browser.run(script), what="the change")
        with served.bench() as bench:
            assert bench.rows(BLOCKS) != [(0,)]
        click(browser, "Withdraw on", "dialog")
        eventually(lambda: not browser.run("return document.querySelector('dialog')"), what="the undo")
        with served.bench() as bench:
            assert bench.rows(BLOCKS) == [(0,)]
        click(browser, "Acknowledge", "main")
        second_step(browser)
        browser.run("document.querySelector('nav a').click()")
        eventually(lambda: not browser.run("return document.querySelector('dialog')"), what="no step of another page")
        go(browser, threat, "It was me")
        click(browser, "It was me", "main")
        second_step(browser)
        admin.post(f"/api/{threat}/recognize")
        click(browser, "It was me", "dialog")
        eventually(lambda: "admin says that it was their own doing" in browser.run(script), what="the change")
