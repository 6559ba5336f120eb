"""The console's event stream in a real browser: a connection that is dead without a word is given up."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.api.served import ADMIN_TOKEN, LOOPBACK, Served
from tests.support.browser import Browser
from tests.support.staged_nights import Night, blocked
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import eventually

pytestmark = pytest.mark.chromium


@pytest.fixture
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as running:
        yield running


def test_a_connection_that_is_dead_without_a_word_is_made_anew(tmp_path: Path, browser: Browser) -> None:
    """As after a change of networks: the page says that it is not live, comes back by itself, and missed nothing."""
    with Served(tmp_path, client_addresses=LOOPBACK, rate_limit=0) as served, TcpProxy(served.server.port) as proxy:
        with served.bench() as bench:
            night = Night(bench, 3)
        browser.open(f"http://127.0.0.1:{proxy.port}/")
        eventually(lambda: browser.run("return !!document.getElementById('token')"), what="the sign-in")
        give = "const i = document.getElementById('token'); i.value = arguments[0]; i.form.requestSubmit()"
        browser.run(give, ADMIN_TOKEN)
        eventually(lambda: "Nobody got in" in browser.run("return document.body.innerText"), what="the first screen")
        eventually(lambda: browser.run("return document.body.dataset.live") == "live", what="a live page")
        proxy.strand()
        eventually(lambda: browser.run("return document.body.dataset.live") == "lost", what="not live")
        with served.bench() as bench:
            evidence = {"sourceIp": "203.0.113.9", "user": "deploy"}
            night.report("web-1", "login_after_failures", "critical", blocked("203.0.113.9"), **evidence)
            bench.pass_time(1)
        eventually(lambda: browser.run("return document.body.dataset.live") == "live", 120, what="live again")
        eventually(lambda: "Somebody may be in" in browser.run("return document.body.innerText"), 120, what="the login")
