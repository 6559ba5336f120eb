"""Pages whose commands start managers and guards, run as they stand but for ports and this host's log."""

import os
import re
import shlex
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from manager.storage.postgresql.address import DatabaseAddress
from tests.support.ports import free_port
from tests.support.processes import PACE

TOP = Path(__file__).parents[3]
pytestmark = [pytest.mark.long("tests/unit/deployment/test_documented_commands.py"), pytest.mark.timeout(300)]


class Desk:
    """A directory in which a person follows pages; ends what is left running there."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.mqtt = free_port()
        mine = ("PANGUARD_", "MANAGER_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(mine)}
        ports = {"PANGUARD_PORT": "0", "PANGUARD_MQTT_PORT": str(self.mqtt)}
        self._environment = {**kept, **PACE, **ports, "PYTHONPATH": str(TOP)}

    def put_in_place(self, text: str) -> str:
        """Return a page's text with the port and the log of this test."""
        return text.replace("127.0.0.1:1883", f"127.0.0.1:{self.mqtt}").replace("/var/log/auth.log", "auth.log")

    def run(self, line: str) -> str:
        """Run a command line of a page and return what it prints."""
        words = shlex.split(self.put_in_place(line), comments=True)
        assert words[0] == "panguard"
        done = subprocess.run(  # noqa: S603 -- the page's own words
            [sys.executable, "-m", "panguard", *words[1:]],
            cwd=self.home,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=150,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        assert done.returncode == 0, (line, done.stdout, done.stderr)
        return done.stdout

    def end(self) -> None:
        """Kill what runs in the background; a clean stop has emptied these files."""
        for lock in self.home.rglob("*.pid"):
            pid = lock.read_text().strip()
            if pid:
                os.kill(int(pid), signal.SIGKILL)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    (tmp_path / "auth.log").touch()
    desk = Desk(tmp_path)
    try:
        yield desk
    finally:
        desk.end()


def _blocks(page: str, language: str) -> list[str]:
    text = (TOP / "docs" / page).read_text()
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [block for found, block in blocks if found == language]


def _commands(block: str) -> list[str]:
    return [line for line in block.replace("\\\n", " ").splitlines() if line.startswith("panguard ")]


def test_the_settings_files_of_the_page_work(desk: Desk) -> None:
    """Both files start what they configure; `config` shows the values with their origin."""
    for block in _blocks("configuration.md", "toml"):
        name = block.splitlines()[0].removeprefix("# ")
        (desk.home / name).write_text(desk.put_in_place(block))
    (desk.home / "secrets").mkdir()
    (desk.home / "secrets" / "admin.token").write_text("the-token-of-the-page\n")
    outputs = {
        command: desk.run(command) for block in _blocks("configuration.md", "sh") for command in _commands(block)
    }
    assert [command.split()[1] for command in outputs] == ["manager"] * 3 + ["guard"] * 3
    shown = " ".join(outputs["panguard manager config --config manager.toml"].split())
    assert "threat_retention = 604800.0 (file; PANGUARD_THREAT_RETENTION)" in shown
    assert "tag = web (file)" in outputs["panguard guard config --config guard.toml"]
    assert "guard:     online" in outputs["panguard guard status --data-dir data/guard"]
    desk.run("panguard guard stop --data-dir data/guard")
    assert desk.run("panguard manager stop --data-dir data/manager") == "stopped\n"


def test_the_commands_of_the_page_about_commands_work(desk: Desk) -> None:
    """But for the first, which asks a manager on another machine."""
    commands = [command for block in _blocks("commands.md", "sh") for command in _commands(block)]
    other, *rest = commands
    assert "https://manager:8443" in other
    assert len(rest) > 4
    for command in rest:
        desk.run(command)


def test_the_commands_that_turn_on_tls_work(desk: Desk) -> None:
    """The manager is put into the background, and stopped at the end."""
    for block in _blocks("tls.md", "") + _blocks("tls.md", "sh"):
        for command in _commands(block):
            desk.run(f"{command} --detach" if " start " in command else command)
    assert desk.run("panguard manager stop --data-dir data/manager") == "stopped\n"


def test_the_command_of_the_page_about_blocks_works(desk: Desk) -> None:
    """On a manager whose data directory is named."""
    desk.run("panguard manager start --data-dir data/manager --detach")
    for block in _blocks("blocks.md", "sh") + _blocks("blocks.md", ""):
        for command in _commands(block):
            desk.run(f"{command.partition('#')[0]} --data-dir data/manager")
    desk.run("panguard manager stop --data-dir data/manager")


def test_the_commands_of_the_page_about_notifications_work(desk: Desk) -> None:
    """With a file in place of the page's channel, which needs a service; no group waits to be acknowledged."""
    (desk.home / "data" / "manager").mkdir(parents=True, mode=0o700)
    channel = f'[notifications.night]\ntype = "file"\nurl = "{desk.home / "events.json"}"\n'
    (desk.home / "data" / "manager" / "manager.toml").write_text(channel)
    desk.run("panguard manager start --data-dir data/manager --detach")
    commands = [command for block in _blocks("notifications.md", "sh") for command in _commands(block)]
    assert len(commands) > 4
    for command in commands:
        if " acknowledge " not in command:
            desk.run(f"{command} --data-dir data/manager")
    assert (desk.home / "events.json").read_text()
    desk.run("panguard manager stop --data-dir data/manager")


def test_the_commands_of_the_page_about_the_store_work(desk: Desk) -> None:
    """The key is replaced under a store of a manager that ran, which starts with the new one."""
    desk.run("panguard manager start --data-dir data/manager --detach")
    key = desk.home / "data" / "manager" / "manager.key"
    before = key.read_text()
    blocks = [block for block in _blocks("store.md", "sh") if "db.example" not in block]
    commands = [command for block in blocks for command in _commands(block)]
    assert [command.split()[2] for command in commands] == ["stop", "key-file"]
    for command in commands:
        desk.run(command)
    assert key.read_text() != before
    desk.run("panguard manager start --data-dir data/manager --detach")
    desk.run("panguard manager stop --data-dir data/manager")


@pytest.mark.postgresql
def test_the_commands_that_move_the_store_to_postgresql_work(desk: Desk, postgresql_empty: DatabaseAddress) -> None:
    """A manager ran on the SQLite store; the last command starts it on the database, and the file is refused."""
    desk.run("panguard manager start --data-dir data/manager --detach")
    (block,) = [block for block in _blocks("store.md", "sh") if " migrate " in block]
    commands = _commands(block)
    assert [command.split()[2] for command in commands] == ["stop", "migrate", "migrate", "start"]
    shown = [
        desk.run(command.replace("postgresql://panguard@db.example/panguard", postgresql_empty.url))
        for command in commands
    ]
    assert "nothing was changed" in shown[1]
    assert "counts and digests are equal" in shown[2]
    assert "stopped" in desk.run("panguard manager stop --data-dir data/manager")
    store = desk.home / "data" / "manager" / "panguard.db"
    store.chmod(0o600)  # as after the page's command that gives up a move
    (give_up,) = [block for block in _blocks("store.md", "") if "moved_to" in block]
    statements = give_up.split('"')[1]
    with closing(sqlite3.connect(store)) as database:
        database.executescript(statements)
    desk.run("panguard manager start --data-dir data/manager --detach")
    desk.run("panguard manager stop --data-dir data/manager")
