"""The console's page of blocks in a real browser: an import is checked whole, and acts by a second step."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manager.cli.commands.block_import import addresses_in
from manager.cli.support.failures import CommandFailed
from tests.integration.api.console_steps import click, go, page_text, second_step, set_field, sign_in
from tests.integration.api.served import LOOPBACK, Served
from tests.support.attacks import trusted
from tests.support.browser import Browser
from tests.support.examples import examples
from tests.support.waiting import eventually

pytestmark = pytest.mark.chromium

MIXED = """value,reason,for
203.0.113.9,"scans, all night",7d
127.0.0.1,,
198.51.100.0/24,,1h
nonsense,,
192.0.2.7,,5 hours
203.0.113.9,the last line of an address counts,2d
"""


_ROWS = "return [...document.querySelectorAll('form[name=import] tbody tr')].map((row) => row.innerText)"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as running:
        yield running


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("store"), client_addresses=LOOPBACK, rate_limit=0) as running:
        with running.bench() as bench:
            trusted(bench, "web-1", "web-2")
            trusted(bench, "db-1", organization_id="acme")
        yield running


def _blocks(served: Served) -> dict[str, tuple[str, str, str]]:
    with served.client() as admin:
        found = admin.get("/api/blocks?target=default").json()["data"]
    return {each["value"]: (each["scope"], each["reason"], each["expiresAt"]) for each in found}


def _values(served: Served) -> list[str]:
    """Return the addresses that are blocked by hand or by incidents, in all scopes."""
    with served.bench() as bench:
        return [value for (value,) in bench.rows("SELECT value FROM emergency_entry WHERE kind = 'ip'")]


def test_an_import_says_what_is_refused_and_why_before_it_blocks_the_rest(served: Served, browser: Browser) -> None:
    """With the number of hosts in the second step; reasons and durations of the lines hold."""
    sign_in(browser, served.url)
    go(browser, "blocks", "Import")
    set_field(browser, "list", MIXED, "form[name=import]")
    set_field(browser, "scope", "organization", "form[name=import]")
    set_field(browser, "target", "default", "form[name=import]")
    set_field(browser, "importReason", "by our provider")
    click(browser, "Check", "form[name=import]")
    eventually(lambda: "Nothing is blocked so far" in page_text(browser), what="the check")
    said = page_text(browser)
    assert "5 addresses and networks: 2 can be blocked, 2 of them are not blocked there yet; 3 are refused" in said
    rows = browser.run(_ROWS)
    assert [each.split("\t")[:2] for each in rows] == [["6", "192.0.2.7"], ["3", "127.0.0.1"], ["5", "nonsense"]]
    assert "no duration" in rows[0]
    assert "the address that you ask from" in rows[1] or "loopback" in rows[1]
    assert "no address" in rows[2]
    assert _blocks(served) == {}
    click(browser, "Block the other 2", "form[name=import]")
    asked = second_step(browser)
    assert "in the organization default: on 2 hosts" in asked
    assert "To undo it: lift each" in asked
    assert _blocks(served) == {}
    click(browser, "Block 2 on 2 hosts", "dialog")
    eventually(lambda: "2 addresses and networks are blocked" in page_text(browser), what="the import")
    assert _blocks(served) == {
        "203.0.113.9": ("organization", "the last line of an address counts", "2027-01-17T08:00:00.000Z"),
        "198.51.100.0/24": ("organization", "by our provider", "2027-01-15T09:00:00.000Z"),
    }


def test_an_import_of_more_than_one_request_is_counted_as_one(served: Served, browser: Browser) -> None:
    """The manager takes 200 in a request; of two refused ones far apart each has its own line."""
    lines = [f"2001:db8:{number:x}::/48" for number in range(1, 451)]
    lines[10] = lines[440] = "::1"
    lines[440] = "fe80::1"
    sign_in(browser, served.url)
    go(browser, "blocks", "Import")
    set_field(browser, "list", "\n".join(["# ours", *lines]), "form[name=import]")
    click(browser, "Check", "form[name=import]")
    eventually(lambda: "450 addresses and networks: 448 can be blocked" in page_text(browser), what="the check")
    rows = browser.run(_ROWS)
    assert [each.split("\t")[:2] for each in rows] == [["12", "::1"], ["442", "fe80::1"]]
    click(browser, "Block the other 448", "form[name=import]")
    assert "in the whole fleet: on 3 hosts" in second_step(browser)
    click(browser, "Block 448", "dialog")
    eventually(lambda: "448 addresses and networks are blocked" in page_text(browser), what="the import")
    with served.bench() as bench:
        assert bench.rows("SELECT count(*) FROM emergency_entry WHERE value LIKE '2001:db8:%'") == [(448,)]


def test_a_block_is_added_and_lifted_by_keys_alone(served: Served, browser: Browser) -> None:
    """Escape leaves the second step and changes nothing; the focus is seen all the way, and back where it was."""
    tab, enter, escape = "\ue004", "\ue007", "\ue00c"
    sign_in(browser, served.url)
    go(browser, "blocks?value=192.0.2.99", "No block of the manager covers it")
    focus = "const e = document.activeElement; return e.name || e.textContent"

    def tab_to(wanted: str) -> None:
        for _ in range(200):
            if browser.run(focus) == wanted:
                outline = "return getComputedStyle(document.activeElement).outlineStyle"
                assert browser.run(outline) not in {"none", ""}
                return
            browser.press(tab)
        raise AssertionError(f"the tab key never comes to {wanted}")

    browser.run("document.querySelector('main').focus()")
    tab_to("new")
    tab_to("Block\u2026")
    browser.press(enter)
    second_step(browser)
    browser.press(escape)
    eventually(lambda: not browser.run("return document.querySelector('dialog')"), what="no second step")
    assert browser.run(focus) == "Block\u2026"
    assert "192.0.2.99" not in page_text(browser)
    browser.press(enter)
    second_step(browser)
    ready = "return document.querySelector('dialog .danger')?.disabled === false"
    eventually(lambda: browser.run(ready), what="the second step is ready")
    tab_to("Block 192.0.2.99")
    browser.press(enter)
    eventually(lambda: "The block of 192.0.2.99 is recorded" in page_text(browser), what="the block")
    assert "192.0.2.99" in _values(served)
    row = "return [...document.querySelectorAll('main td')].some((each) => each.textContent === 'Lift\u2026')"
    eventually(lambda: browser.run(row), what="the row of the block")
    browser.run("document.querySelector('main').focus()")
    tab_to("Lift\u2026")
    browser.press(enter)
    assert "192.0.2.99 is unblocked" in second_step(browser)
    browser.press(escape)
    eventually(lambda: not browser.run("return document.querySelector('dialog')"), what="no second step")
    assert browser.run(focus) == "Lift\u2026"
    assert "192.0.2.99" in _values(served)
    browser.press(enter)
    second_step(browser)
    eventually(lambda: browser.run(ready), what="the second step is ready")
    tab_to("Lift 192.0.2.99")
    browser.press(enter)
    eventually(lambda: "192.0.2.99 is lifted" in page_text(browser), what="the lift")
    assert "192.0.2.99" not in _values(served)


def test_what_is_no_list_is_told_and_blocks_nothing(served: Served, browser: Browser) -> None:
    """An unknown column, an empty list and an organization that nobody names."""
    sign_in(browser, served.url)
    assert "Its name" not in go(browser, "blocks", "Import")
    for given_list, scope, told in (
        ("address,port\n203.0.113.1,22", "fleet", "take other columns away"),
        ("# nothing", "fleet", "there is no address in it"),
        ("203.0.113.1", "organization", "names the organization amce"),
        ("203.0.113.1", "group", "Group amce not found"),
        ("203.0.113.1", "agentId", "no host is named amce"),
    ):
        set_field(browser, "list", given_list, "form[name=import]")
        set_field(browser, "scope", scope, "form[name=import]")
        set_field(browser, "target", "amce", "form[name=import]")
        click(browser, "Check", "form[name=import]")
        _is_told(browser, told)


def _is_told(browser: Browser, sentence: str) -> None:
    script = "return document.querySelector('form[name=import] .error')?.innerText ?? ''"
    eventually(lambda: sentence in browser.run(script), what=sentence)


def test_the_console_reads_lists_as_the_command_does(served: Served, browser: Browser) -> None:
    """Each text gives the same addresses with the same lines, reasons and durations, or is refused by both."""
    sign_in(browser, served.url)
    piece = st.sampled_from(
        ["203.0.113.1", "value", "reason", "for", "ip", " ", ",", '"', "#", "\n", "\r\n", "\u2028", "\x1c", "7d", "a"]
    )
    texts: list[str] = []

    @settings(max_examples=examples(400), database=None)
    @given(st.lists(piece, max_size=25).map("".join), st.sampled_from(["", "value,reason,for\n", "for,ip\n"]))
    def collect(text: str, header: str) -> None:
        texts.append(header + text)

    collect()
    script = """return (async (texts) => {
        const { addressesIn } = await import("/console/block_list.js");
        const read = (text, isCsv) => {
            try { return addressesIn(text, isCsv).map((l) => [l.number, l.value, l.reason, l.duration]); }
            catch { return null; }
        };
        return texts.map((text) => [read(text, false), read(text, true)]);
    })(arguments[0])"""
    found = browser.run(script, texts)
    expected = [[_by_command(text, is_csv=False), _by_command(text, is_csv=True)] for text in texts]
    assert [each for each in zip(texts, found, expected, strict=True) if each[1] != each[2]] == []


def _by_command(text: str, *, is_csv: bool) -> list[list[Any]] | None:
    try:
        return [list(line) for line in addresses_in(text, is_csv=is_csv)]
    except CommandFailed:
        return None
