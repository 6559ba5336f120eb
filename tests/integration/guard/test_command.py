"""`panguard guard` as a command: start, stop, status, and what it says to who errs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent.storage.instance_lock import running_pid
from tests.integration.guard.guard_process import QUICK, GuardProcess
from tests.integration.guard.scripted_manager import ScriptedManager, eventually
from tests.support.mosquitto import Mosquitto


def guard(*arguments: str, token: str | None = None) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PANGUARD_")} | QUICK
    if token:
        environment["PANGUARD_ENROLL_TOKEN"] = token
    return subprocess.run(  # noqa: S603 -- the guard itself
        [sys.executable, "-m", "agent", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        timeout=60,
    )


def test_a_guard_in_the_background_is_stopped_by_its_directory(
    tmp_path: Path, broker: Mosquitto, manager: ScriptedManager
) -> None:
    """`--detach` returns once the guard is registered; `stop` ends it with a sign-off; a second one is refused."""
    directory, log = str(tmp_path / "data"), tmp_path / "auth.log"
    log.touch()
    words = ("--manager", broker.url, "--data-dir", directory, "--watch-log", str(log))
    started = guard("start", *words, "--detach", token=str(manager.token))
    try:
        assert (started.returncode, started.stderr) == (0, "")
        pid = running_pid(tmp_path / "data")
        assert started.stdout == f"guard started agentId={manager.agent_id} pid={pid} data-dir={directory}\n"
        eventually(manager.presences, "a birth")
        again = guard("start", "--manager", broker.url, "--data-dir", directory, token=str(manager.token))
        assert again.returncode == 1
        assert again.stderr.startswith("error: the guard with process id ")
    finally:
        stopped = guard("stop", "--data-dir", directory)
    assert stopped.returncode == 0
    eventually(lambda: manager.presences()[-1].state == "offline", "the sign-off")
    assert str(manager.token).split(".")[2] not in (tmp_path / "data" / "guard.log").read_text()
    assert guard("stop", "--data-dir", directory).returncode == 1


def test_the_ready_line_names_agent_and_session(guard_process: GuardProcess, manager: ScriptedManager) -> None:
    """Standard output has one line, once the first birth was taken; SIGTERM ends with exit code 0."""
    assert guard_process.start().ready() == f"guard ready agentId={manager.agent_id} session=1"
    assert guard_process.stop() == 0


def test_status_is_readable_by_people_and_programs(guard_process: GuardProcess, manager: ScriptedManager) -> None:
    """`-o json` prints one object; the text is at most twelve lines without JSON."""
    guard_process.start().ready()
    directory = str(guard_process.directory)
    fields = json.loads(guard("status", "--data-dir", directory, "-o", "json").stdout)
    assert (fields["state"], fields["agentId"], fields["session"]) == ("online", manager.agent_id, 1)
    text = guard("status", "--data-dir", directory).stdout
    assert f"guard:     online (pid {fields['pid']}), agentId {manager.agent_id}, " in text
    assert [line.partition(":")[0] for line in text.splitlines()] == [
        "guard", "manager", "health", "source", "mode", "blocking", "wanted", "policy", "reports"
    ]  # fmt: skip
    assert not set('{}[]"') & set(text)


def test_a_guard_in_the_background_says_what_is_wrong_with_its_log(
    tmp_path: Path, broker: Mosquitto, manager: ScriptedManager
) -> None:
    """`--detach` with a log that is missing starts, and warns; `health`, `status` and `doctor` name it, too."""
    directory, missing = str(tmp_path / "data"), tmp_path / "none.log"
    words = ("--manager", broker.url, "--data-dir", directory, "--watch-log", str(missing), "--detach")
    started = guard("start", *words, token=str(manager.token))
    try:
        assert started.returncode == 0
        assert started.stderr.startswith(f"warning: degraded: file:{missing} is missing: ")
        health = guard("health", "--data-dir", directory)
        assert (health.returncode, health.stderr[:9]) == (3, "degraded:")
        assert f"source:    file:{missing} missing" in guard("status", "--data-dir", directory).stdout
        doctor = guard("doctor", "--data-dir", directory)
        assert doctor.returncode == 3
        assert f"guard: reads file:{missing} (missing)" in doctor.stdout
        assert f"problem: the running guard's file:{missing} is missing" in doctor.stdout
        missing.touch()
        eventually(lambda: guard("health", "--data-dir", directory).returncode == 0, "health")
        assert guard("doctor", "--data-dir", directory).returncode == 0
    finally:
        guard("stop", "--data-dir", directory)


def test_a_guard_in_the_background_that_finds_no_manager_says_why(
    tmp_path: Path, broker: Mosquitto, manager: ScriptedManager
) -> None:
    """After its patience the command returns with the reason that stands in the status."""
    log = tmp_path / "auth.log"
    log.touch()
    words = ("--manager", broker.url.replace("mqtt:", "mqtts:"), "--data-dir", str(tmp_path / "data"), "--detach")
    started = guard("start", *words, "--watch-log", str(log), token=str(manager.token))
    try:
        assert started.returncode == 0
        assert "warning: it is not registered yet and goes on trying: mqtts://127.0.0.1:" in started.stderr
        assert "does not speak TLS" in started.stderr
    finally:
        guard("stop", "--data-dir", str(tmp_path / "data"))


def test_a_guard_starts_with_its_settings_file(tmp_path: Path, broker: Mosquitto, manager: ScriptedManager) -> None:
    """In the background as well: the file of its data directory, or the one that is named; options go before it."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "guard.toml").write_text(
        f'manager = "{broker.url}"\nwatch = "none"\nmode = "protection"\nenroll_token_file = "token"\nsite = "east"\n'
    )
    (data / "token").write_text(f"{manager.token}\n")
    started = guard("start", "--data-dir", str(data), "--site", "west", "--detach")
    try:
        assert started.returncode == 0, started.stderr
        assert json.loads(manager.registrations[-1])["site"] == "west"
        assert json.loads(guard("status", "--data-dir", str(data), "-o", "json").stdout)["modeWanted"] == "protection"
    finally:
        assert guard("stop", "--data-dir", str(data)).returncode == 0
    file = tmp_path / "named.toml"
    file.write_text(f'data_dir = "data"\nmanager = "{broker.url}"\nwatch = "none"\n')
    assert guard("start", "--config", str(file), "--detach").returncode == 0
    assert json.loads(guard("status", "--data-dir", str(data), "-o", "json").stdout)["modeWanted"] == "learning"
    assert guard("stop", "--data-dir", str(data)).returncode == 0


