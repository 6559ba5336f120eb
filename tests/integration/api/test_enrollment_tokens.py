"""Enrollment tokens with a name, a rate, a rotation, and those of ephemeral agents; over both doors."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from manager.cli.support.failures import ExitCode
from manager.data_directory import DataDirectory
from manager.storage.store import PeeweeStore
from schemas import topics
from schemas.fleet import FleetEvent
from schemas.keys import EnrollmentToken
from tests.integration.api.served import Served
from tests.integration.api.terminal import Terminal
from tests.integration.api.test_enrollment import DOORS, Enroll, _create, _listed
from tests.integration.api.test_manager_process import _run, running

__all__ = ["running"]


def _rotate(terminal: Terminal, token: str) -> EnrollmentToken:
    return EnrollmentToken.parse(terminal.records("tokens", "rotate", token)["token"])


@DOORS
def test_a_rotated_token_has_a_new_text_and_the_same_terms(served: Served, terminal: Terminal, enroll: Enroll) -> None:
    """By name: the old text lets nobody in, the new one does; uses count on, and who came in before stays."""
    old = _create(terminal, "--name", "web", "--uses", "2", "--organization", "acme")
    first = enroll(served, "srv-01", old)
    new = _rotate(terminal, "web")
    assert (new.token_id, new.secret == old.secret) == (old.token_id, False)
    assert enroll(served, "srv-02", old) in {"bad_proof", "Unauthorized"}
    second = enroll(served, "srv-02", new)
    assert second.startswith("ag-")
    record = _listed(terminal, new)
    assert (record["name"], record["uses"], record["usesLeft"], record["organizationId"]) == ("web", 2, 0, "acme")
    assert record["rotatedAt"] is not None
    assert {each["agentId"] for each in terminal.records("agents", "list")} == {first, second}
    with served.bench() as bench:
        (stored,) = [
            each for each in PeeweeStore(bench.database, bench.keyring.store_key).load().tokens if each.name == "web"
        ]
    assert stored.proof_key == new.proof_key


def test_every_command_of_the_document_works(terminal: Terminal, tmp_path: Path) -> None:
    """The enrollment tokens of the lifecycle's page, in its order."""
    text = (Path(__file__).parents[3] / "docs" / "lifecycle.md").read_text().partition("## Enrollment")[2]
    (block, *_) = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    token = _create(terminal)
    for line in block.replace("tok-…", token.token_id).replace("24h", "9000d").splitlines():
        command, _, file = line.partition("#")[0].partition(" > ")
        made = terminal.ok(*shlex.split(command)[2:])
        if file:
            (tmp_path / file.strip()).write_text(made)
            EnrollmentToken.parse((tmp_path / "enroll.token").read_text())
    assert _listed(terminal, token)["revokedAt"] is not None


def test_a_name_stands_for_one_token(terminal: Terminal, admin: httpx2.Client) -> None:
    """It is refused while its token is not revoked, revokes it, and is free again then; no name looks like an id."""
    token = _create(terminal, "--name", "web")
    assert terminal.run("tokens", "create", "--name", "web").exit_code == ExitCode.CONFLICT
    assert terminal.ok("tokens", "revoke", "web") == f"revoked {token.token_id}\n"
    assert terminal.run("tokens", "rotate", "web").exit_code == ExitCode.NOT_FOUND
    assert terminal.run("tokens", "rotate", token.token_id).exit_code == ExitCode.NOT_FOUND
    assert _create(terminal, "--name", "web").token_id != token.token_id
    assert admin.post("/api/tokens", json={"name": "tok-1"}).status_code == 400


def test_the_audit_log_names_the_rotated_token(terminal: Terminal, admin: httpx2.Client) -> None:
    """By its id, whichever was given, and without a secret."""
    token = _create(terminal, "--name", "web", "--rate", "5", "--ephemeral")
    new = _rotate(terminal, "web")
    terminal.ok("tokens", "revoke", "web")
    log = admin.get("/api/audit", params={"target": token.token_id})
    assert [entry["action"] for entry in log.json()["data"]] == ["token.revoke", "token.rotate", "token.create"]
    assert {name: log.json()["data"][2]["after"][name] for name in ("name", "rate", "ephemeral")} == {
        "name": "web", "rate": 5, "ephemeral": True,
    }  # fmt: skip
    assert str(new).split(".")[2] not in log.text


@DOORS
def test_a_token_has_a_rate_of_its_own(served: Served, terminal: Terminal, enroll: Enroll) -> None:
    """Also one with a number of uses; the next new agent is let in an hour after the first one."""
    token = _create(terminal, "--rate", "2", "--uses", "100")
    assert [enroll(served, f"srv-{number}", token)[:3] for number in range(2)] == ["ag-", "ag-"]
    assert enroll(served, "srv-2", token)[:3] != "ag-"
    assert enroll(served, "srv-1", token)[:3] == "ag-"
    with served.bench() as bench:
        bench.pass_time(3600, step=60)
    assert enroll(served, "srv-2", token)[:3] == "ag-"


