"""The admin commands against a real manager: what they print, and how they end."""

import json
from pathlib import Path

import httpx2
import pytest
from typer.testing import CliRunner

from manager.cli import app
from manager.cli.support.failures import ExitCode
from manager.domain.agents.clock_offset import ClockOffset
from schemas import topics
from schemas.keys import EnrollmentToken
from schemas.presence import PolicyState
from tests.integration.api.served import ADMIN_TOKEN, Served
from tests.integration.api.terminal import Terminal


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        (["agents", "list"], "/api/agents"),
        (["threats", "list"], "/api/threats"),
        (["tokens", "list"], "/api/tokens"),
        (["policies", "history"], "/api/policies/history"),
    ],
)
def test_a_listing_in_json_is_the_array_of_the_http_api(
    served: Served, admin: httpx2.Client, terminal: Terminal, arguments: list[str], path: str
) -> None:
    """`-o json` prints the records exactly as they are served."""
    agent = served.enroll("srv-01")
    with served.bench() as bench:
        bench.receive(topics.THREATS, agent.agent_id, agent.threat(bench.wall, sourceIp="198.51.100.7"))
    admin.put("/api/policies/global", json={"thresholds": {"autoRespond": 70}})
    served_records = admin.get(path).json()["data"]
    assert served_records
    assert terminal.records(*arguments) == served_records


def test_a_listing_goes_past_one_page(admin: httpx2.Client, terminal: Terminal) -> None:
    """All records come, whatever the size of a page; a limit is kept."""
    for threshold in range(1, 6):
        admin.put("/api/policies/global", json={"thresholds": {"autoRespond": threshold}})
    assert [change["revision"] for change in terminal.records("policies", "history", "--limit", "3")] == [6, 5, 4]
    assert len(terminal.records("policies", "history")) == 5


def test_a_table_shows_hostile_names_escaped(served: Served, terminal: Terminal) -> None:
    """Control characters in a report are escaped in tables and in JSON."""
    agent = served.enroll("[red]srv")
    with served.bench() as bench:
        evil = agent.threat(bench.wall, "t-1", sourceIp="\x1b]0;owned\x07", user="\u202e[link=http://x]y")
        bench.receive(topics.THREATS, agent.agent_id, evil)
    for arguments in (["threats", "list"], ["agents", "list"], ["agents", "show", agent.agent_id]):
        for output in ("table", "json"):
            text = terminal.ok(*arguments, "-o", output)
            assert not {"\x1b", "\x07", "\u202e"} & set(text)
            assert "[red]srv" in text
    assert r"\x1b]0;owned\x07" in terminal.ok("threats", "list")


def test_an_agent_is_shown_by_its_hostname(served: Served, terminal: Terminal) -> None:
    """Id and hostname name the same agent."""
    agent = served.enroll("srv-01")
    assert terminal.records("agents", "show", "srv-01") == terminal.records("agents", "show", agent.agent_id)
    assert "srv-01" in terminal.ok("agents", "show", agent.agent_id)
    assert terminal.run("agents", "show", "srv-02").exit_code == ExitCode.NOT_FOUND


def test_an_agent_is_found_by_the_first_labels_of_its_hostname(served: Served, terminal: Terminal) -> None:
    """In every command; a whole hostname wins, several matches are listed, part of a label is none."""
    web = served.enroll("Web-1.eu.example.net")
    for name in ("db-1.eu.example.net", "db-1.us.example.net", "api", "api.eu.example.net", "a%b.x"):
        served.enroll(name)
    for name in ("web-1", "WEB-1", "web-1.eu", "Web-1.eu.example.net"):
        assert terminal.records("agents", "show", name)["agentId"] == web.agent_id
    assert terminal.records("agents", "show", "api")["hostname"] == "api"
    for name in ("web", "web-1.e", "a%", "a_b"):
        assert terminal.run("agents", "show", name).exit_code == ExitCode.NOT_FOUND
    several = terminal.run("agents", "set", "db-1", "--tag", "db")
    assert several.exit_code == ExitCode.CONFLICT
    for name in ("2 hostnames begin with db-1", "db-1.eu.example.net (ag-", "db-1.us.example.net (ag-"):
        assert name in several.stderr
    for words in (
        ["blocks", "add", "198.51.100.9", "--agent", "web-1"],
        ["policies", "explain", "web-1"],
        ["policies", "get", "--agent", "web-1", "--effective"],
        ["threats", "list", "--agent", "web-1"],
        ["audit", "list", "--target", "web-1"],
        ["agents", "set", "web-1", "--tag", "web"],
        ["agents", "remove", "web-1", "--yes"],
    ):
        terminal.ok(*words)


