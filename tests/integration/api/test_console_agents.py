"""The list of agents in a real browser: states change in their rows, and new hosts wait until the reader asks."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.api.console_steps import click, go, page_text, sign_in
from tests.integration.api.served import LOOPBACK, Served
from tests.support.attacks import trusted
from tests.support.browser import Browser
from tests.support.waiting import eventually

pytestmark = pytest.mark.chromium


@pytest.fixture
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as running:
        yield running


def test_new_hosts_wait_behind_a_button_and_silent_ones_show_in_row_and_chart(tmp_path: Path, browser: Browser) -> None:
    """The list that the reader looks at does not move, and what it says of its hosts is of now."""
    numbers = "return document.querySelector('main figure tbody')?.textContent ?? ''"
    with Served(tmp_path, client_addresses=LOOPBACK, rate_limit=0) as served:
        with served.bench() as bench:
            trusted(bench, "web-1", "web-2")
        sign_in(browser, served.url)
        go(browser, "agents", "2 of 2 agents")
        served.enroll("web-3")
        eventually(lambda: "1 new or removed" in page_text(browser), what="a button")
        assert "web-3" not in page_text(browser)
        click(browser, "1 new or removed")
        eventually(lambda: "3 of 3 agents" in page_text(browser), what="the new agent")
        assert page_text(browser).count("web-1") == 1
        with served.bench() as bench:
            bench.pass_time(200, step=5)
        eventually(lambda: page_text(browser).count("stale") >= 3, what="silent agents in their rows")
        eventually(lambda: browser.run(numbers) == "online0stale3offline0", what="and in the chart")
