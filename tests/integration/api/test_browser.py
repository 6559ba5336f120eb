"""The API in a real browser: the reference page, and a page of another origin that watches the fleet."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas import topics
from tests.integration.api.served import ADMIN_TOKEN, LOOPBACK, Served
from tests.support.browser import Browser
from tests.support.waiting import eventually

pytestmark = pytest.mark.chromium

_WATCH = """
    const [manager, token, names] = arguments;
    window.heard = []; window.unnamed = []; window.opened = 0; let last = "";
    async function watch() {
        const asked = await fetch(manager + "/api/events/ticket",
            {method: "POST", headers: {Authorization: "Bearer " + token}});
        const ticket = (await asked.json()).data.ticket;
        const source = new EventSource(`${manager}/api/events/stream?ticket=${ticket}&lastEventId=${last}`);
        source.onopen = () => { window.opened += 1; };
        source.onmessage = (event) => window.unnamed.push(event.data);
        source.onerror = () => { source.close(); watch(); };
        for (const name of names) source.addEventListener(name, (event) => {
            last = event.lastEventId; window.heard.push([name, JSON.parse(event.data)]);
        });
    }
    watch();
"""
"""The example of docs/http.md."""

_NAMES = ("connected", "agent_registered", "agent_online", "agent_stale", "agent_offline", "threats_reported",
          "incident_opened", "policy_created")  # fmt: skip


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as running:
        yield running


@pytest.fixture
def served(tmp_path: Path, dashboard: str) -> Iterator[Served]:
    with Served(tmp_path, client_addresses=LOOPBACK, rate_limit=0, cors_origins=[dashboard]) as running:
        yield running


def test_the_reference_page_renders_from_this_host_alone(served: Served, browser: Browser) -> None:
    """Each route is a heading, the page's style is in force, one request is made and the page's policy is kept."""
    browser.open(f"{served.url}/docs")
    assert browser.requests() == [f"{served.url}/docs"]
    assert browser.complaints() == []
    assert browser.run("return document.title") == "Panguard manager 1.2.3"
    assert browser.run("return getComputedStyle(document.body).maxWidth") == "960px"
    headings = browser.run("return [...document.querySelectorAll('h2')].map(each => each.innerText)")
    with served.client() as admin:
        document = admin.get("/openapi.json").json()
    assert headings == [f"{method.upper()} {path}" for path, known in document["paths"].items() for method in known]


def test_the_reference_page_lets_nothing_else_in(served: Served, browser: Browser) -> None:
    """Neither a script nor a picture that somebody brought into the page would be taken."""
    browser.open(f"{served.url}/docs")
    browser.run(
        "const script = document.createElement('script'); script.text = 'window.ran = true';"
        "document.body.append(script);"
        "const picture = new Image(); picture.src = '/health'; document.body.append(picture);"
    )
    said: list[str] = []
    eventually(lambda: said.extend(browser.complaints()) or len(said) == 2, what="two violations on the console")
    assert all("Content Security Policy" in each for each in said)
    assert browser.run("return window.ran === undefined")
    assert served.routes_requested() == ["/docs"]


def test_a_page_of_a_named_origin_hears_each_event_under_its_name(
    served: Served, browser: Browser, dashboard: str
) -> None:
    """With a ticket it opens the stream by EventSource; cut off, it comes back by a new ticket and misses nothing."""
    served.join("before").client.close()  # what a page that names no event is not told
    browser.open(dashboard)
    browser.run(_WATCH, served.url, ADMIN_TOKEN, _NAMES)
    eventually(lambda: _heard(browser) == ["connected"], what="connected")
    agent = served.enroll("srv-01")
    with served.bench() as bench:
        bench.receive(topics.PRESENCE, agent.agent_id, agent.presence("lost", bench.wall))
        bench.pass_time(10)
        agent.session += 1
        bench.receive(topics.PRESENCE, agent.agent_id, agent.presence("online", bench.wall))
        bench.receive(topics.THREATS, agent.agent_id, agent.threat(bench.wall, sourceIp="198.51.100.7"))
        bench.pass_time(10)
    wanted = {"agent_registered", "agent_stale", "agent_online", "threats_reported"}
    eventually(lambda: wanted <= set(_heard(browser)), what="events by their names")
    assert _heard(browser)[0] == "connected"
    assert browser.run("return window.heard[1][1].agentId") == agent.agent_id
    before = _heard(browser)

    served.services.stream.close()
    served.join("srv-02").client.close()
    eventually(lambda: "agent_registered" in _heard(browser)[len(before) :], what="what happened in between")
    after = _heard(browser)[len(before) :]
    assert browser.run("return window.opened") == 2
    assert (after.count("connected"), after.count("agent_registered"), after.count("threats_reported")) == (1, 1, 0)
    assert browser.run("return window.unnamed") == []


def test_a_page_of_another_origin_is_told_nothing(tmp_path: Path, browser: Browser, dashboard: str) -> None:
    """Even with a good token: the browser keeps back the answers of a manager that does not name the page's origin."""
    ask = "return fetch(arguments[0], {headers: {Authorization: arguments[1]}}).then(a => a.status, e => e.name)"
    for name, told in ((dashboard, 200), ("https://dashboard.example", "TypeError")):
        directory = tmp_path / str(told)
        directory.mkdir()
        with Served(directory, cors_origins=[name]) as served:
            browser.open(dashboard)
            assert browser.run(ask, f"{served.url}/api/agents", f"Bearer {ADMIN_TOKEN}") == told


def _heard(browser: Browser) -> list[str]:
    return list(browser.run("return window.heard.map(each => each[0])"))
