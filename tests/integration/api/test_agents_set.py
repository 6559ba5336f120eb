"""Changes of several agents by one command, and organizations that nothing names."""

from collections.abc import Iterator

import httpx2
import pytest

from manager.cli.commands import agent_changes
from manager.cli.support.failures import CommandFailed, ExitCode
from tests.integration.api.served import Served
from tests.integration.api.terminal import Terminal


@pytest.fixture
def hosts(served: Served) -> list[str]:
    """Hosts of one organization, more than one request takes."""
    return _enrolled(served)


def _enrolled(served: Served) -> list[str]:
    with served.bench() as bench:
        token = bench.token(site="bonn")
        return [bench.enroll(f"web-{number}", token, site="bonn").agent_id for number in range(203)]


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A manager with such hosts, which no test changes."""
    with Served(tmp_path_factory.mktemp("unchanged")) as served:
        _enrolled(served)
        yield served


def test_hosts_are_changed_by_name_or_selection(hosts: list[str], admin: httpx2.Client, terminal: Terminal) -> None:
    """The answer has the number of hosts and of changed policies; a dry run changes nothing; each is audited."""
    terminal.ok("groups", "set", "web", "--tag", "web", "--priority", "10", "--mode", "protection")
    told = terminal.ok("agents", "set", "web-1", "web-2", "web-1", "--tag", "web", "--dry-run")
    assert told == "would change 2 hosts, and the policy of 2 hosts\n"
    assert "changed 2 hosts, and the policy of 2 hosts" in terminal.ok(
        "agents", "set", "web-1", "web-2", "--tag", "web"
    )
    told = terminal.ok("agents", "set", "--where-site", "bonn", "--where-organization", "default", "--tag", "web")
    assert told == "changed 201 hosts, and the policy of 201 hosts; 2 hosts are so already\n"
    assert len(terminal.records("agents", "list", "--tag", "web")) == len(hosts)
    changed = terminal.records("agents", "set", "--where-tag", "web", "--where-group", "web", "--site", "rome")
    assert (len(changed["agents"]), changed["policies"], changed["refused"]) == (203, 0, [])
    alone = terminal.ok("agents", "set", "web-1", "--untag", "web")
    assert "tags none; site rome, organization default; its policy changes with it" in alone
    entry = admin.get("/api/audit", params={"action": "agent.set", "limit": 1}).json()["data"][0]
    assert (entry["before"], entry["after"], entry["actor"]) == ({"tags": ["web"]}, {"tags": []}, "admin")
    assert len(terminal.records("audit", "list", "--action", "agent.set", "--limit", "1000")) == 203 * 2 + 1


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ("--tag web", ExitCode.USAGE, "name agents, or select them"),
        ("web-1 --where-tag x --tag web", ExitCode.USAGE, "not both"),
        ("web-1", ExitCode.USAGE, "name --tag"),
        ("web-1 none --tag web", ExitCode.NOT_FOUND, "hostname none"),
        ("--where-tag none --tag web", ExitCode.NOT_FOUND, "no agent matches"),
        ("--where-site bonn --untag none", ExitCode.NOT_FOUND, "none of the 203 agents has tag none"),
        ("web-1 --tag a --untag a", ExitCode.USAGE, "a: name it"),
    ],
)
def test_a_wrong_selection_changes_nothing(unchanged: Served, words: str, code: ExitCode, told: str) -> None:
    """Neither names nor a selection, both, a name that is not found, or a selection without a host."""
    done = Terminal(unchanged).run("agents", "set", *words.split())
    assert (done.exit_code, told in done.output) == (code, True), done.output
    with unchanged.client() as admin:
        assert admin.get("/api/audit?action=agent.set").json()["data"] == []


def test_a_change_that_one_host_cannot_have_changes_none(served: Served, terminal: Terminal) -> None:
    """A hostname that is taken in the new organization or twice among those that move, or too many tags: named."""
    for organization in ("a", "b", "c"):
        served.enroll("srv", organization_id=organization)
    served.enroll("free", organization_id="b")
    refused = terminal.run("agents", "set", "--where-organization", "b", "--organization", "a")
    assert refused.exit_code == ExitCode.CONFLICT
    assert "srv (ag-" in refused.stderr
    assert "nothing was changed: 1 agent cannot" in refused.stderr
    terminal.ok("agents", "set", "--where-organization", "b", "--organization", "d", "--allow-unknown")
    ids = [each["agentId"] for each in terminal.records("agents", "list") if each["hostname"] == "srv"]
    clash = terminal.run("agents", "set", *ids, "--organization", "e", "--allow-unknown")
    assert (clash.exit_code, "2 agents cannot" in clash.stderr) == (ExitCode.CONFLICT, True)
    assert {each["organizationId"] for each in terminal.records("agents", "list")} == {"a", "c", "d"}
    many = [word for number in range(33) for word in ("--tag", f"t{number}")]
    assert terminal.run("agents", "set", "free", *many[2:]).exit_code == ExitCode.OK
    over = terminal.run("agents", "set", "free", "--tag", "t0")
    assert (over.exit_code, "33 tags, at most 32" in over.stderr) == (ExitCode.CONFLICT, True)


def test_a_change_of_several_hosts_or_of_a_policy_asks(
    served: Served, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal, with both numbers; one host whose policy stays is changed without a question, as with `--yes`."""
    for name in ("a", "b"):
        served.enroll(name)
    questions: list[str] = []

    def confirm(question: str, *, yes: bool) -> None:
        if not yes:
            questions.append(question)
            raise CommandFailed(ExitCode.FAILURE, "nothing was changed")

    monkeypatch.setattr(agent_changes, "confirm", confirm)
    terminal.ok("agents", "set", "a", "--tag", "x")
    assert terminal.run("agents", "set", "a", "b", "--tag", "y").exit_code == ExitCode.FAILURE
    terminal.ok("agents", "set", "a", "b", "--tag", "y", "--yes")
    terminal.ok("groups", "set", "z", "--tag", "z", "--priority", "1", "--mode", "learning", "--yes")
    assert terminal.run("agents", "set", "a", "--tag", "z").exit_code == ExitCode.FAILURE
    assert questions == [
        "this changes 2 hosts, and the policy of 0 hosts; go on?",
        "this changes 1 host, and the policy of 1 host; go on?",
    ]


