"""The commands on incidents, blocks, the allowlist, responses and revisions, against a real manager."""

import json
from pathlib import Path

import httpx2
import pytest

from manager.cli.support.failures import ExitCode
from schemas import topics
from tests.integration.api.served import ADMIN_TOKEN, Served
from tests.integration.api.terminal import Terminal
from tests.support.attacks import ATTACKER, attack, trusted


@pytest.fixture
def attacked(served: Served) -> Served:
    """A manager whose three agents met one attacker."""
    with served.bench() as bench:
        attack(bench, *trusted(bench, "a", "b", "c", site="berlin"))
    return served


@pytest.mark.usefixtures("attacked")
@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        (["incidents", "list"], "/api/incidents"),
        (["blocks", "list"], "/api/blocks?kind=ip"),
        (["allowlist", "list"], "/api/allowlist"),
        (["policies", "list"], "/api/policies"),
        (["policies", "drift"], "/api/policies/drift"),
    ],
)
def test_a_listing_in_json_is_the_array_of_the_http_api(
    admin: httpx2.Client, terminal: Terminal, arguments: list[str], path: str
) -> None:
    """`-o json` prints the records exactly as they are served; the table names what they are about."""
    admin.post("/api/allowlist", json={"value": "192.0.2.10"})
    served_records = admin.get(path).json()["data"]
    assert served_records
    assert terminal.records(*arguments) == served_records
    assert str(next(iter(served_records[0].values()))) in terminal.ok(*arguments)


@pytest.mark.usefixtures("attacked")
def test_an_incident_is_shown_and_undone(admin: httpx2.Client, terminal: Terminal) -> None:
    """Its agents by name, its blocks by id; undone, it says so, and its blocks are gone."""
    (incident,) = terminal.records("incidents", "list", "--kind", "source_ip", "--open", "--since", "3650d")
    shown = terminal.ok("incidents", "show", incident["id"])
    blocks = [each["id"] for each in terminal.records("blocks", "list", "--kind", "ip")]
    assert all(word in shown for word in (ATTACKER, "a", "b", "c", *blocks))
    assert terminal.records("incidents", "show", incident["id"])["entries"]
    undone = terminal.ok("incidents", "undo", incident["id"])
    assert f"source_ip {ATTACKER}): undone" in undone
    assert f"panguard guard unblock {ATTACKER}" in undone
    assert admin.get("/api/blocks?kind=ip").json()["data"] == []
    assert terminal.run("incidents", "approve", incident["id"]).exit_code == ExitCode.CONFLICT
    for command in ("show", "undo", "approve"):
        assert terminal.run("incidents", command, "../../agents").exit_code == ExitCode.NOT_FOUND


@pytest.mark.usefixtures("attacked")
def test_a_block_is_removed_by_its_id(terminal: Terminal) -> None:
    """Once; then it is not found."""
    block, *_ = terminal.records("blocks", "list", "--kind", "ip")
    assert block["id"] in terminal.ok("blocks", "remove", block["id"])
    assert terminal.run("blocks", "remove", block["id"]).exit_code == ExitCode.NOT_FOUND


def test_the_allowlist_is_kept_by_command(terminal: Terminal) -> None:
    """Added, added again, refused with the reason, taken away, not there any more."""
    assert terminal.ok("allowlist", "add", "192.0.2.1").startswith("allowed: ip 192.0.2.1, the whole fleet")
    assert "already" in terminal.ok("allowlist", "add", "192.0.2.1")
    words = ("allowlist", "add", "sshd", "--kind", "process", "--organization", "acme", "--allow-unknown")
    assert "organization acme" in terminal.ok(*words)
    wrong = terminal.run("allowlist", "add", "sshd")
    assert (wrong.exit_code, "kind process" in wrong.stderr) == (ExitCode.FAILURE, True)
    assert [each["value"] for each in terminal.records("allowlist", "list", "--organization", "acme")] == [
        "192.0.2.1",
        "sshd",
    ]
    assert "no longer allowed" in terminal.ok("allowlist", "remove", "192.0.2.1")
    assert terminal.run("allowlist", "remove", "192.0.2.1").exit_code == ExitCode.NOT_FOUND


def test_responses_are_frozen_and_let_go_on(terminal: Terminal) -> None:
    """Each command prints the new state of automatic response."""
    assert "active" in terminal.ok("responses", "status")
    assert "frozen" in terminal.ok("responses", "freeze")
    assert terminal.records("responses", "status")["frozen"] is True
    assert "active" in terminal.ok("responses", "thaw")


