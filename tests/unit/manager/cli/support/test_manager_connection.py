"""Locating the manager, the token and the settings, and the errors where that fails."""

import json
import re
import socket
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from manager.cli import app
from manager.cli.support.client import ManagerClient
from manager.cli.support.failures import ExitCode
from manager.cli.support.manager_connection import announced_url
from manager.settings import Settings

TOKEN = "the-admins-own-token"


def run(*arguments: str, **environment: str) -> Result:
    settled = {"MANAGER_AUTH_TOKEN": "", "MANAGER_URL": "", "PANGUARD_DATA_DIR": "", "NO_COLOR": "1", **environment}
    return CliRunner().invoke(app, list(arguments), env={name: value or None for name, value in settled.items()})


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_an_unreachable_manager_is_exit_code_3(closed_port: int) -> None:
    """One sentence with its address and what to do, and no trace."""
    result = run("agents", "list", "--manager", f"http://127.0.0.1:{closed_port}", MANAGER_AUTH_TOKEN=TOKEN)
    assert result.exit_code == ExitCode.UNREACHABLE
    assert result.stderr.startswith(f"error: no manager answers at http://127.0.0.1:{closed_port}:")
    assert result.stderr.count("\n") == 1
    assert TOKEN not in result.output


def test_without_a_token_nothing_is_asked(tmp_path: Path, closed_port: int) -> None:
    """The sentence names the ways to give one."""
    result = run("status", "--data-dir", str(tmp_path), "--manager", f"http://127.0.0.1:{closed_port}")
    assert result.exit_code == ExitCode.UNAUTHORIZED
    assert "MANAGER_AUTH_TOKEN" in result.stderr
    assert f"({tmp_path / 'admin.token'}: No such file or directory)" in result.stderr


def test_a_data_directory_that_does_not_exist_is_named(tmp_path: Path) -> None:
    """Not only a missing token: the directory itself is wrong."""
    result = run("status", "--data-dir", str(tmp_path / "none"))
    assert result.exit_code == ExitCode.UNAUTHORIZED
    assert f"the data directory {tmp_path / 'none'} does not exist" in result.stderr


def test_a_brokers_url_for_the_manager_is_said_so() -> None:
    """The sentence names the protocol that commands speak."""
    result = run("status", "--manager", "mqtt://127.0.0.1:1883", "--auth-token", TOKEN)
    assert result.exit_code == ExitCode.USAGE
    assert "is a broker's URL, and commands ask the manager over HTTP" in result.stderr


def test_a_url_that_is_none_is_wrong_usage() -> None:
    """Neither a crash nor a request to somewhere."""
    assert run("status", "--manager", "ftp://x", "--auth-token", TOKEN).exit_code == ExitCode.USAGE


