"""No secret stands anywhere but where it is kept: searched for after full runs, in all that they left behind.

One run has a manager with SQLite, and one two managers on PostgreSQL, of which operators and guards speak to the one
that stands by.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest
from typer.testing import CliRunner

from manager.cli import app
from schemas import message_codes
from schemas.keys import EnrollmentToken
from tests.support.migrated_store import address_of, has_two_managers
from tests.support.processes import PACE, GuardProcess, ManagerProcess, Panguard, spooled
from tests.support.production_mosquitto import ProductionMosquitto
from tests.support.secrets_kept import MAY_HOLD, Secrets, open_to_others
from tests.support.waiting import eventually

WIDE = {"COLUMNS": "300"}
pytestmark = [pytest.mark.long("tests/acceptance/test_demo_secrets.py"), pytest.mark.mosquitto]


@dataclass
class Run:
    """Managers and guards at a production broker, over TLS; what commands print is kept below `home`."""

    home: Path
    broker: ProductionMosquitto
    manager: ManagerProcess
    guards: dict[str, GuardProcess] = field(default_factory=dict)
    secrets: Secrets = field(default_factory=Secrets)
    beside: dict[str, set[str]] = field(default_factory=dict)
    outputs: list[tuple[str, str]] = field(default_factory=list)

    def kept(self) -> dict[str, set[str]]:
        """Return which secret each file is there to keep."""
        if not has_two_managers():
            return {**MAY_HOLD, **self.beside}
        files = {name: secrets for name, secrets in MAY_HOLD.items() if secrets != {"key file"}}
        of_the_leader = {f"leader/{name}": secrets for name, secrets in files.items()}
        return {**files, **of_the_leader, "manager.key": {"key file"}, **self.beside}

    def command(self, *words: str, **environment: str) -> int:
        """Run a command as an operator does, keep what it printed, and return its exit code."""
        ended = subprocess.run(  # noqa: S603 -- our own command
            [sys.executable, "-m", "panguard", *words],
            env={**os.environ, **PACE, **WIDE, **environment},
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        self._keep(words, ended.stdout + ended.stderr)
        return ended.returncode

    def manage(self, *words: str, **environment: str) -> int:
        """Run a command of the manager on its data directory, in this process: that saves most of its time."""
        ended = CliRunner().invoke(app, [*words, "--data-dir", str(self.manager.data)], env={**WIDE, **environment})
        self._keep(("manager", *words), ended.output)
        return ended.exit_code

    def _keep(self, words: Sequence[str], output: str) -> None:
        name = "-".join(word for word in words[:3] if word.isalpha())
        (self.home / f"{len(self.outputs):02}-{name}.out").write_text(output)
        self.outputs.append((name, output))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, each_deployment: str) -> Iterator[Run]:
    home = tmp_path_factory.mktemp(each_deployment)
    broker = ProductionMosquitto(home / "manager", home / "broker")
    manager = ManagerProcess(home, broker, tls=True)
    with broker, manager:
        run = Run(home, broker, manager)
        try:
            _enroll(run)
            _work(run)
            _fail(run)
            if not has_two_managers():  # files of one machine, for which no manager is asked
                _damage(run)
            _look(run)
            yield run
        finally:
            run.command("guard", "stop", "--data-dir", str(home / "in-the-background"))
            for guard in run.guards.values():
                guard.stop()


def _enroll(run: Run) -> None:
    """Guards by both doors and in the background, with a token of the first start and one that was made since."""
    handed_out = run.home / "handed-out.token"
    run.secrets.add_manager(run.manager.data, run.manager.key_file)
    assert run.manage("tokens", "create", "--keep-in", str(handed_out), "--uses", "5") == 0
    run.beside["handed-out.token"] = {"enrollment secret"}
    run.secrets.add_token(handed_out.read_text().strip())
    for name, url in (("by-mqtt", run.manager.mqtt), ("by-http", run.manager.http)):
        run.guards[name] = GuardProcess(run.manager, name, url=url)
        run.guards[name].start()
    background = ["guard", "start", "--manager", run.manager.mqtt, "--hostname", "in-the-background", "--detach"]
    background += ["--data-dir", str(run.home / "in-the-background")]
    assert run.command(*background, PANGUARD_ENROLL_TOKEN=handed_out.read_text().strip()) == 0
    eventually(lambda: run.manager.agent("in-the-background").get("status") == "online", what="the guard behind")
    for name in ("guard-by-mqtt", "guard-by-http", "in-the-background"):
        run.secrets.add_guard(run.home / name / "identity.json")
        run.beside[f"{name}/identity.json"] = {"agent secret", "given token", "http token"}


def _work(run: Run) -> None:
    """Threats, an incident, a policy; crashes of manager and guard; a broker that goes and comes back."""
    for guard in run.guards.values():
        guard.attacked_by("203.0.113.5")
    eventually(lambda: run.manager.get("/api/incidents"), what="an incident")
    (run.home / "policy.json").write_text(json.dumps({"thresholds": {"autoRespond": 70}}))
    assert run.manage("policies", "set", "--global", "--file", str(run.home / "policy.json")) == 0
    run.guards["by-mqtt"].kill()
    run.manager.kill()
    run.manager.start()
    run.guards["by-mqtt"].start()
    run.broker.stop()
    eventually(lambda: run.manager.leader.not_ready() is not None, what="the broker missed")
    run.manage("health")
    run.broker.start()
    eventually(lambda: run.manager.leader.not_ready() is None, what="the broker back")
    assert run.manage("health") == 0
    eventually(lambda: all(spooled(guard) == 0 for guard in run.guards.values()), what="all reported")


def _fail(run: Run) -> None:
    """Wrong and misplaced secrets, each a slip of one who holds the right one."""
    right, admin = (run.home / "handed-out.token").read_text().strip(), (run.manager.data / "admin.token").read_text()
    wrong = EnrollmentToken.parse(right)
    object.__setattr__(wrong, "secret", bytes(reversed(wrong.secret)))
    run.secrets.add_token(str(wrong))
    start = ["guard", "start", "--manager", run.manager.mqtt, "--hostname", "turned-away", "--data-dir"]
    log = run.home / "turned-away.log"
    refused = Panguard(log, *start, str(run.home / "turned-away"), environment={"PANGUARD_ENROLL_TOKEN": str(wrong)})
    eventually(lambda: "refused" in log.read_text() or refused.process.poll() is not None, what="a refusal")
    refused.terminate()
    run.secrets.add_guard(run.home / "turned-away" / "identity.json")
    run.beside["turned-away/identity.json"] = {"agent secret"}
    (run.home / "wrong.token").touch(0o600)
    (run.home / "wrong.token").write_text(f"{admin.strip()}x")
    run.beside["wrong.token"] = {"admin token"}
    assert run.manage("status", "--auth-token-file", str(run.home / "wrong.token")) == 4
    assert run.manage("status", "--manager", f"https://admin:{admin.strip()}@127.0.0.1:1") == 2
    (run.home / "answers.out").write_text("\n".join(_refused_requests(run, admin.strip())))


def _damage(run: Run) -> None:
    """Malformed tokens and URLs, and damaged files, with secrets in them."""
    right = (run.home / "handed-out.token").read_text().strip()
    start = ["guard", "start", "--manager", run.manager.mqtt, "--hostname", "turned-away", "--data-dir"]
    for number, token in enumerate((f"{right}x", right.replace("pg1", "pg2"), right.replace(".", " "))):
        assert run.command(*start, str(run.home / f"malformed-{number}"), PANGUARD_ENROLL_TOKEN=token) == 1
    damaged = run.home / "damaged-guard"
    damaged.mkdir(mode=0o700)
    identity = damaged / "identity.json"
    identity.touch(0o600)
    identity.write_text((run.home / "guard-by-mqtt" / "identity.json").read_text() + "}")
    run.beside["damaged-guard/identity.json"] = {"agent secret"}
    assert run.command(*start, str(damaged)) == 1
    for name, before, after in (("manager.key", b"0x", b""), ("panguard.db", b"", b""), ("admin.token", b"", b"\xff")):
        assert "Traceback" not in _start_damaged(run, name, before, after)
    assert "Traceback" in _crash(run)

    password = (run.manager.data / "broker.password").read_text().strip()
    for url in (f"mqtts://manager:{password}@127.0.0.1:1", f"mqtt://{password}@127.0.0.1:port"):
        assert run.command("manager", "start", "--broker", url, "--data-dir", str(run.home / "no-manager")) == 1
        assert run.command(*start[:3], url, "--data-dir", str(run.home / "malformed-3")) != 0


def _start_damaged(run: Run, name: str, before: bytes, after: bytes) -> str:
    """Start a manager on a copy of its data directory in which the seed stands in a file that it cannot read."""
    copy = run.home / f"spoilt-{name}"
    copy.mkdir(mode=0o700)
    seed = (run.manager.data / "manager.key").read_bytes().strip()
    for file, content in (("manager.key", seed), (name, before + seed + after)):
        (copy / file).touch(0o600)
        (copy / file).write_bytes(content)
        run.beside[f"{copy.name}/{file}"] = {"key file"}
    return _start_in_vain(run, copy, "--broker", "mqtt://127.0.0.1:1")


def _crash(run: Run) -> str:
    """Have a manager that has read all of its secrets meet what nobody expects."""
    copy = run.home / "crashing"
    (copy / "manager.ready").mkdir(mode=0o700, parents=True)
    copy.chmod(0o700)
    for file in ("manager.key", "admin.token", "observer.credential", "enroll.token"):
        (copy / file).touch(0o600)
        (copy / file).write_bytes((run.manager.data / file).read_bytes())
        run.beside[f"{copy.name}/{file}"] = MAY_HOLD[f"manager/{file}"]
    return _start_in_vain(run, copy, "--mqtt-port", "0")


def _start_in_vain(run: Run, data: Path, *words: str) -> str:
    assert run.command("manager", "start", "--data-dir", str(data), "--port", "0", *words) == 1
    return run.outputs[-1][1]


def _refused_requests(run: Run, admin: str) -> Iterator[str]:
    """Yield the answers to requests with a secret where none belongs, or a wrong one."""
    given = json.loads((run.home / "guard-by-http" / "identity.json").read_text())["http"]
    requests: list[tuple[str, str, str, Any]] = [
        ("GET", "/api/agents", f"{admin}x", None),
        ("GET", f"/api/agents?cursor={admin}", admin, None),
        ("GET", f"/api/policy/agent/{given['agent_id']}?version={admin}", admin, None),
        ("GET", f"/api/events/stream?ticket={admin}", "", None),
        ("GET", f"/{admin}", admin, None),
        ("POST", "/api/tokens", admin, {"expiresAt": admin}),
        ("POST", "/api/agents/register", f"{admin}x", {"hostname": "h", "os": "o", "arch": "x64", "version": "1"}),
        ("POST", "/api/agents/register", admin, {"token": admin}),
        ("POST", f"/api/agents/{given['agent_id']}/heartbeat", f"{given['token']}x", {}),
        ("POST", "/api/agents/ag-0000000000000000/heartbeat", given["token"], {}),
        ("GET", "/api/tokens", given["token"], None),
        ("POST", f"/api/agents/{given['agent_id']}/events", given["token"], {"threats": [given["token"]]}),
    ]
    with httpx2.Client(base_url=run.manager.http, verify=run.manager.trust, timeout=60) as client:
        for method, path, token, body in requests:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            answer = client.request(method, path, headers=headers, json=body)
            assert 400 <= answer.status_code < 500, (method, path, answer.text)
            yield f"{answer.status_code} {answer.headers} {answer.text}"


def _look(run: Run) -> None:
    """Print all that an operator can have printed, with secrets in the environment where the settings take them."""
    given = {"MANAGER_AUTH_TOKEN": (run.manager.data / "admin.token").read_text().strip()}
    given["PANGUARD_BROKER_PASSWORD"] = (run.manager.data / "broker.password").read_text().strip()
    listings = ["agents", "threats", "incidents", "blocks", "tokens", "audit", "allowlist", "certs"]
    for words in (["status"], ["config"], *([listing, "list"] for listing in listings)):
        assert run.manage(*words, "-o", "json", **given) == 0, words
        assert run.manage(*words) == 0, words
    assert run.manage("audit", "export", "--format", "csv") == 0
    assert run.manage("agents", "remove", "--machine-id", "by-http") == 0
    assert run.manage("now") == 0
    for data in ("guard-by-mqtt", "in-the-background"):
        assert run.command("guard", "status", "-o", "json", "--data-dir", str(run.home / data)) == 0
    _dump(run)


def _dump(run: Run) -> None:
    """Write the whole database, if it is no file of the manager's."""
    database = address_of(run.manager.data / "panguard.db")
    if database is None:
        return
    with psycopg.connect(database.url) as connection, (run.home / "database.dump").open("wb") as dump:
        tables = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
        for (name,) in connection.execute(tables).fetchall():
            with connection.cursor().copy(f'COPY "{name}" TO STDOUT') as rows:
                dump.writelines(rows)


