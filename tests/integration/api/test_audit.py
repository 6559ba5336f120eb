"""The audit log: one entry for each change, with who, from where, before and after; none for what changed nothing."""

import csv
import io
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from manager.cli.support.failures import ExitCode
from tests.integration.api.served import ADMIN_TOKEN, HOST, Served
from tests.integration.api.terminal import Terminal
from tests.support.attacks import ATTACKER, attack, trusted

POLICY = {"thresholds": {"autoRespond": 80}}


def _log(served: Served, **query: Any) -> list[dict[str, Any]]:
    with served.client() as client:
        answer = client.get("/api/audit", params={"limit": 200, **query})
        assert answer.status_code == 200, answer.text
        return list(answer.json()["data"])


def _one(served: Served, ask: Callable[[httpx2.Client], httpx2.Response]) -> dict[str, Any]:
    """Ask for a change, and return the one entry that it left."""
    before = {entry["id"] for entry in _log(served)}
    with served.client() as client:
        answer = ask(client)
    assert answer.status_code in {200, 201}, answer.text
    (entry,) = [entry for entry in _log(served) if entry["id"] not in before]
    assert (entry["actor"], entry["address"]) == ("admin", "127.0.0.1")
    assert entry["requestId"] == answer.headers["X-Request-Id"]
    return dict(entry)


def _said(entry: dict[str, Any]) -> tuple[Any, ...]:
    return entry["action"], entry["target"], entry["before"], entry["after"]


def test_policies_stand_with_the_sections_that_changed(served: Served) -> None:
    """Set, changed, rolled back, taken away: each entry shows the sections that are not what they were."""
    put = _one(served, lambda client: client.put("/api/policies/global", json=POLICY))
    assert _said(put)[:3] == ("policy.set", "global", None)
    assert put["after"]["thresholds"]["autoRespond"] == 80
    changed = _one(
        served,
        lambda client: client.put("/api/policies/global", json={**POLICY, "alerting": {"minimumSeverity": "low"}}),
    )
    assert "thresholds" not in changed["after"]
    assert changed["after"]["alerting"]["minimumSeverity"] == "low"
    with served.client() as client:
        first = client.get("/api/policies/history").json()["data"][-1]["revision"]
    back = _one(served, lambda client: client.post("/api/policies/rollback", json={"revision": first}))
    assert _said(back)[:2] == ("policy.rollback", f"revision {first}")
    assert back["before"]["revision"] + 1 == back["after"]["revision"]
    gone = _one(served, lambda client: client.delete("/api/policies/global"))
    assert _said(gone)[:2] == ("policy.remove", "global")
    assert gone["after"] is None
    assert _one(served, lambda client: client.post("/api/policies/broadcast", json={}))["action"] == "policy.broadcast"


def test_what_changes_nothing_leaves_no_entry(served: Served) -> None:
    """The same document again, a read, and a refusal are no changes."""
    with served.client() as client:
        client.put("/api/policies/global", json=POLICY)
        count = len(_log(served))
        assert client.put("/api/policies/global", json=POLICY).status_code == 200
        assert client.get("/api/policies/drift").status_code == 200
        assert client.delete("/api/tokens/tok-none").status_code == 404
        assert client.put("/api/policies/global", json={"thresholds": {"autoRespond": 101}}).status_code == 400
    assert len(_log(served)) == count


def test_tokens_stand_without_their_secrets(served: Served) -> None:
    """Making one shows its limits, revoking one that it is revoked; its text is nowhere in the store."""
    made: list[str] = []

    def create(client: httpx2.Client) -> httpx2.Response:
        answer = client.post("/api/tokens", json={"organizationId": "acme", "maxUses": 3})
        made.append(answer.json()["data"]["token"])
        return answer

    entry = _one(served, create)
    token_id, secret = made[0].split(".")[1:3]
    assert _said(entry)[:3] == ("token.create", token_id, None)
    assert (entry["after"]["organizationId"], entry["after"]["maxUses"]) == ("acme", 3)
    revoked = _one(served, lambda client: client.delete(f"/api/tokens/{token_id}"))
    assert _said(revoked) == ("token.revoke", token_id, {"revoked": False}, {"revoked": True})
    with served.bench() as bench:
        text = json.dumps(bench.rows("SELECT * FROM audit_entry"))
    assert secret not in text
    assert ADMIN_TOKEN not in text