def test_what_is_no_manager_is_said_so() -> None:
    """Something else answers on the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        import threading  # noqa: PLC0415 -- only this test needs another side

        def answer() -> None:
            connection, _ = listener.accept()
            connection.recv(65_536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
            connection.close()

        other = threading.Thread(target=answer)
        other.start()
        result = run("status", "--manager", f"http://127.0.0.1:{listener.getsockname()[1]}", "--auth-token", TOKEN)
        other.join()
    assert result.exit_code == ExitCode.UNREACHABLE
    assert "is no Panguard manager" in result.stderr


def test_a_running_manager_is_found_by_its_data_directory(tmp_path: Path, closed_port: int) -> None:
    """The command uses the URL announced in the data directory."""
    (tmp_path / "admin.token").write_text(TOKEN)
    (tmp_path / "manager.ready").write_text(json.dumps({"http": f"http://127.0.0.1:{closed_port}", "pid": 1}))
    assert f"127.0.0.1:{closed_port}" in run("status", "--data-dir", str(tmp_path)).stderr


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """URL and token of each client that a command makes."""
    made: list[tuple[str, str]] = []

    class Recorded(ManagerClient):
        def __init__(self, url: str, token: str, *more: Any) -> None:
            made.append((url, token))
            super().__init__(url, token, *more)

    monkeypatch.setattr("manager.cli.support.client.ManagerClient", Recorded)
    return made


def _directory(path: Path, port: int) -> str:
    """Write a data directory as a running manager leaves it; return its path."""
    path.mkdir()
    (path / "admin.token").write_text(TOKEN)
    (path / "manager.ready").write_text(json.dumps({"http": f"http://127.0.0.1:{port}", "pid": 1}))
    return str(path)


def test_an_option_takes_precedence_over_the_environment(
    tmp_path: Path, closed_port: int, asked: list[tuple[str, str]]
) -> None:
    """`--data-dir` chooses manager and token; a token file or token on the line counts before a variable."""
    here = _directory(tmp_path / "here", closed_port)
    (tmp_path / "access.token").write_text("in-a-file")
    file = str(tmp_path / "access.token")
    other = {"MANAGER_URL": "http://127.0.0.1:1", "MANAGER_AUTH_TOKEN": "of-another-fleet"}
    url, elsewhere = f"http://127.0.0.1:{closed_port}", other["MANAGER_URL"]
    lines = [
        (["--data-dir", here], (url, TOKEN)),
        (["--data-dir", here, "--auth-token-file", file], (url, "in-a-file")),
        (["--data-dir", here, "--auth-token", "typed"], (url, "typed")),
        (["--data-dir", here, "--manager", "http://127.0.0.1:2"], ("http://127.0.0.1:2", TOKEN)),
        (["--auth-token-file", file], (elsewhere, "in-a-file")),
        (["--auth-token", "typed"], (elsewhere, "typed")),
        ([], (elsewhere, "of-another-fleet")),
    ]
    for words, expected in lines:
        run("agents", "list", *words, **other)
        assert asked.pop() == expected, words
    run("agents", "list", PANGUARD_DATA_DIR=here, **other)
    assert asked.pop() == (elsewhere, "of-another-fleet")


def test_a_variable_gives_the_token_that_a_named_directory_has_not(
    tmp_path: Path, closed_port: int, asked: list[tuple[str, str]]
) -> None:
    """A manager that was started with MANAGER_AUTH_TOKEN writes no admin.token."""
    here = _directory(tmp_path / "here", closed_port)
    (tmp_path / "here" / "admin.token").unlink()
    run("status", "--data-dir", here, MANAGER_AUTH_TOKEN="by-variable")
    assert asked == [(f"http://127.0.0.1:{closed_port}", "by-variable")]


@pytest.mark.parametrize("variable", [{}, {"MANAGER_URL": "http://127.0.0.1:1"}, {"MANAGER_AUTH_TOKEN": "x"}])
def test_a_directory_on_which_no_manager_runs_is_named(
    tmp_path: Path, asked: list[tuple[str, str]], variable: dict[str, str]
) -> None:
    """Its token goes to no other manager: neither to that of the environment nor to the one on the default port."""
    (tmp_path / "admin.token").write_text(TOKEN)
    result = run("status", "--data-dir", str(tmp_path), **variable)
    assert result.exit_code == ExitCode.UNREACHABLE
    assert result.stderr.startswith(f"error: no manager runs on {tmp_path}, or it is not ready yet: ")
    assert "http://" not in result.stderr
    assert asked == []


def test_a_ready_file_without_an_address_is_not_said_to_be_missing(tmp_path: Path) -> None:
    """The message names the file; a manager may run there."""
    (tmp_path / "admin.token").write_text(TOKEN)
    (tmp_path / "manager.ready").write_text("{")
    result = run("status", "--data-dir", str(tmp_path))
    assert result.exit_code == ExitCode.UNREACHABLE
    assert f"{tmp_path / 'manager.ready'} cannot be read or is damaged" in result.stderr


@pytest.mark.parametrize("text", ["", "[]", "{", '"x"'])
def test_a_damaged_ready_file_is_none(tmp_path: Path, text: str) -> None:
    """It says nothing, as if it were not there."""
    (tmp_path / "manager.ready").write_text(text)
    assert announced_url(tmp_path, "http") is None


@pytest.mark.parametrize(
    "arguments", [[], ["--global", "--organization", "acme"], ["--organization", "a", "--agent", "b"]]
)
def test_a_policy_is_set_for_one_scope(tmp_path: Path, arguments: list[str]) -> None:
    """None and two are wrong usage, before anything is asked."""
    (tmp_path / "policy.json").write_text("{}")
    result = run("policies", "set", *arguments, "--file", str(tmp_path / "policy.json"), "--auth-token", TOKEN)
    assert result.exit_code == ExitCode.USAGE
    assert "--global" in result.stderr


def test_a_policy_file_that_is_no_json_is_said_so(tmp_path: Path) -> None:
    """The sentence names the file."""
    (tmp_path / "policy.json").write_text("{")
    result = run("policies", "set", "--global", "--file", str(tmp_path / "policy.json"), "--auth-token", TOKEN)
    assert result.exit_code == ExitCode.FAILURE
    assert "policy.json is no JSON" in result.stderr


def test_config_prints_every_setting_and_masks_secrets() -> None:
    """Value, origin, environment variable and meaning of each; a secret is only said to be there."""
    result = run("config", "-o", "json", MANAGER_AUTH_TOKEN=TOKEN, PANGUARD_STALE_AFTER="45", PANGUARD_DATA_DIR="/data")
    found = {setting["setting"]: setting for setting in json.loads(result.stdout)}
    assert set(found) == set(Settings.model_fields)
    assert all(setting["meaning"] for setting in found.values())
    assert found["stale_after"]["value"] == 45
    assert found["stale_after"]["environment"] == "PANGUARD_STALE_AFTER"
    assert [found[name]["origin"] for name in ("stale_after", "data_dir", "port")] == [
        "environment", "environment", "default",
    ]  # fmt: skip
    assert (found["auth_token"]["value"], found["auth_token"]["environment"]) == ("********", "MANAGER_AUTH_TOKEN")
    assert found["data_dir"]["value"] == "/data"
    assert TOKEN not in result.output


def test_a_setting_that_cannot_be_is_wrong_usage() -> None:
    """The sentence names the setting and never repeats its value."""
    result = run("config", PANGUARD_STALE_AFTER="swordfish")
    assert result.exit_code == ExitCode.USAGE
    assert "stale_after" in result.stderr
    assert "swordfish" not in result.output


def test_traffic_refuses_a_topic_that_is_none(tmp_path: Path) -> None:
    """The sentence lists those that there are."""
    result = run("traffic", "--topic", "registration", "--data-dir", str(tmp_path))
    assert result.exit_code == ExitCode.USAGE
    assert "heartbeat" in result.stderr


def test_traffic_says_that_no_broker_answers(tmp_path: Path, closed_port: int) -> None:
    """Exit code 3, as for the manager."""
    (tmp_path / "observer.credential").write_text("observer:secret")
    result = run("traffic", "--broker", f"mqtt://127.0.0.1:{closed_port}", "--data-dir", str(tmp_path))
    assert result.exit_code == ExitCode.UNREACHABLE
    assert run("traffic", "--data-dir", str(tmp_path / "none")).exit_code == ExitCode.UNAUTHORIZED


def test_help_names_the_exit_codes() -> None:
    """The help text documents the exit codes."""
    text = " ".join(re.sub(r"[^\w ]", " ", run("--help").stdout).split())
    assert "3 the manager cannot be reached" in text
    assert "5 not found" in text
