"""The README's commands, run as they stand: only ports are put in place, and a log file for this host's own.

Not with two managers: the README starts one. The commands for several are in docs/scale.md.
"""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from demo.hosts import simulated_because
from tests.support.ports import free_port
from tests.support.processes import PACE
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
COMMANDS = [
    line.replace("\\\n", " ").strip()
    for block in BLOCKS
    for line in re.split(r"(?<!\\)\n", block)
    if line.startswith("panguard")
]


def test_the_readme_has_commands() -> None:
    """A manager is started first and stopped last, and the two commands of a fresh machine stand there."""
    assert COMMANDS[0].startswith("panguard manager start")
    assert COMMANDS[-1].startswith("panguard manager stop")
    assert {"make demo", "make test"} <= {line.split("#")[0].strip() for block in BLOCKS for line in block.split("\n")}


@pytest.mark.timeout(300)
def test_every_command_of_the_readme_works(tmp_path: Path) -> None:
    """Each command exits 0, in the README's order, and the listings show the guard."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "auth.log").touch()
    http, mqtt = free_port(), free_port()
    environment = {
        **os.environ,
        **PACE,
        "PANGUARD_PORT": str(http),
        "PANGUARD_MQTT_PORT": str(mqtt),
        "MANAGER_URL": f"http://127.0.0.1:{http}",
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "200",
    }
    outputs: dict[str, str] = {}
    try:
        for command in COMMANDS:
            words = shlex.split(command.replace("127.0.0.1:1883", f"127.0.0.1:{mqtt}"))[1:]
            if words[:2] == ["guard", "start"]:
                words += ["--watch-log", "auth.log"]
            if words[:3] == ["manager", "threats", "list"]:
                _attack(tmp_path / "auth.log")
                _until_reported(tmp_path, words, environment)
            ended = subprocess.run(  # noqa: S603 -- the README's own words
                [sys.executable, "-m", "panguard", *words],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                timeout=120,
                stdin=subprocess.DEVNULL,
                check=False,
            )
            assert ended.returncode == 0, (command, ended.stdout, ended.stderr)
            outputs[" ".join(words[:3])] = ended.stdout
        assert "online" in outputs["manager agents list"]
        assert "203.0.113.9" in outputs["manager threats list"]
        assert outputs["manager stop --data-dir"] == "stopped\n"
    finally:
        _end(tmp_path / "data" / "manager" / "manager.pid", tmp_path / "data" / "guard" / "guard.pid")


def _attack(log: Path) -> None:
    """Write the lines of the README's loop as a syslog daemon does."""
    (loop,) = re.findall(r'^    logger -p auth.info -t (\w+) "(.*)"$', "\n".join(BLOCKS), re.MULTILINE)
    with log.open("a") as lines:
        for port in range(5):
            stamp = datetime.now().astimezone().isoformat()
            lines.write(f"{stamp} host {loop[0]}: {loop[1].replace('$port', str(40_000 + port))}\n")


def _until_reported(home: Path, words: list[str], environment: dict[str, str]) -> None:
    """Wait for the report of the attack, as a reader does who looks a moment later."""

    def seen() -> bool:
        listed = subprocess.run(  # noqa: S603 -- the README's own words
            [sys.executable, "-m", "panguard", *words], cwd=home, env=environment, capture_output=True, check=False
        )
        return b"203.0.113.9" in listed.stdout

    eventually(seen, what="the attack in the list of threats")


def _end(*locks: Path) -> None:
    """Kill what a failed test has left in the background; a clean stop empties these files."""
    for lock in locks:
        pid = lock.read_text().strip() if lock.exists() else ""
        if pid:
            os.kill(int(pid), signal.SIGKILL)


def test_the_demo_sees_everything_it_promises(tmp_path: Path) -> None:
    """Without a terminal the demo prints plain lines, ends by itself, exits 0 and sums up in one line of JSON."""
    ended = subprocess.run(
        [sys.executable, "-m", "panguard", "demo"],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=90,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    seen = json.loads(ended.stdout.splitlines()[-1])
    assert seen["ok"]
    assert seen["registered"] == 3
    assert seen["resumedIdentity"]
    assert seen["timeToAcceptanceSeconds"] > 0
    assert seen["enforcement"] == ("nftables" if simulated_because() is None else "simulated")
    if seen["enforcement"] == "simulated":
        assert seen["timeToImmunitySeconds"] is None
    assert seen["cleanStop"]
    assert "\x1b" not in ended.stdout
