"""The console in a real browser: signs in, shows the fleet under attack, and acts by a second step only."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from schemas import topics
from tests.integration.api.console_steps import click, faults, give, go, page_text, second_step, set_field, sign_in
from tests.integration.api.served import ADMIN_TOKEN, LOOPBACK, Served
from tests.support.attacks import attack, trusted
from tests.support.browser import Browser
from tests.support.simulated import SimulatedAgent
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import eventually

pytestmark = pytest.mark.chromium

PAGES = ("now", "agents", "incidents", "threats", "blocks", "policies", "notifications", "access", "audit")
ADDRESS = "203.0.113.7"
HOSTILE = '<img src=x onerror="window.ran=true"><script>window.ran=true</script>\u202egnp.exe ' + "A" * 10_000


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as running:
        yield running


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with Served(tmp_path, client_addresses=LOOPBACK, rate_limit=0) as running:
        yield running


def _token(served: Served, role: str, name: str | None = None) -> str:
    with served.client() as admin:
        return str(admin.post("/api/access", json={"name": name or role, "role": role}).json()["data"]["token"])


def _attacked(served: Served) -> list[SimulatedAgent]:
    with served.bench() as bench:
        agents = trusted(bench, "web-1", "web-2", "web-3", organization_id="acme")
        attack(bench, *agents, sourceIp=ADDRESS)
        bench.pass_time(1)
    return agents


def _report(served: Served, agent: SimulatedAgent, **threat: Any) -> None:
    with served.bench() as bench:
        report = json.loads(agent.threat(bench.wall))
        report["threat"] |= threat
        del report["mac"]
        body = json.dumps(report, separators=(",", ":")).encode()
        bench.receive(topics.THREATS, agent.agent_id, agent.coded(topics.THREATS, body))
        bench.pass_time(1)


def test_a_wrong_token_is_told_and_a_right_one_opens_every_page(served: Served, browser: Browser) -> None:
    """From this manager alone, without one violation of the page's policy."""
    _attacked(served)
    browser.open(f"{served.url}/")
    eventually(lambda: "Sign in" in page_text(browser), what="the sign-in")
    give(browser, "wrong")
    eventually(lambda: "Unauthorized" in page_text(browser), what="an error")
    browser.complaints()  # Chromium names the 401 of the sign-in
    sign_in(browser, served.url)
    for page in PAGES:
        text = go(browser, page, page.capitalize())
        eventually(lambda: browser.run("return document.querySelectorAll('.error').length") == 0, what=page)
        assert not any(each in text for each in ("[object", "undefined", "NaN"))
    refused = [each for each in browser.complaints() if "401" not in each]
    assert refused == []
    assert {each.split("/")[2] for each in browser.requests() if each.startswith("http")} <= {served.url.split("/")[2]}


def test_the_first_screen_says_who_may_be_in(served: Served, browser: Browser) -> None:
    """At once, with host, user, source and time; before that it says that nobody got in."""
    agents = _attacked(served)
    sign_in(browser, served.url)
    go(browser, "now", "Nobody got in")
    evidence = {"sourceIp": "203.0.113.9", "user": "deploy"}
    _report(served, agents[0], type="login_after_failures", severity="critical", evidence=evidence)
    text = eventually(lambda: "Somebody may be in" in page_text(browser) and page_text(browser), what="a verdict")
    sentence = next(line for line in text.splitlines() if line.startswith("Somebody"))
    assert "web-1, user deploy, from 203.0.113.9" in sentence
    assert "UTC" in sentence or "GMT" in sentence