@pytest.mark.parametrize(
    ("offset", "said"),
    [
        (412.0, "412 s: this agent's clock is 412 s behind the manager's"),
        (-90.0, "-90 s: this agent's clock is 90 s ahead of the manager's"),
        (0.25, "0.25 s: this agent's clock is right"),
    ],
)
def test_an_agents_clock_is_shown_in_words(served: Served, terminal: Terminal, offset: float, said: str) -> None:
    """The offset that a heartbeat showed is said for people, and is a number in JSON."""
    with served.bench() as bench:
        agent = bench.enroll("srv-01")
        agent.uptime_from -= 1000
        bench.fleet.registry.agents[agent.agent_id].clock = ClockOffset()
        bench.receive(topics.HEARTBEAT, agent.agent_id, agent.heartbeat(bench.wall - offset))
        bench.pass_time(10)
    assert said in terminal.ok("agents", "show", "srv-01")
    assert terminal.records("agents", "show", "srv-01")["clockOffset"] == offset


def test_an_agent_is_removed_by_hostname_or_id(served: Served, admin: httpx2.Client, terminal: Terminal) -> None:
    """Removed for good; a second time it is not found."""
    agent = served.enroll("srv-01")
    other = served.enroll("srv-02")
    assert agent.agent_id in terminal.ok("agents", "remove", "--machine-id", "srv-01")
    assert terminal.records("agents", "remove", "--machine-id", other.agent_id)["removed"] is True
    assert admin.get("/api/agents").json()["data"] == []
    gone = terminal.run("agents", "remove", "--machine-id", "srv-01")
    assert (gone.exit_code, "srv-01" in gone.stderr) == (ExitCode.NOT_FOUND, True)


def test_an_ambiguous_hostname_is_refused_with_the_candidates(
    served: Served, admin: httpx2.Client, terminal: Terminal
) -> None:
    """Nothing is removed, and the sentence names each agent that was meant."""
    agents = [served.enroll("srv-01", organization_id=organization) for organization in ("acme", "other")]
    result = terminal.run("agents", "remove", "--machine-id", "srv-01")
    assert result.exit_code == ExitCode.CONFLICT
    assert all(agent.agent_id in result.stderr for agent in agents)
    assert len(admin.get("/api/agents").json()["data"]) == 2


def test_a_policy_is_set_from_a_file_and_read_back(served: Served, terminal: Terminal, tmp_path: Path) -> None:
    """For each scope; what `get` prints can be set again, and then changes nothing."""
    served.enroll("srv-01")
    file = tmp_path / "policy.json"
    file.write_text(json.dumps({"thresholds": {"autoRespond": 70}}))
    for scope in (["--global"], ["--organization", "acme"], ["--agent", "srv-01"]):
        terminal.ok("policies", "set", *scope, "--file", str(file), "--allow-unknown")
        printed = terminal.ok("policies", "get", *scope)
        assert json.loads(printed) == {"thresholds": {"autoRespond": 70}}
        again = terminal.ok("policies", "set", *scope, "--file", "-", input=printed)
        assert again.startswith("nothing changed")
    effective = json.loads(terminal.ok("policies", "get", "--agent", "srv-01", "--effective"))
    assert effective["thresholds"] == {"autoRespond": 70, "notifyAndWait": 50}


def test_a_policy_with_a_wrong_field_is_refused_and_an_unknown_one_warned_of(
    terminal: Terminal, tmp_path: Path
) -> None:
    """Both name the field, on standard error."""
    file = tmp_path / "policy.json"
    file.write_text('{"thresholds":{"autoRespond":500}}')
    wrong = terminal.run("policies", "set", "--global", "--file", str(file))
    assert (wrong.exit_code, "thresholds.autoRespond" in wrong.stderr) == (ExitCode.FAILURE, True)
    file.write_text('{"colour":"red"}')
    warned = terminal.run("policies", "set", "--global", "--file", str(file), "--allow-unknown")
    assert (warned.exit_code, "colour" in warned.stderr) == (ExitCode.OK, True)


