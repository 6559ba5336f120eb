"""The command `panguard simulate`: one object on standard output, exit codes, and one sentence where nothing runs."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from simulate.cli import simulate
from tests.integration.simulate.plans import KINDS
from tests.support.ports import free_port
from tests.support.processes import ManagerProcess
from tests.support.production_mosquitto import ProductionMosquitto
from tests.support.waiting import eventually

_OURS = ("MANAGER_URL", "MANAGER_AUTH_TOKEN", "PANGUARD_ENROLL_TOKEN", "PANGUARD_CA_FILE")


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ManagerProcess]:
    with ManagerProcess(tmp_path_factory.mktemp("simulate")) as manager:
        yield manager


def _environment(manager: ManagerProcess) -> dict[str, str]:
    return {
        "MANAGER_URL": manager.http,
        "MANAGER_AUTH_TOKEN": (manager.data / "admin.token").read_text().strip(),
        "PANGUARD_ENROLL_TOKEN": (manager.data / "enroll.token").read_text().strip(),
    }


@contextmanager
def _started(environment: dict[str, str], *words: str) -> "Iterator[subprocess.Popen[str]]":
    """Start the command; whatever fails, it has ended afterwards."""
    clean = {name: value for name, value in os.environ.items() if name not in _OURS}
    with subprocess.Popen(  # noqa: S603 -- our own command, no shell
        [sys.executable, "-m", "panguard", "simulate", *words],
        env=clean | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _ran(environment: dict[str, str], *words: str) -> tuple[int, str, str]:
    with _started(environment, *words) as process:
        output, errors = process.communicate(timeout=60)
        return process.returncode, output, errors


def test_a_ledger_that_balances(manager: ManagerProcess) -> None:
    """Exit code 0; standard output is one JSON object, standard error names the only addresses, no token is shown."""
    environment = _environment(manager)
    words = ("--agents", "5", "--threats", "50", "--rate", "100", "--shared-attackers", "0.4", "--unvouched", "0.5")
    given = (*words, "--seed", "11", "--heartbeats", "-o", "json")
    code, output, errors = _ran(environment, "--manager", manager.mqtt, *given)
    found = json.loads(output)
    assert (code, found["sent"], found["stored"], found["lost"], found["incidents"]) == (0, 50, 50, 0, 4)
    assert errors.startswith(
        f"connecting 5 simulated agents, seed 11; to {manager.mqtt} and {manager.http} and no other"
    )
    assert not any(environment[name] in output + errors for name in ("MANAGER_AUTH_TOKEN", "PANGUARD_ENROLL_TOKEN"))
    vouched = [
        threat["threat"].get("vouched") for threat in manager.get("/api/threats") if threat["hostname"][:6] == "sim-11"
    ]
    assert vouched.count(None) == 25


@pytest.mark.parametrize("words", [["--http"], ["--http", "--manager", "mqtt://127.0.0.1:1"], []])
def test_http_at_the_managers_address(manager: ManagerProcess, words: list[str]) -> None:
    """`--http`, or no `--manager`, speaks HTTP to MANAGER_URL; token files take the place of variables."""
    files = ["--enroll-token-file", str(manager.data / "enroll.token")]
    files += ["--auth-token-file", str(manager.data / "admin.token")]
    small = ["--agents", "2", "--threats", "4", "--rate", "100", "--connections", "1", "--seed", "12"]
    code, output, _ = _ran({"MANAGER_URL": manager.http}, *words, *files, *small)
    assert code == 0, output
    assert "balanced           True" in output
    assert f"addresses          {manager.http}\n" in output


@pytest.mark.long("tests/property/test_simulate_ledger.py")
@pytest.mark.mosquitto
def test_a_loss(tmp_path: Path) -> None:
    """Exit code 1 where reports never reach the manager, because its broker stays away; they are counted and named."""
    with ProductionMosquitto(tmp_path / "manager", tmp_path / "broker") as broker:
        environment = {"PANGUARD_BROKER_PASSWORD": broker.credential("manager")[1]}
        with ManagerProcess(tmp_path, broker.url, environment) as manager:
            words = ("--threats", "240", "--rate", "60", "--patience", "1", "-o", "json")
            with _started(_environment(manager), "--manager", broker.url, *words) as process:
                with manager.client() as admin:
                    eventually(lambda: len(admin.get("/api/threats").json()["data"]) > 30, what="the first reports")
                broker.kill()
                output, errors = process.communicate(timeout=60)
    found = json.loads(output)
    assert process.returncode == 1, errors
    assert 0 < found["lost"] < 240
    assert found["lost"] == 240 - found["stored"]
    assert found["late"] == found["stored"] - found["receipted"]  # stored, and no receipt has come
    assert (len(found["examples"]["lost"]), found["balanced"]) == (20, False)


def test_an_interrupt_ends_the_schedule(manager: ManagerProcess) -> None:
    """The first Ctrl-C sends nothing more; what was sent is waited for and checked."""
    words = ("--agents", "3", "--threats", "100000", "--rate", "50", "--seed", "13", "-o", "json")
    with (
        _started(_environment(manager), "--manager", manager.mqtt, *words) as process,
        manager.client() as admin,
    ):

        def newest() -> list[str]:
            return [each["hostname"] for each in admin.get("/api/threats").json()["data"]]

        eventually(lambda: sum(name.startswith("sim-13-") for name in newest()) > 20, what="twenty of its reports")
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    found = json.loads(output)
    assert process.returncode == 0, errors
    assert 20 < found["sent"] < 100_000
    assert {kind: found[kind] for kind in KINDS} == dict.fromkeys(KINDS, 0)


@pytest.mark.parametrize(
    ("missing", "words", "sentence"),
    [
        ("MANAGER_URL", [], "error: the reports are checked at the manager's HTTP address: set MANAGER_URL"),
        ("MANAGER_AUTH_TOKEN", [], "error: there is no admin token: set MANAGER_AUTH_TOKEN, or name a file"),
        ("PANGUARD_ENROLL_TOKEN", [], "error: there is no enrollment token: set PANGUARD_ENROLL_TOKEN"),
        ("", ["--connections", "2"], "error: --connections is for HTTP"),
        ("", ["--enroll-token-file", "/nowhere"], "error: /nowhere cannot be read: name the file"),
    ],
)
def test_wrong_usage(
    monkeypatch: pytest.MonkeyPatch, manager: ManagerProcess, missing: str, words: list[str], sentence: str
) -> None:
    """Exit code 2, nothing on standard output, and one sentence that says what to do."""
    for name in _OURS:
        monkeypatch.delenv(name, raising=False)
    environment = {name: value for name, value in _environment(manager).items() if name != missing}
    app = typer.Typer()
    app.command()(simulate)
    done = CliRunner().invoke(app, ["--manager", manager.mqtt, *words], env=environment)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1].startswith(sentence)


def test_more_connections_than_open_files(manager: ManagerProcess) -> None:
    """The same where the process may not open as many files as it needs."""
    clean = {name: value for name, value in os.environ.items() if name not in _OURS}
    command = ["prlimit", "--nofile=1000:1000", sys.executable, "-m", "panguard", "simulate"]
    done = subprocess.run(  # noqa: S603 -- our own command, no shell
        [*command, "--manager", manager.mqtt, "--agents", "30000"],
        env=clean | _environment(manager), check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    sentence = "error: 30,000 connections need 30,064 open files, and the limit is 1,000"
    assert done.stderr.splitlines()[-1].startswith(sentence)


@pytest.mark.parametrize("gone", ["broker", "manager"])
def test_nobody_is_there(manager: ManagerProcess, gone: str) -> None:
    """Exit code 2 and one sentence where the broker or the manager does not answer."""
    environment, nowhere = _environment(manager), f"127.0.0.1:{free_port()}"
    door = f"mqtt://{nowhere}" if gone == "broker" else manager.mqtt
    environment |= {"MANAGER_URL": f"http://{nowhere}"} if gone == "manager" else {}
    code, output, errors = _ran(environment, "--manager", door, "--agents", "2", "--patience", "1")
    assert (code, output) == (2, "")
    expected = "0 of 2 agents are connected" if gone == "broker" else f"no manager answers at http://{nowhere}"
    assert errors.splitlines()[-1].startswith(f"error: {expected}")