def test_it_was_me_is_said_by_a_second_step_and_taken_back(served: Served, browser: Browser) -> None:
    """The first screen says that nobody got in, the threat who said so; the block is lifted if that is asked."""
    agents = _attacked(served)
    evidence = {"sourceIp": ADDRESS, "user": "deploy"}
    _report(served, agents[0], type="login_after_failures", severity="critical", evidence=evidence)
    sign_in(browser, served.url, _token(served, "responder", "oncall"))
    go(browser, "now", "Somebody may be in")
    click(browser, "It was me", "main")
    asked = second_step(browser)
    assert "login_after_failures on web-1, user deploy, from 203.0.113.7" in asked
    assert "No host is touched" in asked
    assert "Also lift 3 blocks of 203.0.113.7 in acme (3 hosts)" in asked
    assert "To undo it" in asked
    set_field(browser, "lift", value=True, within="dialog")
    set_field(browser, "note", "mistyped", "dialog")
    click(browser, "It was me", "dialog")
    eventually(lambda: "Nobody got in" in page_text(browser), what="the sentence")
    with served.bench() as bench:
        assert bench.rows("SELECT count(*) FROM emergency_entry WHERE value = '203.0.113.7'") == [(0,)]
        actions = "SELECT actor, action FROM audit_entry WHERE action IN ('block.lift', 'threat.recognize') ORDER BY id"
        assert bench.rows(actions) == [("oncall", "block.lift"), ("oncall", "threat.recognize")]
    go(browser, "threats?recognized=true", "of oncall")
    browser.run("document.querySelector('main a[href^=\"#/threats/\"]').click()")
    eventually(lambda: "says that it was their own doing" in page_text(browser), what="who said so")
    assert "mistyped" in page_text(browser)
    click(browser, "It was not me", "main")
    click(browser, "It was not me", "dialog")
    eventually(lambda: "Own doing\tnobody" in page_text(browser), what="taken back")
    go(browser, "now", "Somebody may be in")


def test_an_incident_appears_and_is_undone_by_a_second_step(served: Served, browser: Browser) -> None:
    """The list says how many are new and moves nothing; the first click changes nothing, the second withdraws."""
    sign_in(browser, served.url)
    go(browser, "incidents", "No incident matches")
    _attacked(served)
    eventually(lambda: "new: show" in page_text(browser), what="new incidents")
    assert ADDRESS not in page_text(browser)
    click(browser, "2 new")
    eventually(lambda: ADDRESS in page_text(browser), what="the incident")
    script = "[...document.querySelectorAll('main a')].find((each) => each.textContent.includes(arguments[0])).click()"
    browser.run(script, ADDRESS)
    eventually(lambda: "How the response spread" in page_text(browser), what="the incident's page")
    click(browser, "Undo the response")
    text = second_step(browser)
    assert "3 hosts" in text
    assert "To undo it" in text
    assert "It rests on: brute_force on web-" in text
    with served.bench() as bench:
        assert bench.rows("SELECT count(*) FROM emergency_entry WHERE value = '203.0.113.7'") != [(0,)]
    click(browser, "Withdraw on 3 hosts", "dialog")

    def withdrawn() -> bool:
        with served.bench() as bench:
            return bench.rows("SELECT count(*) FROM emergency_entry WHERE value = '203.0.113.7'") == [(0,)]

    eventually(withdrawn, what="no block of the address")
    with served.bench() as bench:
        assert bench.rows("SELECT actor FROM audit_entry WHERE action = 'incident.undo'") == [("admin",)]


def test_an_address_is_blocked_and_lifted_by_hand(served: Served, browser: Browser) -> None:
    """Each with its number of hosts first; what may not be blocked is refused with the manager's own sentence."""
    with served.bench() as bench:
        trusted(bench, "web-1")
    sign_in(browser, served.url)
    go(browser, "blocks", "No address is blocked")
    fill = "const i = document.querySelector('input[name=new]'); i.value = arguments[0]; i.form.requestSubmit()"
    browser.run(fill, "127.0.0.1")
    eventually(lambda: browser.run("return document.querySelector('main .error')?.innerText"), what="a refusal")
    browser.run(fill, "203.0.113.9")
    click(browser, "Block 203.0.113.9", "dialog")
    eventually(lambda: "enforced by 0 of 1" in page_text(browser), what="the block")
    click(browser, "Lift", "table")
    assert "1 block, on at most 1 host" in second_step(browser)
    click(browser, "Lift 203.0.113.9", "dialog")
    eventually(lambda: "No address is blocked" in page_text(browser), what="no block")