def test_a_token_is_printed_alone_and_can_be_revoked(terminal: Terminal) -> None:
    """`create` prints the token and nothing else, for scripts."""
    made = ("--organization", "acme", "--tag", "web", "--expires", "520y", "--uses", "2")
    assert terminal.run("tokens", "create", *made).exit_code == ExitCode.USAGE
    token = EnrollmentToken.parse(terminal.ok("tokens", "create", "--organization", "acme", "--uses", "2"))
    (kept,) = terminal.records("tokens", "list")
    assert (kept["tokenId"], kept["organizationId"], kept["maxUses"]) == (token.token_id, "acme", 2)
    assert token.token_id in terminal.ok("tokens", "revoke", token.token_id)
    assert terminal.records("tokens", "list")[0]["revokedAt"] is not None
    assert terminal.run("tokens", "revoke", "../agents/x").exit_code == ExitCode.NOT_FOUND


def test_status_shows_the_fleet_as_the_documentation_does(
    served: Served, admin: httpx2.Client, terminal: Terminal
) -> None:
    """Total, online, stale by name and since when, threats, the policy's version and how many agents have it."""
    agent, lost = served.enroll("srv-01"), served.enroll("srv-02")
    admin.put("/api/policies/global", json={"thresholds": {"autoRespond": 70}})
    with served.bench() as bench:
        bench.receive(topics.PRESENCE, lost.agent_id, lost.presence("lost", bench.wall))
        policy = bench.fleet.policies.effective[agent.agent_id]
        force = {"policy_version": policy.version, "policy_digest": policy.resolved.digest}
        beat = agent.heartbeat(bench.wall, policy_state=PolicyState.APPLIED, **force)
        bench.receive(topics.HEARTBEAT, agent.agent_id, beat)
        bench.receive(topics.THREATS, agent.agent_id, agent.threat(bench.wall, sourceIp="198.51.100.7"))
        bench.pass_time(10)
    lines = terminal.ok("status").splitlines()
    assert lines[0].startswith(f"Manager         {served.url}, up ")
    assert lines[1:4] == ["Total agents    2", "Online          1", "Stale           1"]
    assert lines[4].strip().startswith(f"srv-02 ({lost.agent_id}) since 2027-01-15T08:00:05")
    assert lines[4].endswith(": connection_lost")
    assert lines[5:] == [
        "Offline         0",
        "Active threats  1 in 24 h (1 medium)",
        "Policy version  2",
        "In force on     1 of 2 agents",
    ]
    assert terminal.records("status")["staleAgents"] == 1


def test_status_and_now_say_why_the_manager_is_not_ready(served: Served, terminal: Terminal) -> None:
    """Both have the reason of `/health/ready` in a line of its own near the top, and nothing where it is ready."""
    assert "Not ready" not in terminal.ok("status") + terminal.ok("now")
    served.not_ready = "the broker is not connected"
    assert terminal.ok("status").splitlines()[1] == "Not ready       the broker is not connected"
    assert terminal.ok("now").splitlines()[0] == "Not ready: the broker is not connected"


def test_threats_are_listed_by_an_agents_id_or_hostname(
    served: Served, admin: httpx2.Client, terminal: Terminal
) -> None:
    """Of an agent that was removed since, by its id still."""
    agent, other = served.enroll("srv-01"), served.enroll("srv-02")
    with served.bench() as bench:
        for each in (agent, other):
            bench.receive(topics.THREATS, each.agent_id, each.threat(bench.wall, f"of-{each.hostname}"))
    for name in ("srv-01", agent.agent_id):
        assert [each["id"] for each in terminal.records("threats", "list", "--agent", name)] == ["of-srv-01"]
    admin.delete(f"/api/agents/{agent.agent_id}", params={"purge": "true"})
    assert len(terminal.records("threats", "list", "--agent", agent.agent_id)) == 1
    assert terminal.run("threats", "list", "--agent", "srv-01").exit_code == ExitCode.NOT_FOUND


def test_clones_are_named_with_what_to_do(served: Served, terminal: Terminal) -> None:
    """In the status and in the agent's record: since when, both instances by their start, and the way out."""
    agent = served.enroll("srv-01")
    assert not [line for line in terminal.ok("status").splitlines() if line.startswith("Cloned")]
    assert terminal.records("agents", "show", "srv-01")["clone"] is None
    with served.bench() as bench:
        for turn in range(1, 5):
            agent.session, agent.uptime_from = turn + 1, bench.wall - 3600 * (turn % 2)
            bench.receive(topics.PRESENCE, agent.agent_id, agent.presence("online", bench.wall))
    lines = terminal.ok("status").splitlines()
    named = lines[lines.index("Cloned          1") + 1]
    for text in (named, terminal.ok("agents", "show", "srv-01")):
        assert "2027-01-15T07:00:00.000Z and 2027-01-15T08:00:00.000Z; keep one" in text
    assert "srv-01" in named
    assert terminal.records("status")["clones"][0]["agentId"] == agent.agent_id
    assert terminal.records("agents", "list")[0]["clone"]["since"] == "2027-01-15T08:00:00.000Z"


