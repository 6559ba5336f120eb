"""A role changes nothing beyond it, by no door: valid requests of each documented change, and each command."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import typer.main

from manager.cli.application import app
from manager.cli.support.failures import ExitCode
from manager.domain.access import Role
from tests.integration.api.documented import ROWS, Row, filled
from tests.integration.api.served import LOOPBACK, Served
from tests.integration.api.terminal import Terminal
from tests.integration.api.test_documented_routes import Fleet
from tests.integration.api.test_roles import RANK, needed

_SIGN_IN = "POST /api/session"
"""For everybody: the token is in the body, and makes a session of its own role."""

CHANGES = [
    row for row in ROWS if row.operation.partition(" ")[0] != "GET" and not row.own and row.operation != _SIGN_IN
]
_AT_ONCE = {"POST /api/events/ticket", "POST /api/policies/diff"}
"""Change nothing, and are open to viewers."""

COMMANDS: dict[str, Role] = {
    "status": Role.VIEWER,
    "now": Role.VIEWER,
    "step-down": Role.ADMIN,
    "access list": Role.VIEWER,
    "access create --name eve --role admin": Role.ADMIN,
    "access rotate {name}": Role.ADMIN,
    "access revoke {name}": Role.ADMIN,
    "agents list": Role.VIEWER,
    "agents show {agent}": Role.VIEWER,
    "agents vitals {agent}": Role.VIEWER,
    "agents set {agent} --tag web": Role.ADMIN,
    "agents prune --older-than 1h": Role.ADMIN,
    "agents remove --machine-id {agent}": Role.ADMIN,
    "allowlist list": Role.VIEWER,
    "allowlist add 192.0.2.55": Role.RESPONDER,
    "allowlist remove 192.0.2.1": Role.RESPONDER,
    "audit list": Role.VIEWER,
    "audit export": Role.VIEWER,
    "blocks list": Role.VIEWER,
    "blocks add 192.0.2.200": Role.RESPONDER,
    "blocks remove {block}": Role.RESPONDER,
    "blocks lift {block}": Role.RESPONDER,
    "blocks import {addresses}": Role.RESPONDER,
    "clock accept": Role.ADMIN,
    "groups list": Role.VIEWER,
    "groups show web": Role.VIEWER,
    "groups set other --tag x --priority 8 --file {policy}": Role.ADMIN,
    "groups remove web": Role.ADMIN,
    "incidents list": Role.VIEWER,
    "incidents show {incident}": Role.VIEWER,
    "incidents undo {incident}": Role.RESPONDER,
    "incidents approve {waiting}": Role.RESPONDER,
    "incidents acknowledge {incident}": Role.RESPONDER,
    "incidents note {incident} seen": Role.RESPONDER,
    "incidents close {incident}": Role.RESPONDER,
    "keys status": Role.VIEWER,
    "keys rotate": Role.ADMIN,
    "keys rollback": Role.ADMIN,
    "notifications list": Role.VIEWER,
    "notifications history": Role.VIEWER,
    "notifications test ops": Role.ADMIN,
    "notifications pause ops --for 1h": Role.ADMIN,
    "notifications continue ops": Role.ADMIN,
    "notifications acknowledge waits-12": Role.RESPONDER,
    "notifications mute --for 1h": Role.RESPONDER,
    "notifications mute --for 1h --topic got_in": Role.ADMIN,
    "notifications unmute {mute}": Role.RESPONDER,
    "policies explain {agent}": Role.VIEWER,
    "policies list": Role.VIEWER,
    "policies get --global": Role.VIEWER,
    "policies set --global --file {policy}": Role.ADMIN,
    "policies remove --global": Role.ADMIN,
    "policies history": Role.VIEWER,
    "policies diff --from 1": Role.VIEWER,
    "policies rollback 2": Role.ADMIN,
    "policies broadcast": Role.ADMIN,
    "policies drift": Role.VIEWER,
    "protection forecast": Role.VIEWER,
    "responses status": Role.VIEWER,
    "responses freeze": Role.ADMIN,
    "responses thaw": Role.ADMIN,
    "responses organization any": Role.ADMIN,
    "threats list": Role.VIEWER,
    "threats show {threat}": Role.VIEWER,
    "threats recognize {threat}": Role.RESPONDER,
    "threats unrecognize {threat}": Role.RESPONDER,
    "tokens create": Role.ADMIN,
    "tokens list": Role.VIEWER,
    "tokens rotate {token}": Role.ADMIN,
    "tokens revoke {token}": Role.ADMIN,
}
"""Each command with the least role that it needs."""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    directory = tmp_path_factory.mktemp("manager")
    with Served(directory, client_addresses=LOOPBACK, rate_limit=0) as served, served.client() as admin:
        yield Fleet(served, admin)


@pytest.fixture(scope="module")
def tokens(fleet: Fleet) -> dict[Role, str]:
    return _tokens(fleet)


def _tokens(fleet: Fleet) -> dict[Role, str]:
    """Return an access token of each role."""
    return {
        role: fleet.admin.post("/api/access", json={"name": f"a-{role}", "role": role}).json()["data"]["token"]
        for role in Role
    }


def _store(fleet: Fleet) -> dict[str, Any]:
    """Return the store's rows by table, without the last use of access tokens."""
    with fleet.served.bench() as bench:
        names = [name for (name,) in bench.rows("SELECT name FROM sqlite_master WHERE type = 'table'")]
        rows = {name: bench.rows(f"SELECT * FROM {name}") for name in names}
        rows["access_token"] = bench.rows("SELECT name, digest, role, revoked_at, rotated_at FROM access_token")
    return rows