def test_the_search_finds_what_is_there(run: Run, tmp_path: Path) -> None:
    """A key in any form is found, in a file and in a process, and each secret really is in the file that keeps it."""
    assert len(run.secrets) >= 40
    secret = message_codes.from_base64url(
        json.loads((run.home / "guard-by-mqtt" / "identity.json").read_text())["secret"]
    )
    for form in (secret, secret.hex().encode(), message_codes.to_base64url(secret).encode(), repr(secret).encode()):
        (tmp_path / "spilled").write_bytes(b"around " + form + b" it")
        assert run.secrets.in_files(tmp_path, {}) == {"spilled": {"agent secret"}}
    with subprocess.Popen(  # noqa: S603 -- ours
        [sys.executable, "-c", "input()", message_codes.to_base64url(secret)], stdin=subprocess.PIPE
    ) as shows:
        try:  # the new process shows its own arguments only once it runs the interpreter
            shown = eventually(
                lambda: run.secrets.in_processes([shows.pid]), what="the secret in the process's arguments"
            )
            assert set.union(*shown.values()) == {"agent secret"}
        finally:
            shows.communicate(b"\n")
    for name, kept in run.kept().items():
        assert run.secrets.found_in((run.home / name).read_bytes()) & kept, name


def test_files_hold_no_secret_but_the_one_that_they_keep(run: Run) -> None:
    """Logs, what commands print, answers of the API, the audit log, `config`, stores and status files: none."""
    searched = {path.name for path in run.home.rglob("*") if path.is_file()}
    assert {
        "manager.log",
        "by-mqtt.log",
        "guard.log",
        "answers.out",
        "status.json",
        "guard.db",
        "dynamic-security.json",
    } <= (searched)
    assert run.secrets.in_files(run.home, run.kept()) == {}
    assert ("database.dump" in searched) is has_two_managers()