def test_agents_come_change_and_go(served: Served) -> None:
    """Registered, replaced, deregistered by an admin, removed; an agent's own sign-off is its history's business."""
    agent = served.join("srv-01")
    assert _said(_log(served)[0])[:3] == ("agent.register", agent.agent_id, None)
    again = served.join("srv-01")
    assert (_log(served)[0]["action"], _log(served)[0]["target"]) == ("agent.replace", agent.agent_id)
    count = len(_log(served))
    assert again.client.delete(f"/api/agents/{agent.agent_id}").status_code == 200
    assert len(_log(served)) == count
    again.heartbeat()
    gone = _one(served, lambda client: client.delete(f"/api/agents/{agent.agent_id}"))
    assert _said(gone) == ("agent.deregister", agent.agent_id, {"status": "online"}, {"status": "offline"})
    for client in (agent.client, again.client):
        client.close()
    removed = _one(served, lambda client: client.delete(f"/api/agents/{agent.agent_id}", params={"purge": "true"}))
    assert {entry["hostname"] for entry in _log(served, target=agent.agent_id)} == {"srv-01"}
    assert removed["before"]["hostname"] == "srv-01"
    assert _said(removed)[3] is None


def test_who_registers_with_a_token_is_named_by_it(served: Served) -> None:
    """Over MQTT as over HTTP; the broker hides the address, the HTTP door knows it."""
    with served.bench() as bench:
        token = bench.token()
        bench.enroll("srv-01", token)
    with served.client(str(token)) as client:
        assert client.post("/api/agents/register", json={**HOST, "hostname": "srv-02"}).status_code == 201
    over_http, over_mqtt = _log(served, action="agent.register")
    assert [over_http["actor"], over_mqtt["actor"]] == [f"token:{token.token_id}"] * 2
    assert [over_http["address"], over_mqtt["address"]] == ["127.0.0.1", None]


def test_the_actor_is_the_tokens_name_with_its_role(served: Served, terminal: Terminal) -> None:
    """The role is the one at the time: another token of this name later changes no entry. Hosts have none."""
    for role in ("admin", "responder"):
        made = terminal.records("access", "create", "--name", "alice", "--role", role)
        with served.client(made["token"]) as alice:
            assert alice.post("/api/blocks", json={"value": "198.51.100.9"}).status_code == 201
        terminal.ok("access", "revoke", "alice")
    roles = [(entry["actor"], entry["role"]) for entry in _log(served, action="block.add")]
    assert roles == [("alice", "responder"), ("alice", "admin")]
    token = terminal.records("tokens", "create", "--name", "web-servers")["token"]
    with served.client(token) as client:
        assert client.post("/api/agents/register", json=HOST | {"hostname": "srv-02"}).status_code == 201
    (entry,) = _log(served, action="agent.register")
    assert (entry["actor"], entry["role"]) == ("token:web-servers", None)
    assert entry["after"]["tokenId"] == token.split(".")[1]
    shown = terminal.ok("audit", "list")
    assert "alice (responder)" in shown
    assert "admin (admin)" not in shown


def test_responses_are_the_responders(served: Served) -> None:
    """Entries put in force are recorded with their incident; undo and freeze with the admin as actor."""
    with served.bench() as bench:
        attack(bench, *trusted(bench, "srv-01", "srv-02"))
    entries = _log(served, actor="responder")
    assert {entry["action"] for entry in entries} == {"incident.respond"}
    (entry,) = [entry for entry in entries if entry["after"]["entries"][0]["kind"] == "ip"]
    assert {shown["value"] for shown in entry["after"]["entries"]} == {ATTACKER}
    undone = _one(served, lambda client: client.post(f"/api/incidents/{entry['target']}/undo", json={}))
    assert undone["action"] == "incident.undo"
    assert (undone["before"]["entries"], undone["after"]["entries"]) == (entry["after"]["count"], 0)
    frozen = _one(served, lambda client: client.post("/api/responses/freeze", json={}))
    assert _said(frozen) == ("responses.freeze", "fleet", {"frozen": False}, {"frozen": True})


