"""The commands of docs/operations.md, run as they stand in their order."""

import re
import shlex
from pathlib import Path

import pytest

from tests.integration.api.served import Served
from tests.integration.api.terminal import Terminal
from tests.support.attacks import attack, trusted

PAGE = (Path(__file__).parents[3] / "docs" / "operations.md").read_text()
COMMANDS = [
    line
    for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("panguard manager")
]


def test_every_command_of_the_page_works(
    served: Served, terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each ends with 0."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.txt").write_text("# ours\n203.0.113.7\n203.0.113.8/32\n")
    (tmp_path / "bad.csv").write_text("address,for\n203.0.113.7,1h\n")
    with served.bench() as bench:
        attack(bench, *trusted(bench, "web-1", "web-2", organization_id="acme"))
    assert len(COMMANDS) > 5
    for command in COMMANDS:
        terminal.ok(*shlex.split(command)[2:])