def test_config_masks_what_is_secret(run: Run) -> None:
    """It says that there is one, and of the other settings what they are."""
    shown = [json.loads(text) for name, text in run.outputs if name == "manager-config" and text.startswith("[")]
    (settings,) = [{setting["setting"]: setting["value"] for setting in found} for found in shown]
    assert (settings["auth_token"], settings["broker_password"]) == ("********", "********")


def test_processes_show_no_secret(run: Run) -> None:
    """Neither the list of processes nor the environment of one, that of the guard in the background included."""
    background = int((run.home / "in-the-background" / "guard.pid").read_text())
    managers = {run.manager, run.manager.leader}
    pids = [background, run.broker.pid, *(each.running.process.pid for each in managers)]  # type: ignore[union-attr]
    pids += [guard.running.process.pid for guard in run.guards.values() if guard.running is not None]
    assert run.secrets.in_processes(pids) == {}


def test_data_is_its_owners_alone(run: Run) -> None:
    """Every file and directory that manager, guards and broker made for themselves is closed to others."""
    made = [str(each.data.relative_to(run.home)) for each in {run.manager, run.manager.leader}]
    made += ["guard-by-mqtt", "guard-by-http", "in-the-background", "turned-away", "broker"]
    assert open_to_others(run.home / name for name in made) == set()