@DOORS
def test_ephemeral_agents_go_offline_silently_and_are_removed_after_an_hour(
    served: Served, terminal: Terminal, enroll: Enroll
) -> None:
    """No `agent_stale`, no `agent_offline`; another token's agent beside it is stale, and stays."""
    heard: list[FleetEvent] = []
    with served.bench() as bench:
        bench.engine.listeners.append(lambda row: heard.append(row.event))
    short = enroll(served, "scaled", _create(terminal, "--ephemeral"))
    lasting = enroll(served, "lasting", _create(terminal))
    with served.bench() as bench:
        bench.pass_time(130, step=10)
    state = {each["agentId"]: (each["status"], each["reason"]) for each in terminal.records("agents", "list")}
    assert state == {short: ("offline", "silence"), lasting: ("stale", "silence")}
    with served.bench() as bench:
        bench.pass_time(3400, step=10)
    assert {each["agentId"] for each in terminal.records("agents", "list")} == {short, lasting}
    with served.bench() as bench:
        bench.pass_time(200, step=10)
    assert [each["agentId"] for each in terminal.records("agents", "list")] == [lasting]
    about = [event.event for event in heard if event.agent_id == short]
    assert "agent_removed" in about
    assert not {"agent_stale", "agent_offline"} & set(about)
    assert "agent_stale" in [event.event for event in heard if event.agent_id == lasting]
    assert "scaled" not in terminal.ok("now")
    (entry,) = terminal.records("audit", "list", "--action", "agent.remove")
    assert (entry["actor"], entry["target"]) == ("manager", short)


def test_an_ephemeral_agent_that_is_heard_again_is_online(served: Served) -> None:
    """After silence by any heartbeat, after a lost connection by a new session; a sign-off is silent, too."""
    heard: list[FleetEvent] = []
    with served.bench() as bench:
        bench.engine.listeners.append(lambda row: heard.append(row.event))
        agent = bench.enroll("scaled", bench.token(ephemeral=True))
        for leave, back in ((_silence, _heartbeat), (_will, _birth), (_sign_off, _birth), (_silence, _birth)):
            leave(bench, agent)
            assert bench.state(agent) == "offline", leave
            back(bench, agent)
            assert bench.state(agent) == "online", (leave, back)
        _sign_off(bench, agent)
        _heartbeat(bench, agent)
        assert bench.state(agent) == "offline"
    assert not {"agent_stale", "agent_offline"} & {event.event for event in heard}


def _silence(bench: Any, _agent: Any) -> None:
    bench.pass_time(130, step=10)


def _heartbeat(bench: Any, agent: Any) -> None:
    bench.receive(topics.HEARTBEAT, agent.agent_id, agent.heartbeat(bench.wall))


def _will(bench: Any, agent: Any) -> None:
    bench.receive(topics.PRESENCE, agent.agent_id, agent.presence("lost", bench.wall))
    bench.pass_time(6)


def _sign_off(bench: Any, agent: Any) -> None:
    bench.receive(topics.PRESENCE, agent.agent_id, agent.presence("offline", bench.wall))


def _birth(bench: Any, agent: Any) -> None:
    agent.session += 1
    bench.receive(topics.PRESENCE, agent.agent_id, agent.presence("online", bench.wall))


def test_enroll_token_follows_a_rotation(running: Iterator[tuple[Path, str]]) -> None:
    """The file has the new text at once; after a manager that ended before it was written, the start rotates again.

    An access token is good after a restart, too.
    """
    directory, _ = running
    here = ("--data-dir", str(directory))
    before = (directory / "enroll.token").read_text()
    made = json.loads(_run("tokens", "rotate", "first", "-o", "json", *here).stdout)["token"]
    assert (directory / "enroll.token").read_text().strip() == made != before.strip()
    _run("tokens", "create", "--name", "other", *here)
    _run("tokens", "rotate", "other", *here)
    assert (directory / "enroll.token").read_text().strip() == made
    viewer = json.loads(_run("access", "create", "--name", "alice", "--role", "viewer", "-o", "json", *here).stdout)
    assert _run("stop", *here).returncode == ExitCode.OK
    (directory / "enroll.token").write_text(before)
    with _started(directory):
        text = (directory / "enroll.token").read_text().strip()
        assert text not in {made, before.strip()}
        url = json.loads((directory / "manager.ready").read_text())["http"]
        headers = {"Authorization": f"Bearer {text}"}
        host = {"hostname": "srv-01", "os": "Debian 12", "arch": "x64", "version": "1"}
        with httpx2.Client(base_url=url, trust_env=False, verify=False, timeout=60) as client:
            assert client.post("/api/agents/register", headers=headers, json=host).status_code == 201
            kept = {"Authorization": f"Bearer {viewer['token']}"}
            assert client.get("/api/agents", headers=kept).status_code == 200


class _started:  # noqa: N801 -- a context manager, as a function would read
    """A manager on a directory, until the block ends."""

    def __init__(self, directory: Path) -> None:
        command = "from manager.cli import app; app(prog_name='manager')"
        arguments = ["start", "--data-dir", str(directory), "--port", "0", "--mqtt-port", "0"]
        self._process = subprocess.Popen(  # noqa: S603 -- our own words
            [sys.executable, "-c", command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def __enter__(self) -> None:
        assert self._process.stdout is not None
        assert self._process.stdout.readline().startswith("ready")

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        assert self._process.wait(60) == 0
        assert self._process.stdout is not None
        self._process.stdout.close()


@pytest.mark.parametrize("text", ["", "damaged", "other"])
def test_a_file_of_another_token_is_left_alone(tmp_path: Path, text: str) -> None:
    """Missing, damaged, or of another id."""
    token, other = (EnrollmentToken.new("A" * 43) for _ in range(2))
    file = tmp_path / "enroll.token"
    written = {"other": str(other)}.get(text, text)
    if written:
        file.write_text(written)
    DataDirectory(tmp_path).follow_rotation(token)
    assert (file.read_text() if file.exists() else "") == written
