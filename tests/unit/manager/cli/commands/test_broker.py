"""`panguard manager broker init` names the commands that follow."""

import os
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from manager.cli import app
from manager.cli.commands.broker import _start_command


def test_the_manager_is_started_on_the_store_whose_agents_the_broker_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command that is printed has the data directory of this one: the default would be another fleet's."""
    for name in ("PANGUARD_DATA_DIR", "PANGUARD_DATABASE", "PANGUARD_KEY_FILE"):
        monkeypatch.delenv(name, raising=False)
    plugin, directory = tmp_path / "plugin.so", tmp_path / "a fleet"
    plugin.touch()
    arguments = ["--directory", str(tmp_path / "broker"), "--plugin", str(plugin), "--data-dir", str(directory)]
    if os.geteuid() == 0:
        arguments += ["--user", "root"]
    done = CliRunner().invoke(app, ["broker", "init", *arguments])
    assert done.exit_code == 0, done.output
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("The manager:")]
    printed = shlex.split(line.removeprefix("The manager:"))
    assert printed == [
        "panguard", "manager", "start", "--data-dir", str(directory), "--broker", "mqtt://127.0.0.1:1883",
    ]  # fmt: skip


def test_a_database_is_named_with_the_file_of_its_password() -> None:
    """Every option by which the store is found is repeated, by its name on the command line."""
    options = {"key_file": Path("k"), "database": "postgresql://u@h/d", "database_password_file": Path("p")}
    assert _start_command(options, "mqtts://h:8883") == (
        "panguard manager start --key-file k --database postgresql://u@h/d --database-password-file p"
        " --broker mqtts://h:8883"
    )
