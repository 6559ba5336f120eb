"""The first screen of three staged nights, in a real browser: did anybody get in, did we cut anyone off, what waits."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.api.console_steps import faults
from tests.integration.api.served import ADMIN_TOKEN, Served
from tests.support import staged_nights
from tests.support.browser import Browser
from tests.support.waiting import eventually

pytestmark = pytest.mark.chromium

PHONE_HEIGHT = 800


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as running:
        yield running


def _first_screen(served: Served, browser: Browser) -> dict[str, str]:
    """Return the texts of the first screen by line, `verdict` among them, as a phone shows them."""
    browser.open(f"{served.url}/")
    browser.emulate(400, "dark")
    eventually(lambda: browser.run("return !!document.getElementById('token')"), what="the sign-in")
    give = "const i = document.getElementById('token'); i.value = arguments[0]; i.form.requestSubmit()"
    browser.run(give, ADMIN_TOKEN)
    script = """
        const lines = [...document.querySelectorAll("[data-line], [data-verdict]")];
        return Object.fromEntries(lines.map((each) => [each.dataset.line ?? "verdict", each.innerText]));
    """
    return dict(eventually(lambda: browser.run(script), what="the first screen"))


def _height(browser: Browser) -> int:
    script = "return document.querySelector('[data-line=\"dealt with\"]').getBoundingClientRect().bottom"
    return int(browser.run(script))


def _zeros(lines: dict[str, str]) -> set[str]:
    return {name for name in ("got in", "we hurt", "waits for you", "we are blind") if lines[name] == f"{name}: 0"}


def test_a_quiet_night_says_that_nobody_got_in_and_nothing_waits(tmp_path: Path, browser: Browser) -> None:
    """All four lines are zero, and what was dealt with is a number; a phone shows it without scrolling."""
    with staged_nights.staged(tmp_path, "quiet", 30, time.time()) as (served, _):
        lines = _first_screen(served, browser)
        assert lines["verdict"].startswith("Nobody got in.")
        assert _zeros(lines) == {"got in", "we hurt", "waits for you", "we are blind"}
        assert "reports from 40 addresses" in lines["dealt with"]
        assert _height(browser) <= PHONE_HEIGHT
        assert faults(browser) == []


def test_a_night_with_a_login_names_host_user_source_and_time(tmp_path: Path, browser: Browser) -> None:
    """In the sentence itself, with a link to what it rests on; a phone shows it all without scrolling."""
    with staged_nights.staged(tmp_path, "login", 30, time.time()) as (served, _):
        lines = _first_screen(served, browser)
        assert lines["verdict"].startswith("Somebody may be in: db-1, user deploy, from 203.0.113.9, ")
        assert "(60 min ago)" in lines["verdict"] or "(61 min ago)" in lines["verdict"]
        assert lines["got in"].startswith("got in: 1 to check")
        assert (
            "login on db-1 after 12 failed attempts: 203.0.113.9 is slowed down there, not blocked" in lines["got in"]
        )
        assert lines["got in"].endswith("block it")
        assert _zeros(lines) == {"we hurt", "waits for you", "we are blind"}
        opened = "return document.querySelector('.verdict a[href^=\"#/threats/\"]').textContent"
        assert browser.run(opened) == "open"
        assert _height(browser) <= PHONE_HEIGHT
        assert faults(browser) == []


def test_a_night_that_hurt_names_who_was_cut_off_what_waits_and_who_is_silent(tmp_path: Path, browser: Browser) -> None:
    """And it does not say that nobody got in without saying that one host cannot tell."""
    with staged_nights.staged(tmp_path, "hurt", 30, time.time()) as (served, _):
        lines = _first_screen(served, browser)
        assert lines["verdict"].startswith("Nobody got in, as far as is seen: mail-1 cannot tell.")
        assert (
            "198.51.100.20 on web-3: cut 2 of its connections, to services that it had not attacked" in lines["we hurt"]
        )
        assert "203.0.113.77 on 30 hosts" in lines["waits for you"]
        assert any(f"{minutes} min left to approve it" in lines["waits for you"] for minutes in (10, 9))
        assert "1 silent (stale): mail-1" in lines["we are blind"]
        assert _zeros(lines) == {"got in"}
        assert _height(browser) <= PHONE_HEIGHT
        assert faults(browser) == []


def test_the_charts_follow_the_fleet_while_the_page_is_open(tmp_path: Path, browser: Browser) -> None:
    """A figure that was read an hour ago stands nowhere; a table that the reader has opened stays open."""
    with staged_nights.staged(tmp_path, "quiet", 10, time.time()) as (served, night):
        _first_screen(served, browser)
        numbers = "return document.querySelector('.charts details tbody')?.innerText ?? ''"
        eventually(
            lambda: "10" in browser.run("return document.querySelector('.charts')?.innerText ?? ''"), what="charts"
        )
        browser.run("document.querySelector('.charts details').open = true")
        with served.bench() as bench:
            bench.enroll("new-1", organization_id="acme")
        eventually(lambda: "11" in browser.run(numbers), 120, what="the new agent in the chart's numbers")
        assert browser.run("return document.querySelector('.charts details').open")
        assert len(night.agents) == 10
