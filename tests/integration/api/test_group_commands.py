"""Groups, tags and lists of agents on the command line, as docs/groups.md has them."""

import os
import pty
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest

from manager.cli.commands import agent_changes, agents
from manager.cli.support.failures import CommandFailed, ExitCode
from schemas import topics
from schemas.identifiers import LABEL
from schemas.presence import Mode
from tests.integration.api.served import ADMIN_TOKEN, Served
from tests.integration.api.terminal import Terminal

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "groups.md"


def test_every_command_of_the_page_works(
    served: Served, terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commands of docs/groups.md, in their order, end well on a fleet that has the host they name."""
    served.enroll("web-1")
    served.enroll("web-2", organization_id="acme")
    (tmp_path / "policy.json").write_text('{"response": {"actions": ["notify"]}}')
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
    commands = [line for block in blocks for line in block.splitlines()]
    assert len(commands) > 12
    for command in commands:
        program, word, *arguments = shlex.split(command)
        assert (program, word) == ("panguard", "manager")
        terminal.ok(*arguments)


def test_tags_are_added_and_taken_away(served: Served, terminal: Terminal) -> None:
    """`--tag` adds, `--untag` takes away, an empty site takes the site away; a tag that is not there is an error."""
    served.enroll("web-1")
    terminal.ok("agents", "set", "web-1", "--tag", "web", "--tag", "eu", "--site", "berlin")
    done = terminal.records("agents", "set", "web-1", "--tag", "db", "--untag", "eu")
    assert (done["tags"], done["site"]) == (["web", "db"], "berlin")
    assert terminal.records("agents", "set", "web-1", "--site", "")["site"] is None
    assert terminal.run("agents", "set", "web-1", "--untag", "none").exit_code == ExitCode.NOT_FOUND
    assert terminal.run("agents", "set", "web-1").exit_code == ExitCode.USAGE
    malformed = terminal.run("agents", "set", "web-1", "--tag", "bad tag")
    assert (malformed.exit_code, "letters, digits" in malformed.output) == (ExitCode.USAGE, True)
    assert agent_changes._LABEL.pattern == LABEL


def test_a_group_is_changed_in_part(served: Served, terminal: Terminal) -> None:
    """`groups set` keeps what is not named; a new group needs a selector and a priority."""
    served.enroll("web-1")
    terminal.ok("agents", "set", "web-1", "--tag", "web")
    assert "name --tag" in terminal.run("groups", "set", "web", "--priority", "1").output
    assert "--priority" in terminal.run("groups", "set", "web", "--tag", "web").output
    said = terminal.ok("groups", "set", "web", "--tag", "web", "--priority", "10", "--mode", "learning", "--dry-run")
    assert "it would change the policy of 1 host" in said
    terminal.ok("groups", "set", "web", "--tag", "web", "--priority", "10", "--mode", "learning")
    assert "a new policy for 1 agent" in terminal.ok("groups", "set", "web", "--mode", "protection")
    terminal.ok("groups", "set", "web", "--priority", "20")
    (found,) = terminal.records("groups", "list")
    assert found == {
        "name": "web", "organization": None, "selector": {"tagsAll": ["web"]}, "priority": 20, "agents": 1,
        "setToProtection": 1, "inProtection": 0, "blocking": 0, "policy": {"mode": "protection"},
    }  # fmt: skip
    listed = terminal.ok("groups", "list")
    assert "tag web" in listed
    assert "mode protection" in listed
    assert "group web" in terminal.ok("policies", "explain", "web-1")


def test_protection_that_blocks_nothing_is_told(served: Served, admin: httpx2.Client, terminal: Terminal) -> None:
    """Per host in the list and in `now`, per group with those that should be in it, and as drift of the mode."""
    learning, protection = Mode.LEARNING, Mode.PROTECTION
    stated = {
        "fenced": (protection, "nftables"), "simulating": (protection, "simulated"),
        "bare": (protection, "impossible"), "old": (protection, None), "behind": (learning, "nftables"),
        "exempt": (learning, "nftables"),
    }  # fmt: skip
    with served.bench() as bench:
        for hostname, (mode, enforcement) in stated.items():
            agent = bench.enroll(hostname, bench.token())
            beat = agent.heartbeat(bench.wall, mode=mode, enforcement=enforcement, enforced={"set": 0}, health="ok")
            bench.receive(topics.HEARTBEAT, agent.agent_id, beat)
        bench.pass_time(10)
    for hostname in stated:
        terminal.ok("agents", "set", hostname, "--tag", "web")
    exempt = terminal.records("agents", "show", "exempt")["agentId"]
    admin.put(f"/api/policies/agents/{exempt}", json={"mode": "learning"})
    terminal.ok("groups", "set", "web", "--tag", "web", "--priority", "10", "--mode", "protection")
    assert "4 of 6 (5 should be, 1 can block)" in terminal.ok("groups", "list")
    rows = {line.split()[0]: line for line in terminal.ok("agents", "list").splitlines()}
    for hostname, said in (("simulating", "blocks nothing"), ("bare", "blocks nothing"), ("old", "not known to block")):
        assert f"protection ({said})" in rows[hostname]
        assert f"protection ({said})" in terminal.ok("agents", "show", hostname)
    assert "protection (" not in rows["fenced"]
    screen = terminal.ok("now")
    assert "In mode protection, and not known to block: 3" in screen
    assert "its fence only simulates" in screen
    drift = {each["hostname"]: each for each in terminal.records("policies", "drift")}
    assert (drift["behind"]["mode"], drift["behind"]["policyMode"]) == ("learning", "protection")
    assert "learning → protection" in terminal.ok("policies", "drift")
    found = terminal.records("agents", "list", "--enforcement", "simulated", "--enforcement", "unknown")
    assert [each["hostname"] for each in found] == ["simulating", "old"]


def test_a_tag_that_no_agent_has_is_named(served: Served, terminal: Terminal) -> None:
    """`groups set` warns of a tag that chooses nobody, with the number of agents that only report it themselves."""
    reporting = served.join("web-1", tags=["web"])
    reporting.client.close()
    words = ("groups", "set", "web", "--tag", "web", "--priority", "10", "--mode", "learning", "--dry-run")
    warned = terminal.run(*words).stderr
    assert "no agent has tag web; 1 report it themselves" in warned
    terminal.ok("agents", "set", "web-1", "--tag", "web")
    assert terminal.run(*words).stderr == ""


def test_the_list_is_filtered_sorted_and_limited(served: Served, admin: httpx2.Client, terminal: Terminal) -> None:
    """Site, group, version and mode leave the agents that meet them; the order and the number are the operator's."""
    for hostname, tags, site in (("c", ["web"], "bonn"), ("a", ["db"], "bonn"), ("b", ["web", "db"], "rome")):
        agent = served.enroll(hostname)
        admin.patch(f"/api/agents/{agent.agent_id}", json={"tags": tags, "site": site})
    terminal.ok("groups", "set", "some", "--any-tag", "web", "--site", "rome", "--site", "bonn", "--priority", "1")

    def names(*arguments: str) -> list[str]:
        return [each["hostname"] for each in terminal.records("agents", "list", *arguments)]

    assert names("--site", "bonn") == ["c", "a"]
    assert names("--group", "some") == ["c", "b"]
    assert names("--sort", "hostname") == ["a", "b", "c"]
    assert names("--sort", "hostname", "--limit", "2") == ["a", "b"]
    assert names("--limit", "1") == ["c"]
    assert names("--version", "0.0.0") == names("--mode", "learning") == []
    assert terminal.run("agents", "list", "--group", "none").exit_code == ExitCode.NOT_FOUND


def test_322_agents_with_cloud_hostnames_stay_whole(
    served: Served, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At any width each agent is one line with its whole hostname and id, and no line is longer than the terminal."""
    agents: dict[str, Any] = {}
    with served.bench() as bench:
        token = bench.token()
        for number in range(322):
            hostname = f"ip-10-{number // 256}-{number % 256}-17.eu-central-1.compute.internal"
            agents[hostname] = bench.enroll(hostname, token, organization_id=f"o{number % 2}").agent_id
    for width in (80, 140):
        monkeypatch.setenv("COLUMNS", str(width))
        lines = terminal.ok("agents", "list").splitlines()
        rows = {line.split()[0]: line for line in lines if line.startswith("ip-")}
        assert {hostname: rows[hostname].split()[1] for hostname in agents} == agents
        assert max(len(line) for line in rows.values()) <= width
        assert any(line.startswith("the same in every row: status online") for line in lines[-2:])


def test_a_column_is_left_out_before_a_hostname_is_cut(
    served: Served, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hostname wider than the terminal is printed whole, alone with its id; `-o wide` prints every column."""
    monkeypatch.setenv("COLUMNS", "80")
    long = ".".join(["a" * 50, "b" * 50])
    agent = served.enroll(long)
    heading, row, more = terminal.ok("agents", "list").splitlines()
    assert (heading.split(), row.split()) == (["hostname", "agent", "id"], [long, agent.agent_id])
    assert "-o wide" in more
    wide = terminal.ok("agents", "list", "-o", "wide").splitlines()
    assert len(wide) == 2
    assert "reported tags" in wide[0]


def test_only_silent_agents_are_pruned(served: Served, terminal: Terminal) -> None:
    """A dry run lists them; those online or heard of since stay, and each removal is in the audit log."""
    old = served.join("old")
    with old.client:
        assert old.heartbeat().status_code == 200
    with served.bench() as bench:
        bench.pass_time(2 * 3600)
    served.enroll("new")
    found = terminal.records("agents", "prune", "--older-than", "1h", "--dry-run")
    assert [each["hostname"] for each in found["agents"]] == ["old"]
    heading, row, end = terminal.ok("agents", "prune", "--older-than", "1h", "--dry-run").splitlines()
    assert (heading.split(), row.split()[0]) == (["hostname", "agent", "id", "last", "heartbeat"], "old")
    assert row.endswith(" ago")
    assert end == "1 agent would be removed"
    assert len(terminal.records("agents", "list")) == 2
    short = terminal.run("agents", "prune", "--older-than", "59m")
    assert (short.exit_code, "at least 1h" in short.output) == (ExitCode.USAGE, True)
    assert "1 agent removed for good" in terminal.ok("agents", "prune", "--older-than", "1h")
    assert [each["hostname"] for each in terminal.records("agents", "list")] == ["new"]
    assert "agent.remove" in terminal.ok("audit", "list")
    assert "0 agents" in terminal.ok("agents", "prune", "--older-than", "1h")


def test_an_agent_is_removed_by_its_name(served: Served, terminal: Terminal) -> None:
    """`remove` takes the hostname or id as `show` does; without a name, or with two, it is wrong usage."""
    first, second = served.enroll("web-1"), served.enroll("web-2")
    assert terminal.run("agents", "remove").exit_code == ExitCode.USAGE
    assert terminal.run("agents", "remove", "web-1", "--machine-id", "web-2").exit_code == ExitCode.USAGE
    assert first.agent_id in terminal.ok("agents", "remove", "web-1")
    assert terminal.records("agents", "remove", second.agent_id)["removed"] is True
    assert terminal.records("agents", "list") == []


@pytest.mark.parametrize(("status", "asked"), [("online", 1), ("offline", 0)])
def test_removing_an_online_host_asks_on_a_terminal(
    served: Served, terminal: Terminal, monkeypatch: pytest.MonkeyPatch, status: str, asked: int
) -> None:
    """A host that is online is removed after a question only; a silent one without; `--yes` asks never."""
    agent = served.enroll("web-1")
    if status == "offline":
        with served.client() as client:
            client.delete(f"/api/agents/{agent.agent_id}")
    questions: list[str] = []

    def confirm(question: str, *, yes: bool) -> None:
        if not yes:
            questions.append(question)
            raise CommandFailed(ExitCode.FAILURE, "nothing was changed")

    monkeypatch.setattr(agents, "confirm", confirm)
    done = terminal.run("agents", "remove", "web-1")
    assert (len(questions), done.exit_code) == (asked, ExitCode.FAILURE if asked else ExitCode.OK)
    assert all("web-1" in question and "online" in question for question in questions)
    if asked:
        terminal.ok("agents", "remove", "web-1", "--yes")
    assert terminal.records("agents", "list") == []


@pytest.mark.parametrize(
    ("words", "question"),
    [
        (["policies", "remove", "--global"], b"changes the policy of 1 host"),
        (["groups", "remove", "web"], b"changes the policy of 1 host"),
        (["policies", "rollback", "FIRST"], b"2 documents (global, group web) and the policy of 1 host"),
    ],
)
def test_removal_and_rollback_ask_on_a_terminal(
    served: Served, admin: httpx2.Client, terminal: Terminal, words: list[str], question: bytes
) -> None:
    """A dry run changes nothing, neither does a no; `--yes` does not ask."""
    served.enroll("web-1")
    terminal.ok("agents", "set", "web-1", "--tag", "web")
    for threshold in (70, 71):
        admin.put("/api/policies/global", json={"thresholds": {"autoRespond": threshold}})
    terminal.ok("groups", "set", "web", "--tag", "web", "--priority", "10", "--mode", "protection")
    before = admin.get("/api/policies/history").json()["data"]
    words = [str(before[-1]["revision"]) if word == "FIRST" else word for word in words]
    changed = "mode" if words[0] == "groups" else "thresholds.autoRespond"
    assert changed in terminal.ok(*words, "--dry-run")
    command = [sys.executable, "-m", "panguard", "manager", *words]
    environment = {**os.environ, "MANAGER_URL": served.url, "MANAGER_AUTH_TOKEN": ADMIN_TOKEN, "PYTHONPATH": str(ROOT)}
    ours, theirs = pty.openpty()
    with subprocess.Popen(  # noqa: S603 -- our own module, no shell
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    ) as asking:
        os.close(theirs)
        said = b""
        while b" it?" not in said:
            said += os.read(ours, 4096)
        assert question in said
        os.write(ours, b"n\n")
        assert asking.wait(60) == ExitCode.FAILURE
        os.close(ours)
    assert admin.get("/api/policies/history").json()["data"] == before
    assert terminal.ok(*words, "--yes").startswith("revision")
    assert len(admin.get("/api/policies/history").json()["data"]) > len(before)


@pytest.mark.parametrize(("answer", "threshold"), [("n", 85), ("y", 71)])
def test_a_change_asks_on_a_terminal_with_the_number_of_hosts(
    served: Served, admin: httpx2.Client, tmp_path: Path, answer: str, threshold: float
) -> None:
    """Before it is sent it says how many hosts it touches; without a yes nothing is changed."""
    agent = served.enroll("web-1")
    (tmp_path / "policy.json").write_text('{"thresholds": {"autoRespond": 71}}')
    words = [sys.executable, "-m", "panguard", "manager", "policies", "set", "--global", "--file", "policy.json"]
    environment = {**os.environ, "MANAGER_URL": served.url, "MANAGER_AUTH_TOKEN": ADMIN_TOKEN, "PYTHONPATH": str(ROOT)}
    ours, theirs = pty.openpty()
    with subprocess.Popen(  # noqa: S603 -- our own module, no shell
        words, stdin=theirs, stdout=theirs, stderr=theirs, cwd=tmp_path, env=environment
    ) as command:
        os.close(theirs)
        said = b""
        while b"set it?" not in said:
            said += os.read(ours, 4096)
        assert b"this changes the policy of 1 host" in said
        os.write(ours, f"{answer}\n".encode())
        assert command.wait(60) == (ExitCode.OK if answer == "y" else ExitCode.FAILURE)
        os.close(ours)
    policy = admin.get(f"/api/policy/agent/{agent.agent_id}").json()["data"]
    assert policy["thresholds"]["autoRespond"] == threshold