def test_config_prints_every_setting_of_a_guard_with_its_origin(tmp_path: Path) -> None:
    """As text, and as an array of objects; a fault in the file is one sentence with its line."""
    file = tmp_path / "guard.toml"
    file.write_text('manager = "mqtts://broker.example"\nblock_duration = "2h"\n')
    text = guard("config", "--config", str(file)).stdout
    assert "manager = mqtts://broker.example (file)\n" in text
    assert "heartbeat_interval = 0.2 (environment)\n" in text
    records = json.loads(guard("config", "--data-dir", str(tmp_path), "-o", "json").stdout)
    found = {record["setting"]: record for record in records}
    assert (found["block_duration"]["value"], found["block_duration"]["origin"]) == (7_200.0, "file")
    assert (found["data_dir"]["value"], found["data_dir"]["origin"]) == (str(tmp_path), "option")
    assert all(record["meaning"] for record in records)
    file.write_text("hostname = 'a b'\nmanager = 'mqtts://h'\nmod = 1\n")
    refused = guard("start", "--config", str(file))
    assert (refused.returncode, refused.stderr) == (
        1, f"error: {file}, line 3: there is no setting mod: did you mean mode?\n",
    )  # fmt: skip
    file.write_text("\nhostname = 'a b'\nmanager = 'mqtts://h'\n")
    refused = guard("start", "--config", str(file))
    assert refused.stderr.startswith(f"error: {file}, line 2: hostname: has a character that names in the fleet cannot")


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("start",), 2, "error: no manager is named: say --manager mqtts://HOST, set PANGUARD_MANAGER, or write"),
        (("start", "--manager", "mqtt://h", "--mode", "maybe"), 2, "'maybe' is not one of"),
        (("start", "--manager", "ftp://h"), 1, "error: 'ftp://h' is no manager's address: write mqtt://host:port"),
        (("start", "--manager", "mqtt://h", "--enroll-token", "x"), 1, "error: this is no enrollment token"),
        (("start", "--manager", "http://192.0.2.1:8443"), 1, "write https:// (on the manager, panguard manager certs"),
        (("start", "--manager", "mqtts://h", "--ca-file", "none.pem"), 1, "error: "),
        (("status",), 1, "no guard was ever started in it"),
        (("stop",), 1, "error: no guard runs in"),
    ],
)
def test_mistakes_end_with_one_sentence(tmp_path: Path, arguments: tuple[str, ...], code: int, sentence: str) -> None:
    """Exit code 2 for a wrong call, 1 for what cannot be done; never a traceback."""
    done = guard(*arguments, "--data-dir", str(tmp_path / "data"))
    assert (done.returncode, done.stdout) == (code, "")
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