@pytest.mark.parametrize(
    "words",
    [
        "agents set web-1 --organization {}",
        "blocks add 198.51.100.9 --organization {}",
        "blocks import {file} --organization {}",
        "access create --name eve --role viewer --organization {}",
        "allowlist add 198.51.100.9 --organization {}",
        "groups set web --tag web --priority 1 --organization {}",
        "policies set --organization {} --file {policy}",
    ],
)
def test_an_organization_that_nothing_names_is_refused(
    served: Served, admin: httpx2.Client, terminal: Terminal, tmp_path_factory: pytest.TempPathFactory, words: str
) -> None:
    """With the one that was probably meant; `--allow-unknown` takes it, and then its name is known."""
    served.enroll("web-1")
    terminal.ok("tokens", "create", "--organization", "umbrella")
    file = tmp_path_factory.mktemp("files") / "list.txt"
    file.write_text("198.51.100.9\n")
    policy = file.with_name("policy.json")
    policy.write_text("{}")

    def line(organization: str) -> list[str]:
        filled = words.replace("{file}", str(file)).replace("{policy}", str(policy))
        return filled.replace("{}", organization).split()

    before = admin.get("/api/audit").json()
    wrong = terminal.run(*line("umbrela"))
    assert wrong.exit_code == ExitCode.NOT_FOUND, wrong.output
    assert "names organization umbrela (did you mean umbrella?); --allow-unknown" in wrong.stderr
    assert admin.get("/api/audit").json() == before
    terminal.ok(*line("umbrella"))
    named = {each["organization"]: each["agents"] for each in admin.get("/api/organizations").json()["data"]}
    assert named.keys() == {"default", "umbrella"}
    assert sum(named.values()) == 1
    again = [*line("acme"), "--allow-unknown"]
    terminal.ok(*(["rob" if word == "eve" else word for word in again]))
