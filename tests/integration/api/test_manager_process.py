"""`panguard manager` from start to stop, as a person runs it: real processes, the embedded broker, a data directory."""

import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from manager.cli.support import background
from manager.cli.support.failures import CommandFailed, ExitCode
from tests.support.waiting import eventually

_COMMAND = [sys.executable, "-c", "from manager.cli import app; app(prog_name='manager')"]


def _environment() -> dict[str, str]:
    mine = ("PANGUARD_", "MANAGER_")
    return {name: value for name, value in os.environ.items() if not name.startswith(mine)}


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 -- our own words
        [*_COMMAND, *arguments], env=_environment(), capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A manager on its own data directory, and the line that it printed."""
    directory = tmp_path / "data"
    arguments = ["start", "--data-dir", str(directory), "--port", "0", "--mqtt-port", "0"]
    with subprocess.Popen(  # noqa: S603 -- our own words
        [*_COMMAND, *arguments], env=_environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield directory, process.stdout.readline()
        finally:
            process.terminate()
            assert process.wait(60) == 0


def test_a_manager_is_found_watched_and_stopped_by_its_data_directory(running: tuple[Path, str]) -> None:
    """One ready line; status, live traffic with verified keys, and stop, all with nothing but the directory."""
    directory, line = running
    ready = json.loads((directory / "manager.ready").read_text())
    assert line == f"ready http={ready['http']} mqtt={ready['mqtt']}\n"
    here = ("--data-dir", str(directory))
    assert "Total agents    0" in _run("status", *here).stdout
    (token,) = json.loads(_run("tokens", "list", "-o", "json", *here).stdout)
    assert token["tokenId"] == (directory / "enroll.token").read_text().split(".")[1]
    seen = json.loads(_run("traffic", "--topic", "manager_keys", "--count", "1", "-o", "json", *here).stdout)
    assert (seen["name"], seen["verified"]) == ("manager_keys", True)
    secrets = [path for path in directory.iterdir() if stat.S_IMODE(path.stat().st_mode) & 0o077]
    assert secrets == []
    stopped = _run("stop", *here)
    assert (stopped.returncode, stopped.stdout) == (ExitCode.OK, "stopped\n")
    assert _run("stop", *here).returncode == ExitCode.NOT_FOUND
    assert _run("status", *here).returncode == ExitCode.UNREACHABLE


def test_what_the_environment_says_is_in_force(tmp_path: Path) -> None:
    """The admin's token, which pages may read and how often one may ask come from it; the token is kept nowhere."""
    directory = tmp_path / "data"
    told = {
        "MANAGER_AUTH_TOKEN": "told-by-the-environment",
        "CORS_ALLOWED_ORIGINS": "https://a.example, https://b.example",
    }
    arguments = ["start", "--data-dir", str(directory), "--port", "0", "--mqtt-port", "0"]
    with subprocess.Popen(  # noqa: S603 -- our own words
        [*_COMMAND, *arguments],
        env=_environment() | told | {"PANGUARD_RATE_LIMIT": "3"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            url = process.stdout.readline().split()[1].removeprefix("http=")
            with httpx2.Client(
                base_url=url, trust_env=False, verify=False, timeout=60, headers={"Origin": "https://b.example"}
            ) as page:
                own = {"Authorization": f"Bearer {told['MANAGER_AUTH_TOKEN']}"}
                answers = [page.get("/api/agents", headers=own) for _ in range(5)]
                refused = [page.get("/api/agents").status_code for _ in range(4)]
            assert {answer.status_code for answer in answers} == {200}
            assert answers[0].headers["Access-Control-Allow-Origin"] == "https://b.example"
            assert refused == [401, 401, 401, 429]
            kept = [path for path in directory.iterdir() if b"told-by-the-environment" in path.read_bytes()]
            assert kept == []
        finally:
            process.terminate()
            assert process.wait(60) == 0


def test_the_observers_password_is_checked(running: tuple[Path, str], tmp_path: Path) -> None:
    """A wrong one is exit code 4."""
    wrong = tmp_path / "wrong"
    wrong.write_text("observer:wrong")
    result = _run("traffic", "--data-dir", str(running[0]), "--credential-file", str(wrong))
    assert result.returncode == ExitCode.UNAUTHORIZED
    assert "refuses the credential" in result.stderr


def test_a_manager_beyond_loopback_wants_to_be_told_so(tmp_path: Path) -> None:
    """Without --insecure it does not start, and says what to do."""
    result = _run("start", "--data-dir", str(tmp_path / "data"), "--host", "0.0.0.0")
    assert result.returncode == ExitCode.FAILURE
    assert "--insecure" in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_manager_starts_with_its_settings_file(tmp_path: Path) -> None:
    """Ports, directory and token are those of the file that is named; `config` says so of each."""
    file = tmp_path / "manager.toml"
    file.write_text('data_dir = "data"\nport = 0\nmqtt_port = 0\nauth_token_file = "token"\n')
    (tmp_path / "token").write_text("the-token-of-the-file\n")
    with subprocess.Popen(  # noqa: S603 -- our own words
        [*_COMMAND, "start", "--config", str(file)],
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("ready http=")
            ready = json.loads((tmp_path / "data" / "manager.ready").read_text())
            headers = {"Authorization": "Bearer the-token-of-the-file"}
            assert (
                httpx2.get(f"{ready['http']}/api/agents", headers=headers, verify=False, timeout=60).status_code == 200
            )
        finally:
            process.terminate()
            assert process.wait(60) == 0
    records = json.loads(_run("config", "--config", str(file), "-o", "json").stdout)
    origins = {record["setting"]: record["origin"] for record in records}
    assert {name for name, origin in origins.items() if origin != "default"} == {
        "data_dir", "port", "mqtt_port", "auth_token_file", "auth_token",
    }  # fmt: skip
    assert origins["auth_token"] == "file"


def test_a_settings_file_with_a_fault_starts_no_manager(tmp_path: Path) -> None:
    """Wrong usage: file, line and the name that was meant."""
    file = tmp_path / "manager.toml"
    file.write_text("port = 0\nmqtt_prot = 0\n")
    refused = _run("start", "--data-dir", str(tmp_path))
    assert (refused.returncode, refused.stdout) == (ExitCode.USAGE, "")
    assert refused.stderr == f"error: {file}, line 2: there is no setting mqtt_prot: did you mean mqtt_port?\n"


@pytest.mark.timeout(240)
def test_a_manager_in_the_background_is_ready_when_the_command_returns(tmp_path: Path) -> None:
    """The line names process, addresses and log; the token is in no list of processes; a second one is refused."""
    directory = tmp_path / "data"
    words = ("start", "--data-dir", str(directory), "--port", "0", "--mqtt-port", "0", "--detach")
    started = _run(*words, "--auth-token", "the-token-of-the-option", "--trust-network", "192.0.2.0/24")
    try:
        assert (started.returncode, started.stderr) == (0, "")
        ready = json.loads((directory / "manager.ready").read_text())
        log = directory / "manager.log"
        assert started.stdout == (
            f"manager started pid={ready['pid']} http={ready['http']} mqtt={ready['mqtt']}"
            f" data-dir={directory} log={log}\n"
        )
        headers = {"Authorization": "Bearer the-token-of-the-option"}
        assert httpx2.get(f"{ready['http']}/api/agents", headers=headers, verify=False, timeout=60).status_code == 200
        arguments = Path(f"/proc/{ready['pid']}/cmdline").read_text()
        assert "192.0.2.0/24" in arguments
        assert "the-token-of-the-option" not in arguments
        assert stat.S_IMODE(log.stat().st_mode) == 0o600
        again = _run(*words)
        assert (again.returncode, again.stdout) == (ExitCode.FAILURE, "")
        assert (
            f"error: another manager runs on {directory}; stop it, or name another --data-dir (its log is "
            in again.stderr
        )
    finally:
        assert _run("stop", "--data-dir", str(directory)).returncode == 0


@pytest.mark.timeout(240)
def test_a_manager_in_the_background_that_cannot_start_says_why(tmp_path: Path) -> None:
    """The reason of the manager, the end of its log, and its exit code."""
    (tmp_path / "manager.log").write_text("of an earlier start\n")
    words = ("start", "--data-dir", str(tmp_path), "--port", "0", "--mqtt-port", "0", "--host", "0.0.0.0", "--detach")
    refused = _run(*words)
    assert (refused.returncode, refused.stdout) == (ExitCode.FAILURE, "")
    assert refused.stderr.splitlines()[-1].startswith("error: ")
    assert "--insecure" in refused.stderr
    assert refused.stderr.endswith(f"(its log is {tmp_path / 'manager.log'})\n")
    assert "of an earlier start" not in refused.stderr


@pytest.mark.timeout(240)
def test_a_manager_in_the_background_that_is_not_ready_in_time_runs_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command fails, and names the one that ends the manager."""
    monkeypatch.setattr(background, "PATIENCE", 5.0)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        broker = f"--broker=mqtt://127.0.0.1:{listener.getsockname()[1]}"
    with pytest.raises(CommandFailed, match=r"is not ready after 5 s .*manager stop --data-dir") as failure:
        background.start_in_background(tmp_path, ["--data-dir", str(tmp_path), "--port=0", broker], _environment())
    try:
        log = tmp_path / "manager.log"
        eventually(lambda: "broker_unreachable" in log.read_text(), 60, "the manager goes on trying")
        assert failure.value.code is ExitCode.FAILURE
    finally:
        eventually(lambda: _run("stop", "--data-dir", str(tmp_path)).returncode == 0, 60, "the manager stopped")


def test_a_manager_without_work_is_not_behind(running: tuple[Path, str]) -> None:
    """The first screen's figure is the time since nothing waited, which an idle manager sets again and again."""
    directory, _ = running
    url = json.loads((directory / "manager.ready").read_text())["http"]
    token = (directory / "admin.token").read_text().strip()
    with httpx2.Client(trust_env=False, headers={"Authorization": f"Bearer {token}"}, timeout=60) as admin:

        def lag() -> dict[str, float]:
            return dict(admin.get(f"{url}/api/now").json()["data"]["manager"])

        eventually(lambda: admin.get(f"{url}/health").json()["uptime"] > 3, what="some seconds of running")
        eventually(lambda: lag()["behindSeconds"] < 1 and lag()["waitingMessages"] == 0, what="an idle manager")
        assert lag()["problem"] is None
