"""The console's page of access in a real browser: enrollment tokens, and the line that enrolls a host."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.api.console_steps import click, faults, go, page_text, second_step, set_field, sign_in
from tests.support.browser import Browser
from tests.support.processes import ManagerProcess, Panguard
from tests.support.waiting import eventually

pytestmark = pytest.mark.chromium

FORM = "form[name=enrollment]"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as running:
        yield running


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[ManagerProcess]:
    with ManagerProcess(tmp_path) as running:
        yield running


def test_the_line_for_a_new_host_enrolls_it(manager: ManagerProcess, browser: Browser, tmp_path: Path) -> None:
    """With the limits, tags and site of the token; revoked, the token enrolls nobody else, and the host stays."""
    sign_in(browser, manager.http, (manager.data / "admin.token").read_text().strip())
    go(browser, "access", "Enrollment")
    values = (("tokenName", "web"), ("organization", "acme"), ("site", "berlin"), ("tags", "web, eu"), ("maxUses", "2"))
    for name, value in values:
        set_field(browser, name, value, FORM)
    click(browser, "Create an enrollment token", FORM)
    assert "register 2 hosts in acme" in second_step(browser)
    click(browser, "Create it", "dialog")
    script = "return document.getElementById('enroll')?.innerText"
    line = str(eventually(lambda: browser.run(script), what="the line"))
    found = re.fullmatch(r"\(umask 077; printf '%s\\n' '(\S+)' > enroll.token\) && panguard (.*) --detach", line)
    assert found is not None, line
    assert "\n".join(faults(browser)) == ""
    token, words = tmp_path / "enroll.token", found[2].split()
    token.write_text(f"{found[1]}\n")
    words[words.index("enroll.token")] = str(token)
    (tmp_path / "auth.log").touch()
    words += ["--data-dir", str(tmp_path / "guard"), "--hostname", "web-1", "--trust-log", str(tmp_path / "auth.log")]
    guard = Panguard(tmp_path / "guard.log", *words)
    try:
        guard.line("guard ready ")
        agent = eventually(lambda: manager.agent("web-1"), what="the agent")
        assert (agent["organizationId"], agent["site"], agent["tags"]) == ("acme", "berlin", ["web", "eu"])
        go(browser, "audit", "token.create")
        assert "1 of 2" in go(browser, "access", "1 of 2")
        click(browser, "Revoke", "section[aria-label=Enrollment]")
        assert "What it has enrolled stays: 1 host" in second_step(browser)
        click(browser, "Revoke it", "dialog")
        eventually(lambda: "revoked" in page_text(browser), what="the revocation")
        (told,) = [each for each in manager.get("/api/tokens") if each["name"] == "web"]
        assert told["revokedAt"] is not None
        assert manager.agent("web-1")["status"] == "online"
    finally:
        assert guard.terminate() == 0
