"""The commands of docs/operations.md, run as they stand in their order."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.api.served import ADMIN_TOKEN, Served
from tests.integration.api.terminal import Terminal
from tests.support.attacks import attack, trusted

PAGE = (Path(__file__).parents[3] / "docs" / "operations.md").read_text()
LINES = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
COMMANDS = [line for line in LINES if line.startswith("panguard manager")]
FEEDS = [line for line in LINES if line.startswith(("(umask 077; panguard manager access create ", "curl"))]


def test_every_command_of_the_page_works(
    served: Served, terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each ends with 0."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.txt").write_text("# ours\n203.0.113.7\n203.0.113.8/32\n")
    (tmp_path / "bad.csv").write_text("address,for\n203.0.113.7,1h\n")
    with served.bench() as bench:
        attack(bench, *trusted(bench, "web-1", "web-2", organization_id="acme"))
    terminal.ok("groups", "set", "web", "--tag", "web", "--priority", "10", "--yes")
    (incident,) = terminal.records("incidents", "list", "--kind", "source_ip")
    threat, *_ = terminal.records("threats", "list")
    ids = {"incidents": incident["id"], "threats": threat["id"]}
    assert len(COMMANDS) > 5
    for command in COMMANDS:
        group, *words = shlex.split(command)[2:]
        terminal.ok(group, *(ids[group] if word == "ID" else word for word in words))


def test_every_line_is_a_command_that_is_run_here() -> None:
    """Either of the manager, or one that reads a feed."""
    assert set(LINES) == {*COMMANDS, *FEEDS}


def test_the_lines_that_read_a_feed_work(
    served: Served, terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first writes the token's file for its owner alone; only the manager's name is put in place."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("MANAGER_URL", served.url)
    monkeypatch.setenv("MANAGER_AUTH_TOKEN", ADMIN_TOKEN)
    terminal.ok("blocks", "add", "198.51.100.9")
    for line in FEEDS:
        command = line.replace("https://manager:8443", served.url)
        subprocess.run(["bash", "-c", command], cwd=tmp_path, check=True)  # noqa: S603, S607 -- the page's own words
    assert (tmp_path / "feed.token").stat().st_mode & 0o777 == 0o600
    for name in ("blocklist.txt", "blocklist.conf", "blocklist.nft"):
        assert "198.51.100.9" in (tmp_path / name).read_text()
