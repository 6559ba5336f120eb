"""The console's page of threats in a real browser: the form of its search."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.api.console_steps import click, faults, go, set_field, sign_in
from tests.integration.api.served import LOOPBACK, Served
from tests.support.attacks import attack, trusted
from tests.support.browser import Browser
from tests.support.waiting import eventually

pytestmark = pytest.mark.chromium


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as running:
        yield running


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with Served(tmp_path, client_addresses=LOOPBACK, rate_limit=0) as running:
        yield running


def _searched(browser: Browser, address: str, expected: set[str]) -> None:
    """Wait for the page of a search with these hosts."""
    hosts = "return [...document.querySelectorAll('main td:nth-child(2)')].map((each) => each.textContent)"
    eventually(lambda: browser.run("return location.hash") == address, what="the search")
    ready = "return !document.querySelector('main[aria-busy]')"
    eventually(lambda: browser.run(ready) and set(browser.run(hosts)) == expected, what=f"the hosts of {address}")


def test_severity_and_own_doing_are_chosen_from_what_the_manager_takes(served: Served, browser: Browser) -> None:
    """Each choice is a search that the manager answers, and is still chosen on the page of its result."""
    with served.bench() as bench:
        attack(bench, *trusted(bench, "web-1", "web-2"))
        bench.pass_time(1)
    with served.client() as admin:
        first, second = admin.get("/api/threats").json()["data"]
        assert first["severity"] == "medium"
        assert admin.post(f"/api/threats/{first['id']}/recognize").status_code == 200
    sign_in(browser, served.url)
    go(browser, "threats", "brute_force")
    choices = "return [...document.querySelectorAll(`select[name=${arguments[0]}] option`)].map((each) => each.value)"
    assert browser.run(choices, "severity") == ["", "low", "medium", "high", "critical"]
    assert browser.run(choices, "recognized") == ["", "true", "false"]
    assert "\n".join(faults(browser)) == ""
    chosen = "return document.querySelector(`[name=${arguments[0]}]`)?.value"
    searches: tuple[tuple[str, str, set[str]], ...] = (
        ("severity", "medium", {first["hostname"], second["hostname"]}),
        ("severity", "critical", set()),
        ("recognized", "true", {first["hostname"]}),
        ("recognized", "false", {second["hostname"]}),
    )
    for name, value, expected in searches:
        browser.run("location.hash = '#/nothing'")
        go(browser, "threats", "brute_force")
        set_field(browser, name, value)
        click(browser, "Search", "main")
        address = f"#/threats?{name}={value}"
        _searched(browser, address, expected)
        assert browser.run(chosen, name) == value
    browser.run("location.hash = '#/threats?recognized=yes'")  # the manager takes it, and it is none of the choices
    eventually(lambda: browser.run(chosen, "recognized") == "yes", what="the search of the address")