def test_what_an_attacker_writes_is_text_everywhere(served: Served, browser: Browser) -> None:
    """Markup, marks of direction and 10,000 characters in evidence make no element and run nothing."""
    agents = _attacked(served)
    evidence = {"sourceIp": ADDRESS, "user": HOSTILE[:1000], "note": HOSTILE}
    _report(served, agents[0], type="login_after_failures", severity="critical", evidence=evidence)
    sign_in(browser, served.url)
    threat = ""
    for page, expected in (("now", "Somebody may be in"), ("threats", "login_after_failures"), ("incidents", ADDRESS)):
        go(browser, page, expected)
        threat = threat or str(browser.run("return document.querySelector('main a[href^=\"#/threats/\"]')?.hash ?? ''"))
    assert "<img src=x" in go(browser, threat.removeprefix("#/"), "note")
    assert browser.run("return document.querySelectorAll('main img, main script').length") == 0
    assert browser.run("return window.ran === undefined")
    assert "\u202e" not in page_text(browser)
    assert [each for each in browser.complaints() if "401" not in each] == []


def test_a_page_that_hears_nothing_says_so_and_comes_back(served: Served, browser: Browser) -> None:
    """Grey, with the time since when; live again it has what happened meanwhile."""
    agents = _attacked(served)
    with TcpProxy(served.server.port) as proxy:
        sign_in(browser, f"http://127.0.0.1:{proxy.port}")
        go(browser, "now", "Nobody got in")
        with proxy.holding(to_server=True, to_client=True):
            eventually(lambda: browser.run("return document.body.dataset.live") == "lost", what="not live")
            assert "not live since" in browser.run("return document.getElementById('live').innerText")
            assert browser.run("return getComputedStyle(document.querySelector('main')).filter") == "grayscale(1)"
        proxy.cut()
        _report(served, agents[0], type="login_after_failures", severity="critical")
        eventually(lambda: browser.run("return document.body.dataset.live") == "live", what="live again")
        eventually(lambda: "Somebody may be in" in page_text(browser), what="what happened meanwhile")


def test_roles_hide_what_they_forbid(served: Served, browser: Browser) -> None:
    """A viewer sees the same pages without a button that changes anything; the API refuses it all the same."""
    _attacked(served)
    sign_in(browser, served.url, _token(served, "viewer"))
    for page, expected in (("blocks", ADDRESS), ("policies", "Policies"), ("access", "Access")):
        go(browser, page, expected)
        assert browser.run("return document.querySelectorAll('main .danger').length") == 0
    status = browser.run(
        "return fetch('/api/blocks?value=203.0.113.7', {method: 'DELETE'}).then((answer) => answer.status)"
    )
    assert status == 403


def test_the_session_cannot_be_read_by_a_script(served: Served, browser: Browser) -> None:
    """Neither the cookie nor the token is anywhere in the page or its storage."""
    sign_in(browser, served.url)
    assert browser.run("return document.cookie") == ""
    assert browser.run("return JSON.stringify([localStorage, sessionStorage])") == "[{},{}]"
    assert ADMIN_TOKEN not in browser.run("return document.documentElement.outerHTML")


def test_a_revoked_token_ends_the_page(served: Served, browser: Browser) -> None:
    """The page leads back to the sign-in, though nobody touches it."""
    sign_in(browser, served.url, _token(served, "viewer"))
    with served.client() as admin:
        admin.delete("/api/access/viewer")
    eventually(lambda: "The session has ended" in page_text(browser), what="the sign-in")


