"""Lists on terminals of 80 and 140 columns, with a fleet of 322 cloud hostnames."""

import json

import pytest

from schemas import topics
from schemas.presence import Mode
from tests.integration.api.served import Served
from tests.integration.api.terminal import Terminal
from tests.support.attacks import ATTACKER, attack, trusted

CLOUD_HOSTS = [f"ip-10-{n // 256}-{n % 256:03}-17.eu-central-1.compute.internal" for n in range(322)]

_LISTS = {
    ("blocks", "list"): ("id", "value"),
    ("incidents", "list"): ("id", "value"),
    ("threats", "list"): ("id",),
    ("tokens", "list"): ("tokenId",),
    ("access", "list"): ("name",),
    ("audit", "list"): ("target",),
    ("groups", "list"): ("name",),
    ("policies", "list"): ("target",),
    ("policies", "history"): ("target",),
    ("policies", "drift"): ("agentId", "hostname"),
    ("allowlist", "list"): ("value",),
}
"""The members of each list's records that a table prints whole."""


def test_ids_and_addresses_stay_whole_at_any_width(
    served: Served, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each record is one line with its whole id and address, and no line is longer than the terminal."""
    with served.bench() as bench:
        token = bench.token()
        for name in CLOUD_HOSTS[3:]:
            bench.enroll(name, token)
        attack(bench, *trusted(bench, *CLOUD_HOSTS[:3]))
    terminal.ok("blocks", "add", "2001:db8:1234:5678:9abc:def0:1234:5678", "--reason", "scans our mail servers")
    terminal.ok("blocks", "add", "198.51.100.200", "--agent", CLOUD_HOSTS[0])
    terminal.ok("access", "create", "--name", "prometheus", "--role", "metrics")
    terminal.ok("tokens", "create", "--name", "web-servers", "--uses", "5")
    terminal.ok(
        "groups", "set", "web-servers", "--tag", "web", "--priority", "10", "--mode", "protection", "-m", "a " * 99
    )
    terminal.ok("allowlist", "add", "2001:db8:1234:5678:9abc:def0:1234:0/112")
    for command, members in _LISTS.items():
        records = terminal.records(*command)
        assert records
        for width in (80, 140):
            monkeypatch.setenv("COLUMNS", str(width))
            rows = terminal.ok(*command).splitlines()[1 : len(records) + 1]
            assert max(map(len, rows)) <= width, command
            for record, line in zip(records, rows, strict=True):
                for member in members:
                    assert str(record[member] or "-") in line.split(), (command, member, line)


def test_an_incident_of_322_hosts_is_read_at_80_columns(
    served: Served, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty hosts, blocks and threats, each on a line, with the numbers of all; `-o wide` names every host."""
    with served.bench() as bench:
        agents = trusted(bench, *CLOUD_HOSTS)
        attack(bench, *agents)
    (incident,) = terminal.records("incidents", "list", "--kind", "source_ip")
    whole = terminal.records("incidents", "show", incident["id"])
    terminal.ok("incidents", "note", incident["id"], "word " * 60)
    wanted = {incident["id"], ATTACKER}
    wanted |= {agent.agent_id for agent in agents[:20]} | set(CLOUD_HOSTS[:20])
    wanted |= {each["id"] for each in (*whole["entries"][:20], *whole["threats"][:20])}
    for width in (80, 140):
        monkeypatch.setenv("COLUMNS", str(width))
        shown = terminal.ok("incidents", "show", incident["id"])
        lines = shown.splitlines()
        assert max(map(len, lines)) <= width, max(lines, key=len)
        assert wanted <= set(shown.replace("(", " ").replace(")", " ").split())
        assert "322 hosts, 322 in time, 322 vouched" in lines
        assert "… and 302 more: -o wide has all" in lines
        assert lines[-1] == f"to lift its blocks: panguard manager incidents undo {incident['id']}"
        assert len(lines) < 120
    wide = set(terminal.ok("incidents", "show", incident["id"], "-o", "wide").split())
    assert set(CLOUD_HOSTS) | {agent.agent_id for agent in agents} <= wide


@pytest.mark.parametrize("width", [80, 140])
def test_one_record_is_read_at_any_width(
    served: Served, terminal: Terminal, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    """One agent, threat or block: hostnames, ids, hashes and addresses are whole, and all else is wrapped at words."""
    digest = "0123456789abcdef" * 4
    with served.bench() as bench:
        agents = trusted(bench, *CLOUD_HOSTS[:3])
        attack(bench, *agents)
        attack(bench, *agents, fileHash=digest)
        refused = [{"value": ATTACKER, "reason": "this is a gateway of this host"}]
        members = {"enforcement": "nftables", "enforced": {"set": 0, "refused": 1, "reasons": refused}}
        sources = [{"name": "/var/log/auth.log", "state": "unreadable", "records": 0, "reason": "no permission " * 9}]
        beat = agents[0].heartbeat(bench.wall, sources=sources, health="degraded", **members)
        bench.receive(topics.HEARTBEAT, agents[0].agent_id, beat)
        bench.pass_time(10)
    (threat,) = (
        each["id"] for each in terminal.records("threats", "list", "--source", ATTACKER, "--agent", CLOUD_HOSTS[0])
    )
    block = next(each for each in terminal.records("blocks", "list") if each["value"] == digest)
    incident = terminal.records("incidents", "list", "--value", digest)[0]["id"]
    monkeypatch.setenv("COLUMNS", str(width))
    for words, wanted in (
        (["agents", "show", CLOUD_HOSTS[0]], (agents[0].agent_id, "/var/log/auth.log", ATTACKER)),
        (["threats", "show", threat, "--agent", CLOUD_HOSTS[0]], (threat, ATTACKER, agents[0].agent_id)),
        (["blocks", "list", "--value", digest], (block["id"], digest)),
        (["incidents", "show", incident], (incident, digest)),
    ):
        shown = terminal.ok(*words)
        assert max(map(len, shown.splitlines())) <= width, max(shown.splitlines(), key=len)
        told = set(shown.replace("(", " ").replace(")", " ").replace(": ", " ").split())
        assert {CLOUD_HOSTS[0], *wanted} <= told | {word.rstrip(":;,") for word in told}


def test_a_details_table_is_as_wide_as_columns_says(
    served: Served, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a terminal too, `COLUMNS` is the width of the table of one block."""
    with served.bench() as bench:
        attack(bench, *trusted(bench, "a", "b", "c"))
    monkeypatch.setenv("COLUMNS", "80")
    shown = terminal.ok("blocks", "list", "--value", ATTACKER).splitlines()
    assert max(len(line.rstrip()) for line in shown) <= 80


def test_mode_and_enforcement_are_shown_at_80_columns(
    served: Served, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mode and enforcement come before the other columns, which a narrow terminal leaves out first."""
    served.enroll("web-1")
    monkeypatch.setenv("COLUMNS", "80")
    heading = terminal.ok("agents", "list").splitlines()[0]
    assert "mode" in heading
    assert "enforcement" in heading


def test_a_list_that_is_cut_says_so(served: Served, terminal: Terminal) -> None:
    """On standard error, so that scripts read the same; a list that has room for all says nothing.

    Raised attention to a technique blocks nothing, and is listed only where it is asked for.
    """
    with served.bench() as bench:
        attack(bench, *trusted(bench, *CLOUD_HOSTS[:3]))
    for words in (("blocks", "list"), ("threats", "list"), ("incidents", "list"), ("audit", "list")):
        cut = terminal.run(*words, "--limit", "1", "-o", "json")
        assert (cut.exit_code, len(json.loads(cut.stdout))) == (0, 1)
        assert "only the first 1 are listed: --limit lists more" in cut.stderr
        assert terminal.run(*words, "--limit", "100000", "-o", "json").stderr == ""
    assert {each["kind"] for each in terminal.records("blocks", "list", "--limit", "100000")} == {"ip"}
    kinds = {each["kind"] for each in terminal.records("blocks", "list", "--kind", "sensitivity")}
    assert kinds == {"sensitivity"}


def test_every_screen_is_read_at_80_columns(
    served: Served, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Words are whole, and only a word that is longer, or a command to copy, makes a line longer."""
    with served.bench() as bench:
        agents = trusted(bench, *CLOUD_HOSTS[:9])
        attack(bench, *agents[:3])
        wish = {"mode": Mode.LEARNING, "mode_wanted": Mode.PROTECTION}
        bench.receive(topics.HEARTBEAT, agents[8].agent_id, agents[8].heartbeat(bench.wall, **wish))
        for agent in agents[3:8]:
            bench.receive(topics.PRESENCE, agent.agent_id, agent.presence("lost", bench.wall))
        bench.pass_time(10)
    terminal.ok("blocks", "add", "198.51.100.200", "--agent", CLOUD_HOSTS[0], "--reason", "scans our mail servers")
    document = {"blocklist": {"ips": [{"value": f"198.51.100.{number}"} for number in range(40)]}}
    with served.client() as admin:
        assert admin.put("/api/policies/global", json=document).status_code == 200
    monkeypatch.setenv("COLUMNS", "80")
    screens = {
        command: terminal.ok(*command.split())
        for command in (
            "now", "status", f"policies explain {CLOUD_HOSTS[0]}", "notifications history", "config",
            "blocks list --value 198.51.100.200", "blocks lift 198.51.100.200",
        )
    }  # fmt: skip
    for command, shown in screens.items():
        for line in shown.splitlines():
            is_single = len(line.split()) == 1 or ": panguard manager" in line
            assert len(line) <= 80 or is_single, (command, line)
    assert f"on agent {CLOUD_HOSTS[0]}" in " ".join(screens["blocks list --value 198.51.100.200"].split())
    assert "learning (protection wanted)" in " ".join(screens["now"].split())
    assert "198.51.100.39" in screens[f"policies explain {CLOUD_HOSTS[0]}"]
    assert "MANAGER_AUTH_TOKEN" in screens["config"]


def test_the_words_that_select_agents_to_change_also_list_them(served: Served, terminal: Terminal) -> None:
    """`agents list` takes the `--where-…` of `agents set`."""
    served.enroll("web-1")
    terminal.ok("agents", "set", "web-1", "--site", "bonn", "--tag", "web")
    for words in (["--where-site", "bonn"], ["--where-tag", "web"], ["--where-organization", "default"]):
        assert [each["hostname"] for each in terminal.records("agents", "list", *words)] == ["web-1"]
    assert terminal.records("agents", "list", "--where-site", "graz") == []