def test_a_refused_token_is_exit_code_4(served: Served) -> None:
    """A wrong token and an agent's own are both refused, in words that say which one is needed."""
    agent = served.enroll("srv-01")
    for token in ("wrong", agent.keys.http_token):
        result = Terminal(served, token).run("agents", "list")
        assert result.exit_code == ExitCode.UNAUTHORIZED
        assert "the admin token" in result.stderr
        assert token not in result.stderr.split()


def test_the_token_may_come_from_a_file_or_a_flag(served: Served, tmp_path: Path) -> None:
    """`--auth-token-file`, the data directory's own and `--auth-token` open the same door."""
    (tmp_path / "admin.token").write_text(f"{ADMIN_TOKEN}\n")
    for way in (
        ["--auth-token-file", str(tmp_path / "admin.token")],
        ["--data-dir", str(tmp_path)],
        ["--auth-token", ADMIN_TOKEN],
    ):
        arguments = ["agents", "list", "-o", "json", "--manager", served.url, *way]
        result = CliRunner().invoke(app, arguments, env={"MANAGER_AUTH_TOKEN": None, "MANAGER_URL": None})
        assert (result.exit_code, json.loads(result.stdout)) == (ExitCode.OK, [])


def test_an_agents_record_shows_its_last_changes_of_state(served: Served, terminal: Terminal) -> None:
    """The newest change comes first, in the table and in JSON."""
    agent = served.enroll("srv-01")
    with served.bench() as bench:
        bench.receive(topics.PRESENCE, agent.agent_id, agent.presence("offline", bench.wall))
    lines = terminal.records("agents", "show", "srv-01")["history"]
    assert [line["event"] for line in lines] == ["agent_offline", "agent_registered"]
    shown = terminal.ok("agents", "show", "srv-01")
    assert shown.index("agent_offline") < shown.index("agent_registered")


def test_the_clock_is_accepted_by_command(served: Served, admin: httpx2.Client, terminal: Terminal) -> None:
    """The command ends the wait of pruning, and answers with the time that was accepted."""
    with served.bench() as bench:
        bench.pass_time(130, step=10)
        assert "clock accept" in bench.fleet.warnings["clock"]
    assert terminal.ok("clock", "accept").startswith("accepted 20")
    with served.bench() as bench:
        assert not bench.fleet.warnings
    assert [entry["action"] for entry in admin.get("/api/audit").json()["data"]][:1] == ["clock.accept"]


def test_a_policy_change_has_its_reason_in_the_history(terminal: Terminal, tmp_path: Path) -> None:
    """--message of set, rollback and remove stands with its revision."""
    file = tmp_path / "reasons.json"
    file.write_text('{"thresholds": {"autoRespond": 71}}')
    terminal.ok("policies", "set", "--global", "--file", str(file), "--message", "quieter nights")
    file.write_text('{"thresholds": {"autoRespond": 72}}')
    terminal.ok("policies", "set", "--global", "--file", str(file))
    newest = terminal.records("policies", "history", "--limit", "2")
    assert [each["message"] for each in newest] == [None, "quieter nights"]
    terminal.ok("policies", "rollback", str(newest[1]["revision"]), "--message", "as before")
    terminal.ok("policies", "remove", "--global", "-m", "no longer needed")
    assert [each["message"] for each in terminal.records("policies", "history", "--limit", "2")] == [
        "no longer needed",
        "as before",
    ]
    assert "quieter nights" in terminal.ok("policies", "history")


def test_a_policy_is_checked_before_it_is_set(served: Served, terminal: Terminal, tmp_path: Path) -> None:
    """--dry-run shows the effect; a mistyped field is refused, and --allow-unknown takes it with a warning."""
    served.enroll("srv-01")
    file = tmp_path / "policy.json"
    file.write_text('{"thresholds": {"autoRespond": 61}}')
    shown = terminal.ok("policies", "set", "--global", "--file", str(file), "--dry-run")
    assert "thresholds.autoRespond" in shown
    assert terminal.records("policies", "list") == []
    file.write_text('{"tresholds": {"autoRespond": 61}}')
    refused = terminal.run("policies", "set", "--global", "--file", str(file))
    assert (refused.exit_code, "did you mean thresholds?" in refused.stderr) == (ExitCode.FAILURE, True)
    terminal.ok("policies", "set", "--global", "--file", str(file), "--allow-unknown")