def test_an_allowlist_and_a_block(served: Served) -> None:
    """Each stands once, though an allowlist is a part of a policy and takes blocks away by itself."""
    with served.bench() as bench:
        attack(bench, *trusted(bench, "srv-01", "srv-02"))
    with served.client() as client:
        block = client.get("/api/blocks", params={"kind": "ip"}).json()["data"][0]
    gone = _one(served, lambda client: client.delete(f"/api/blocks/{block['id']}"))
    assert _said(gone)[:2] == ("block.remove", block["id"])
    assert gone["before"]["value"] == ATTACKER
    allowed = _one(served, lambda client: client.post("/api/allowlist", json={"value": "198.51.100.7"}))
    assert _said(allowed)[:2] == ("allowlist.add", "global")


def test_the_database_itself_refuses_to_change_it(served: Served, tmp_path: Path) -> None:
    """Not even the manager's own connection can change or delete a row."""
    served.join("srv-01").client.close()
    with served.bench() as bench, pytest.raises(Exception, match="only appended to") as updated:
        bench.database.execute_sql("UPDATE audit_entry SET actor = 'nobody'")
    assert updated
    for path in tmp_path.rglob("panguard.db"):
        with sqlite3.connect(path) as other, pytest.raises(sqlite3.IntegrityError, match="only appended to"):
            other.execute("DELETE FROM audit_entry")
        other.close()
    assert len(_log(served)) == 1


def test_filters_and_pages(served: Served) -> None:
    """By who, what, target and time, page after page, newest first."""
    for number in range(3):
        served.join(f"srv-{number:02}").client.close()
    with served.client() as client:
        client.put("/api/policies/global", json=POLICY)
    assert [entry["action"] for entry in _log(served, action="policy")] == ["policy.set"]
    assert len(_log(served, action="agent")) == 3
    assert _log(served, target="global")[0]["action"] == "policy.set"
    assert _log(served, since="2999-01-01T00:00:00Z") == []
    with served.client() as client:
        first = client.get("/api/audit", params={"limit": 3}).json()
        rest = client.get("/api/audit", params={"limit": 3, "cursor": first["nextCursor"]}).json()
    ids = [entry["id"] for entry in first["data"] + rest["data"]]
    assert ids == sorted(ids, reverse=True)
    assert (len(ids), rest["nextCursor"]) == (4, None)


def test_commands_show_and_export_it(served: Served, terminal: Terminal, tmp_path: Path) -> None:
    """A table for people, JSON lines and CSV for tools; what a spreadsheet would compute is made text."""
    with served.client() as client:
        client.put("/api/policies/organizations/-1.5", json=POLICY)
    assert "policy.set" in terminal.ok("audit", "list")
    lines = terminal.ok("audit", "export").splitlines()
    assert [json.loads(line)["action"] for line in lines] == ["policy.set"]
    target = tmp_path / "audit.csv"
    exported = terminal.run("audit", "export", "--format", "csv", "--output", str(target))
    assert "1 entry in" in exported.stderr
    assert terminal.run("audit", "export", "--output", "json").exit_code == ExitCode.USAGE
    (row,) = csv.DictReader(io.StringIO(target.read_text()))
    assert (row["action"], json.loads(row["after"])["thresholds"]["autoRespond"]) == ("policy.set", 80)
    assert target.stat().st_mode & 0o077 == 0


def test_changes_of_a_host_are_found_by_its_name(served: Served, terminal: Terminal) -> None:
    """The log has the agent's id; a hostname that nobody has finds nothing."""
    served.enroll("web-1")
    terminal.ok("agents", "set", "web-1", "--tag", "web")
    found = terminal.records("audit", "list", "--target", "web-1")
    agent_id = terminal.records("agents", "show", "web-1")["agentId"]
    assert found
    assert {entry["target"] for entry in found} == {agent_id}
    assert found == terminal.records("audit", "list", "--target", agent_id)
    lines = terminal.ok("audit", "export", "--target", "web-1").splitlines()
    assert [json.loads(line) for line in lines] == found
    assert terminal.records("audit", "list", "--target", "web-2") == []