@pytest.mark.parametrize("row", CHANGES, ids=str)
def test_a_request_beyond_the_role_changes_nothing(fleet: Fleet, tokens: dict[Role, str], row: Row) -> None:
    """Each documented change, valid to the last member, by each role that may not: 403, and the store is as before."""
    agent = fleet.join()
    least = needed(row.operation.replace("waiting_id", "incident_id"))
    method, _, path = row.operation.partition(" ")
    with closing(agent.client):
        known = fleet.prepare(row, agent)
        url = path.format_map(known) + (f"?{row.query.format_map(known)}" if row.query else "")
        before = _store(fleet)
        for role in Role:
            allowed = least is role or (role in RANK and least in RANK and RANK[role] >= RANK[least])
            if allowed and row.operation not in _AT_ONCE:
                continue
            with fleet.served.client(tokens[role]) as holder:
                body = {} if row.body is None else {"json": filled(row.body, known)}
                answer = holder.request(method, url, **body)
            assert (answer.status_code == 403) is not allowed, (role, answer.text)
        assert _store(fleet) == before


def test_every_command_that_asks_the_manager_has_a_role() -> None:
    """Each command with a token option is in the table above; `health` needs none, `replay` and `start` ask nobody."""
    assert _asking() - {_name(line) for line in COMMANDS} - {"health", "replay", "start"} == set()


def _asking() -> set[str]:
    found = _leaves(typer.main.get_command(app))
    return {" ".join(path) for path, command in found if "auth_token" in {each.name for each in command.params}}


def _name(line: str) -> str:
    words = line.split()
    return words[0] if words[0] in {"status", "now"} else " ".join(words[:2])


def _leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, inner in getattr(command, "commands", {}).items():
        yield from _leaves(inner, (*path, name))
    if not hasattr(command, "commands"):
        yield path, command


@pytest.mark.parametrize("role", [Role.METRICS, Role.FEED, Role.VIEWER, Role.RESPONDER, Role.ADMIN])
def test_a_command_beyond_the_role_changes_nothing(tmp_path: Path, role: Role) -> None:
    """Exit code 4, and the store is as before; every other command is not refused for its token."""
    (tmp_path / "manager").mkdir()
    with Served(tmp_path / "manager", client_addresses=LOOPBACK, rate_limit=0) as served, served.client() as admin:
        _try_commands(Fleet(served, admin), tmp_path, role)


def _try_commands(fleet: Fleet, directory: Path, role: Role) -> None:
    words = _words(fleet, directory)
    terminal = Terminal(fleet.served, _tokens(fleet)[role])
    known = _asking()
    commands = {line: least for line, least in COMMANDS.items() if _name(line) in known}
    beyond = {line for line, least in commands.items() if role not in RANK or RANK[role] < RANK[least]}
    before = _store(fleet)
    codes = {line: terminal.run(*line.format_map(words).split()).exit_code for line in sorted(beyond)}
    assert {line: code for line, code in codes.items() if code != ExitCode.UNAUTHORIZED} == {}
    assert _store(fleet) == before
    for line in sorted(commands.keys() - beyond):
        result = terminal.run(*line.format_map(words).split())
        assert result.exit_code not in {ExitCode.UNAUTHORIZED, ExitCode.USAGE}, (line, result.output)


def _words(fleet: Fleet, directory: Path) -> dict[str, str]:
    """Return what fills the braces of a command; each thing exists."""
    (directory / "policy.json").write_text('{"thresholds": {"autoRespond": 61}}')
    (directory / "addresses.txt").write_text("192.0.2.201\n")
    admin = fleet.admin
    agent = fleet.join()
    agent.client.close()
    admin.post("/api/allowlist", json={"value": "192.0.2.1"})
    admin.post("/api/access", json={"name": "somebody", "role": "viewer"})
    group = {"selector": {"tagsAny": ["web"]}, "priority": 7, "policy": {"thresholds": {"autoRespond": 55}}}
    assert admin.put("/api/policies/groups/web", json=group).status_code < 300
    admin.post("/api/notifications/mute", json={"seconds": 60, "site": "graz"})

    def first(path: str, member: str = "id") -> str:
        return str(admin.get(path).json()["data"][0][member])

    return {
        "name": "somebody",
        "agent": agent.agent_id,
        "block": first("/api/blocks"),
        "incident": first("/api/incidents?response=applied"),
        "waiting": first("/api/incidents?response=pending_approval"),
        "mute": first("/api/notifications/mutes"),
        "threat": first("/api/threats"),
        "token": str(admin.post("/api/tokens", json={}).json()["data"]["tokenId"]),
        "policy": str(directory / "policy.json"),
        "addresses": str(directory / "addresses.txt"),
    }