def test_the_console_is_small_and_all_of_it_is_served(served: Served) -> None:
    """Under 300 KB in all, each file with its type, its policy and an ETag; nothing beside its folder."""
    folder = Path(__file__).parents[3] / "manager" / "console"
    files = [each for each in folder.rglob("*") if each.suffix in {".html", ".css", ".js"}]
    assert sum(each.stat().st_size for each in files) < 300_000
    with served.client(None) as anybody:
        for each in files:
            answer = anybody.get(f"/console/{each.relative_to(folder).as_posix()}")
            assert answer.content == each.read_bytes()
            assert "require-trusted-types-for 'script'" in answer.headers["content-security-policy"]
            again = anybody.get(answer.url.path, headers={"If-None-Match": answer.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")
        for path in ("/console/__init__.py", "/console/../errors.py", "/console/%2e%2e/errors.py", "/console/", "/x"):
            assert anybody.get(path).status_code == 404


def test_no_page_has_a_fault_that_keeps_people_out(served: Served, browser: Browser) -> None:
    """No page breaks a rule of axe-core, in light and dark, wide and narrow."""
    agents = _attacked(served)
    _report(served, agents[0], type="login_after_failures", severity="critical", evidence={"sourceIp": ADDRESS})
    _token(served, "viewer")
    with served.client() as admin:
        admin.put("/api/policies/global", json={"blocklist": {"ips": [{"value": "198.51.100.1"}]}})
        incident = admin.get("/api/incidents").json()["data"][0]["id"]
        threat = admin.get("/api/threats").json()["data"][0]["id"]
    browser.open(f"{served.url}/")
    eventually(lambda: "Sign in" in page_text(browser), what="the sign-in")
    found = {"sign-in": faults(browser)}
    sign_in(browser, served.url)
    inner = (f"agents/{agents[0].agent_id}", f"incidents/{incident}", f"threats/{threat}")
    for page in (*PAGES, *inner):
        browser.run("location.hash = arguments[0]", f"#/{page}")
        eventually(lambda: browser.run("return document.querySelectorAll('main h1').length") == 1, what=page)
        for width, scheme in ((1400, "light"), (400, "dark")):
            browser.emulate(width, scheme)
            found[f"{page} {width} {scheme}"] = faults(browser)
    assert {page: faults for page, faults in found.items() if faults} == {}


def test_every_action_is_reached_by_the_keyboard(served: Served, browser: Browser) -> None:
    """Whatever can be clicked is a link, a button or a field, and none is taken out of the order of the tab key."""
    _attacked(served)
    sign_in(browser, served.url)
    script = """
        const fields = "a[href], button, input, select, textarea";
        return [...document.querySelectorAll("body *")]
            .filter((each) => getComputedStyle(each).cursor === "pointer")
            .filter((each) => !each.closest(fields + ", label") || each.matches(fields) && each.tabIndex < 0)
            .map((each) => each.outerHTML);
    """
    for page in PAGES:
        go(browser, page, page.capitalize())
        assert browser.run(script) == []
    browser.run("location.hash = '#/blocks'")
    click(browser, "Lift", "table")
    script = "return !!document.querySelector('dialog')?.contains(document.activeElement)"
    eventually(lambda: browser.run(script), what="the second step has the focus")


def test_the_second_step_says_what_has_changed_since_the_page_was_read(served: Served, browser: Browser) -> None:
    """A page that was opened yesterday acts on nothing that is not so any more, without a word."""
    with served.bench() as bench:
        trusted(bench, "web-1")
    with served.client() as admin:
        admin.post("/api/blocks", json={"value": "203.0.113.9"})
        sign_in(browser, served.url)
        go(browser, "blocks", "203.0.113.9")
        assert admin.delete("/api/blocks?value=203.0.113.9").status_code == 200
    click(browser, "Lift", "table")
    text = second_step(browser)
    assert "changed since you looked: it is not blocked any more" in text


def test_no_time_stands_without_its_zone(served: Served, browser: Browser) -> None:
    """Each is in the reader's zone, which is named, and has the UTC time on hover."""
    _attacked(served)
    sign_in(browser, served.url)
    script = "return [...document.querySelectorAll('time')].map((each) => [each.textContent, each.title])"
    for page, expected in (("incidents", ADDRESS), ("threats", "brute_force"), ("blocks", ADDRESS), ("audit", "admin")):
        go(browser, page, expected)
        times = browser.run(script)
        assert times
        assert [each for each in times if "(UTC)" not in each[1] or not ("UTC" in each[0] or "GMT" in each[0])] == []


def test_a_page_of_another_origin_can_do_nothing_with_the_session(
    served: Served, browser: Browser, dashboard: str
) -> None:
    """Neither read, nor change, nor follow the stream, though the browser of a signed-in operator shows the page."""
    with served.bench() as bench:
        trusted(bench, "web-1")
    sign_in(browser, served.url)
    tries = """
        const manager = arguments[0];
        const outcome = (promise) => promise.then((answer) => String(answer.status), () => "unreadable");
        const stream = new Promise((resolve) => {
            const source = new EventSource(manager + "/api/events/stream", {withCredentials: true});
            source.onopen = () => resolve("open"); source.onerror = () => { source.close(); resolve("refused"); };
        });
        const body = JSON.stringify({value: "203.0.113.9"});
        return Promise.all([
            outcome(fetch(manager + "/api/agents", {credentials: "include"})),
            outcome(fetch(manager + "/api/session", {credentials: "include"})),
            outcome(fetch(manager + "/api/blocks", {method: "POST", credentials: "include", body,
                headers: {"Content-Type": "application/json"}})),
            outcome(fetch(manager + "/api/blocks", {method: "POST", credentials: "include", mode: "no-cors", body})),
            stream,
        ]);
    """
    browser.open(dashboard)  # of the same host, so the browser sends the cookie
    found = browser.run(tries, served.url)
    assert found[:3] == ["unreadable"] * 3
    assert found[4] == "refused"
    with served.bench() as bench:
        assert bench.rows("SELECT count(*) FROM emergency_entry") == [(0,)]


def test_the_keyboard_walks_the_list_of_agents_while_their_states_change(served: Served, browser: Browser) -> None:
    """The focus stays in its row when the list scrolls under it and when its host falls silent; groups are a choice."""
    with served.bench() as bench:
        agents = trusted(bench, *(f"host-{number:03}" for number in range(120)))
    with served.client() as admin:
        admin.patch(f"/api/agents/{agents[7].agent_id}", json={"tags": ["web"]}).raise_for_status()
        admin.put("/api/policies/groups/web", json={"selector": {"tagsAll": ["web"]}, "priority": 1, "policy": {}})
    sign_in(browser, served.url)
    go(browser, "agents", "120 of 120 agents")
    browser.run("document.querySelector('.rows').focus()")
    focus = "return document.activeElement.querySelector('span')?.textContent ?? document.activeElement.outerHTML"
    for number in range(60):
        browser.press("\ue004")
        eventually(lambda number=number: browser.run(focus) == f"host-{number:03}", what=f"the focus on {number}")
    assert browser.run("return document.querySelectorAll('.rows .row').length") < 80
    with served.bench() as bench:
        bench.pass_time(200)
    state = "return document.activeElement.children[1].textContent"
    eventually(lambda: browser.run(state) == "stale", what="a stale host")
    assert browser.run(focus) == "host-059"
    set_field(browser, "group", "web", "main")
    eventually(lambda: "1 of 1 agents" in page_text(browser), what="the group's hosts")
    assert "host-007" in page_text(browser)


def test_an_agents_page_draws_its_vitals_over_time(served: Served, browser: Browser) -> None:
    """Lines for CPU and memory, ended by a gap, with the same numbers in a table that opens on demand."""
    with served.bench() as bench:
        (agent,) = trusted(bench, "web-1")
        bench.pass_time(900 - bench.wall % 900, step=300)
        for cpu, pause in ((12.5, 900), (80.0, 2700), (40.0, 12)):
            beat = agent.heartbeat(bench.wall, cpu=cpu, memory=50.0, events_total=int(cpu))
            bench.receive(topics.HEARTBEAT, agent.agent_id, beat)
            bench.pass_time(pause, step=6)
    sign_in(browser, served.url)
    go(browser, f"agents/{agent.agent_id}", "Vitals of the last 24 hours")
    eventually(lambda: "The numbers" in page_text(browser), what="the chart")
    lines = browser.run(
        "return [...document.querySelectorAll('main svg polyline.enforced')].map((each) => each.points.length)"
    )
    assert lines == [3, 2]  # it has beaten in the period before, and a line of one point has it twice
    browser.run(
        "[...document.querySelectorAll('main summary')].find((each) => each.textContent === 'The numbers').click()"
    )
    eventually(lambda: "12.5 %" in page_text(browser) and "80 %" in page_text(browser), what="the table")
    assert browser.run("return document.querySelectorAll('main svg[role=img]').length") >= 1