def test_policies_are_compared_rolled_back_and_taken_away(
    served: Served, admin: httpx2.Client, terminal: Terminal, tmp_path: Path
) -> None:
    """By revision and by a document that might be set; a rollback is a new revision."""
    served.enroll("srv-01")
    for threshold in (70, 40):
        admin.put("/api/policies/global", json={"thresholds": {"autoRespond": threshold}})
    assert "thresholds.autoRespond" in terminal.ok("policies", "diff", "--from", "2")
    assert terminal.records("policies", "diff", "--from", "2", "--to", "2") == []
    file = tmp_path / "policy.json"
    file.write_text(json.dumps({"thresholds": {"autoRespond": 41}, "colour": "red"}))
    refused = terminal.run("policies", "diff", "--agent", "srv-01", "--file", str(file))
    assert (refused.exit_code, "colour" in refused.stderr) == (ExitCode.FAILURE, True)
    file.write_text(json.dumps({"thresholds": {"autoRespond": 41}}))
    assert "thresholds.autoRespond" in terminal.ok("policies", "diff", "--agent", "srv-01", "--file", str(file))
    assert terminal.run("policies", "diff", "--file", str(file)).exit_code == ExitCode.USAGE
    assert terminal.run("policies", "diff").exit_code == ExitCode.USAGE
    assert terminal.ok("policies", "rollback", "2").startswith("revision 4: a new policy for 1 agent")
    assert terminal.run("policies", "rollback", "99").exit_code == ExitCode.NOT_FOUND
    assert terminal.ok("policies", "broadcast").startswith("1 policy is published")
    assert terminal.ok("policies", "remove", "--global").startswith("revision 5")
    assert terminal.ok("policies", "remove", "--global").startswith("nothing changed")
    assert terminal.records("policies", "list") == []


def test_now_shows_what_needs_a_person(attacked: Served, terminal: Terminal) -> None:
    """New incidents, blocks and how to undo them, approvals that expire, silence by site, the frozen state."""
    with attacked.bench() as bench:
        lost = bench.enroll("lost", site="hamburg")
        bench.receive(topics.PRESENCE, lost.agent_id, lost.presence("lost", bench.wall))
        bench.pass_time(10)
        liars = trusted(bench, "x", "y", organization_id="acme")
        for number in range(11):
            attack(bench, *liars, sourceIp=f"198.51.100.{number + 1}")
    terminal.ok("responses", "freeze")
    situation = terminal.records("now")
    (address,) = [each for each in situation["newIncidents"] if each["value"] == ATTACKER]
    assert situation["chronicIncidents"] == 0
    assert [agent["hostname"] for agent in situation["silence"]["hamburg"]] == ["lost"]
    (waiting,) = situation["approvals"]
    assert waiting["approve"] == f"panguard manager incidents approve {waiting['id']}"
    assert f"to approve it: {waiting['approve']}" in terminal.ok("incidents", "show", waiting["id"])
    block = next(each for each in situation["blocks"] if each["value"] == ATTACKER)
    assert block["organizationWide"] is True
    assert block["undo"] == f"panguard manager incidents undo {address['id']}"
    screen = terminal.ok("now")
    assert "AUTOMATIC RESPONSE IS FROZEN. To resume it: panguard manager responses thaw" in screen.splitlines()[0]
    for words in (block["undo"], waiting["approve"], "site hamburg: 1, lost", "Chronic incidents: 0"):
        assert words in screen
    assert "… and" in terminal.ok("now", "--limit", "1")


def test_the_command_that_now_prints_undoes_what_it_says(attacked: Served, terminal: Terminal) -> None:
    """As it stands, with the options that named the manager; a secret is not repeated."""
    situation = terminal.records("now", "--manager", attacked.url, "--auth-token", ADMIN_TOKEN)
    for block in situation["blocks"]:
        command = block["undo"].split()
        assert command[:2] == ["panguard", "manager"]
        assert command[-2:] == ["--manager", attacked.url]
        terminal.ok(*command[2:])
    assert terminal.records("now")["blocks"] == []


def test_a_block_whose_incident_is_gone_is_undone_by_itself(attacked: Served, terminal: Terminal) -> None:
    """Incidents are pruned before long blocks end; then each entry has its own command."""
    with attacked.bench() as bench:
        bench.database.execute_sql("DELETE FROM incident_member")
        bench.database.execute_sql("DELETE FROM incident")
    undo = [block["undo"].split()[2:] for block in terminal.records("now")["blocks"]]
    assert undo
    assert all(command[:2] == ["blocks", "remove"] for command in undo)
    for command in undo:
        terminal.ok(*command)
    assert terminal.records("blocks", "list", "--kind", "ip") == []


def test_hostile_names_reach_no_terminal(served: Served, terminal: Terminal) -> None:
    """A hostname that an attacker chose is escaped on every screen."""
    with served.bench() as bench:
        agents = trusted(bench, "evil\u202ename[red]", "b", "c")
        attack(bench, *agents)
        bench.receive(topics.PRESENCE, agents[0].agent_id, agents[0].presence("lost", bench.wall))
        bench.pass_time(10)
    incident = terminal.records("incidents", "list")[0]["id"]
    for arguments in (["now"], ["incidents", "show", incident], ["policies", "drift"]):
        for output in ("table", "json"):
            text = terminal.ok(*arguments, "-o", output)
            assert "\u202e" not in text
            assert "name[red]" in text
