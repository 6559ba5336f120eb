"""Manual blocks over HTTP and by command, against the real engine and store."""

from pathlib import Path
from typing import Any

import httpx2
import pytest

from manager.cli.support.failures import ExitCode
from manager.cli.support.limited_input import LARGEST
from manager.domain.response.settings import ResponderSettings
from schemas import topics
from schemas.presence import PolicyState
from tests.integration.api.served import ADMIN_TOKEN, Served
from tests.integration.api.terminal import Terminal
from tests.support.attacks import ATTACKER, attack, trusted

ADDRESS = "198.51.100.9"


def test_a_block_is_answered_as_it_stands_in_the_list(served: Served, admin: httpx2.Client) -> None:
    """201 with who, why and until when; four hours and the whole fleet if nothing else is said."""
    served.enroll("a")
    added = admin.post("/api/blocks", json={"value": ADDRESS, "reason": "scans"})
    assert added.status_code == 201
    block = added.json()["data"]
    assert (block["value"], block["scope"], block["target"], block["organizationId"]) == (ADDRESS, "fleet", None, None)
    assert (block["reason"], block["addedBy"], block["incidentId"], block["overrides"]) == (
        "scans",
        "admin",
        None,
        None,
    )
    assert (block["createdAt"], block["expiresAt"]) == ("2027-01-15T08:00:00.000Z", "2027-01-15T12:00:00.000Z")
    assert admin.get("/api/blocks").json()["data"] == [block]
    (elsewhere,) = admin.get("/api/blocks?org_id=acme").json()["data"]
    assert (elsewhere["id"], block["targetCount"], elsewhere["targetCount"]) == (block["id"], 1, 0)


def test_who_accepted_and_who_enforces_a_block_is_counted_and_named(served: Served, admin: httpx2.Client) -> None:
    """Over the agents of all organizations; the sequences of two organizations differ."""
    with served.bench() as bench:
        first, second, silent = bench.enroll("a"), bench.enroll("b", organization_id="acme"), bench.enroll("c")
    admin.post("/api/blocks", json={"value": ADDRESS})
    with served.bench() as bench:
        for agent, organization_id in ((first, "default"), (second, "acme")):
            sequence = bench.fleet.blocklists.sequences[organization_id]
            enforced = {"blocklistSequence": sequence, "policyVersion": 1, "set": 1}
            members: dict[str, Any] = {"blocklist_sequence": sequence, "enforcement": "nftables", "enforced": enforced}
            beat = agent.heartbeat(bench.wall, policy_state=PolicyState.APPLIED, **members)
            bench.receive(topics.HEARTBEAT, agent.agent_id, beat)
        bench.pass_time(10)
    (block,) = admin.get(f"/api/blocks?value={ADDRESS}").json()["data"]
    assert (block["targetCount"], block["acceptedCount"], block["enforcedCount"]) == (3, 2, 2)
    assert {each["hostname"] for each in block["acceptedBy"]} == {"a", "b"}
    assert {each["hostname"] for each in block["enforcedBy"]} == {"a", "b"}
    assert silent.agent_id not in {each["agentId"] for each in block["acceptedBy"]}


def test_a_search_for_an_address_finds_the_networks_that_contain_it(admin: httpx2.Client) -> None:
    """And no other; a network finds itself."""
    for value in ("198.51.100.0/24", ADDRESS, "198.51.100.10", "2001:db8::/48"):
        assert admin.post("/api/blocks", json={"value": value}).status_code == 201

    def found(value: str) -> set[str]:
        return {block["value"] for block in admin.get("/api/blocks", params={"value": value}).json()["data"]}

    assert found(ADDRESS) == {"198.51.100.0/24", ADDRESS}
    assert found("198.51.100.0/24") == {"198.51.100.0/24"}
    assert found("2001:db8:0:1::5") == {"2001:db8::/48"}
    assert found("192.0.2.1") == set()


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"value": "nonsense"}, 400, "is no address"),
        ({"value": "127.0.0.1", "force": True}, 409, "the address that you ask from|loopback"),
        ({"value": ADDRESS, "seconds": 0}, 400, "seconds"),
        ({"value": ADDRESS, "seconds": 1e12}, 400, "seconds"),
        ({"value": ADDRESS, "reason": "x" * 101}, 400, "reason"),
        ({"value": ADDRESS, "reason": "a\nb"}, 400, "reason"),
        ({"value": ADDRESS, "organization": "acme", "agentId": "ag-0000000000000000"}, 400, "not several"),
        ({"value": ADDRESS, "agentId": "ag-0000000000000000"}, 404, "not found"),
    ],
)
def test_what_cannot_be_blocked_is_refused_with_the_reason(
    admin: httpx2.Client, body: dict[str, Any], status: int, words: str
) -> None:
    """And nothing is in force."""
    answer = admin.post("/api/blocks", json=body)
    assert answer.status_code == status
    assert any(word in answer.json()["error"] for word in words.split("|"))
    assert admin.get("/api/blocks").json()["data"] == []


def test_a_block_is_added_explained_and_lifted_by_command(served: Served, terminal: Terminal) -> None:
    """`list --value` says why, since when and who; `lift` says what it cannot do."""
    with served.bench() as bench:
        attack(bench, *trusted(bench, "a", "b", "c"))
    assert "in the whole fleet" in terminal.ok("blocks", "add", ADDRESS, "--for", "1h", "--reason", "scans")
    assert "in organization default" in terminal.ok("blocks", "add", ATTACKER, "--organization", "default")
    added = terminal.ok("blocks", "add", "198.51.100.10", "--agent", "a")
    assert added.startswith("block of 198.51.100.10 on a recorded for 1 agent until ")
    shown = terminal.ok("blocks", "list", "--value", ADDRESS)
    for words in ("scans", "by hand: admin", "in the whole fleet", "0 of 3", f"panguard manager blocks lift {ADDRESS}"):
        assert words in shown
    told = terminal.ok("blocks", "lift", ATTACKER)
    assert "1 incident responds no more" in told
    (ends,) = (line for line in told.splitlines() if line.startswith("until "))
    assert ", except 3 of 3 agents that may keep or make one (" in ends
    assert f"panguard guard unblock {ATTACKER}" in told
    (block, *_) = terminal.records("blocks", "list", "--value", ADDRESS)
    assert block["id"] in terminal.ok("blocks", "remove", block["id"])
    assert [each["value"] for each in terminal.records("blocks", "list", "--kind", "ip")] == ["198.51.100.10"]


def test_an_address_without_a_block_is_explained(terminal: Terminal, admin: httpx2.Client) -> None:
    """The policy documents that block it are named, not an expired entry, and that guards decide by themselves."""
    old = {"value": f"{ADDRESS}/32", "expiresAt": "2020-01-01T00:00:00Z"}
    document = {"blocklist": {"ips": [{"value": "198.51.100.0/24", "reason": "scans"}, old]}}
    assert admin.put("/api/policies/global", json=document).status_code == 200
    rule = {
        "ruleId": "r1",
        "type": "block_ip",
        "condition": {"ip": ADDRESS},
        "action": "block",
        "severity": "high",
        "description": "scans",
    }
    assert admin.put("/api/policies/organizations/acme", json={"rules": [rule]}).status_code == 200
    shown = terminal.ok("blocks", "list", "--value", ADDRESS).splitlines()
    source = f"panguard manager threats list --source {ADDRESS}"
    assert shown[0] == f"no block of the manager for {ADDRESS} is in force"
    assert set(shown[1:3]) == {
        "the policy document global blocks 198.51.100.0/24",
        f"the policy document organization acme blocks {ADDRESS}",
    }
    assert shown[3:] == [f"guards may have decided one themselves; threats that they report: {source}"]
    assert len(terminal.ok("blocks", "list", "--value", ADDRESS, "--organization", "default").splitlines()) == 3
    assert terminal.records("blocks", "list", "--value", ADDRESS) == []
    assert "policy document" not in terminal.ok("blocks", "list", "--value", "203.0.113.9")


def test_a_groups_document_that_blocks_an_address_is_named(terminal: Terminal, admin: httpx2.Client) -> None:
    """Its policy is a member of the group's document."""
    policy = {"blocklist": {"ips": [ADDRESS]}}
    document = {"selector": {"tagsAll": ["web"]}, "priority": 10, "policy": policy}
    assert admin.put("/api/policies/groups/web", json=document).status_code in {200, 201}
    shown = terminal.ok("blocks", "list", "--value", ADDRESS)
    assert f"the policy document group web blocks {ADDRESS}" in shown


def test_agents_that_do_not_enforce_a_block_are_counted_beyond_the_five_named(
    served: Served, terminal: Terminal
) -> None:
    """In the list of one address and in `now`."""
    with served.bench() as bench:
        for name in "abcdefg":
            agent = bench.enroll(name)
            bench.receive(topics.HEARTBEAT, agent.agent_id, agent.heartbeat(bench.wall, enforcement="simulated"))
    terminal.ok("blocks", "add", ADDRESS)
    assert "and 2 more" in terminal.ok("blocks", "list", "--value", ADDRESS)
    shown = terminal.ok("now")
    assert "Blocks decided: 1" in shown
    assert "; and not on 6 more" in shown


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("add 203.0.113.9 --for 400d", "write at most 366d"),
        ("add 203.0.113.9 --for 0s", "write at least 1s"),
        ("add example.com", "no address and no CIDR"),
        ("lift 1.2.3.400", "no address, no CIDR and no id"),
        ("remove inc-0123456789abcdef", "panguard manager incidents undo inc-0123456789abcdef"),
    ],
)
def test_a_wrong_word_is_wrong_usage(terminal: Terminal, command: str, words: str) -> None:
    """A duration out of bounds, a name, a bad address and an incident end with exit code 2 and the remedy."""
    done = terminal.run("blocks", *command.split())
    assert done.exit_code == ExitCode.USAGE
    assert words in done.output


def test_a_file_is_imported_whole(terminal: Terminal, tmp_path: Path) -> None:
    """Plain and CSV, with comments, repeated lines and durations of their own, in more than one request."""
    plain = tmp_path / "bad.txt"
    plain.write_text("# ours\n" + "".join(f"198.51.{number // 250}.{number % 250 + 1}\n" for number in range(450)) * 2)
    assert terminal.ok("blocks", "import", str(plain), "--dry-run").startswith("450 addresses would be blocked")
    assert terminal.records("blocks", "list") == []
    assert terminal.ok("blocks", "import", str(plain), "--for", "7d").startswith("450 addresses are blocked")
    table = tmp_path / "bad.csv"
    table.write_text("ip,reason,for\n192.0.2.1,spam,1h\n192.0.2.0/25,,\n")
    assert terminal.ok("blocks", "import", str(table), "--reason", "list").startswith("2 addresses are blocked")
    found = {each["value"]: each for each in terminal.records("blocks", "list", "--limit", "1000")}
    assert len(found) == 452
    assert (found["192.0.2.1"]["reason"], found["192.0.2.1"]["expiresAt"]) == ("spam", "2027-01-15T09:00:00.000Z")
    assert (found["192.0.2.0/25"]["reason"], found["192.0.2.0/25"]["expiresAt"]) == ("list", "2027-01-15T12:00:00.000Z")
    assert found["198.51.0.1"]["expiresAt"] == "2027-01-22T08:00:00.000Z"


def test_an_import_needs_room_for_the_whole_file(
    served: Served, terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dry run counts the new addresses of all requests; more than there is room for are refused before the first."""
    with served.bench() as bench:
        manual = bench.fleet.responder.entries.manual
        monkeypatch.setattr(manual, "_settings", ResponderSettings(organization_manual_blocks=300))
    file = tmp_path / "bad.txt"
    file.write_text("".join(f"198.51.{number // 200}.{number % 200 + 1}\n" for number in range(300)))
    assert terminal.ok("blocks", "import", str(file)).startswith("300 addresses are blocked")
    assert terminal.ok("blocks", "import", str(file), "--dry-run").startswith("300 addresses would be")  # replaced
    terminal.ok("blocks", "lift", "198.51.0.1")
    file.write_text("".join(f"198.51.{number // 200}.{number % 200 + 1}/32\n" for number in range(299)) + "192.0.2.1\n")
    for words in ([], ["--dry-run"]):
        refused = terminal.run("blocks", "import", str(file), *words)
        assert refused.exit_code == ExitCode.CONFLICT
        assert "2 addresses that are not blocked here yet, and there is room for 1 more" in refused.stderr
    assert len(terminal.records("blocks", "list", "--limit", "1000")) == 299


def test_all_bad_lines_of_a_file_are_named_at_once(terminal: Terminal, tmp_path: Path) -> None:
    """By number: those that are no address here, those that a rule refuses by the manager; nothing is blocked."""
    file = tmp_path / "bad.txt"
    file.write_text("198.51.100.1\n999.1.1.1\n198.51.100.5/24\n")
    refused = terminal.run("blocks", "import", str(file))
    assert refused.exit_code == ExitCode.USAGE
    assert [line.partition(":")[0] for line in refused.stderr.splitlines()[:2]] == ["line 2", "line 3"]
    file.write_text("198.51.100.1\n127.0.0.1\n224.0.0.1\n")
    refused = terminal.run("blocks", "import", str(file))
    assert refused.exit_code == ExitCode.FAILURE
    assert [line.partition(":")[0] for line in refused.stderr.splitlines()[:2]] == ["line 2", "line 3"]
    assert terminal.records("blocks", "list") == []
    file.write_text("name,value\n")
    assert terminal.run("blocks", "import", str(file), "--format", "csv").exit_code == ExitCode.USAGE
    assert terminal.run("blocks", "import", str(tmp_path / "none")).exit_code == ExitCode.USAGE


@pytest.mark.parametrize("command", [("blocks", "import"), ("policies", "set", "--global", "--file")])
def test_input_without_an_end_is_refused(terminal: Terminal, command: tuple[str, ...]) -> None:
    """Whether standard input or a device; nothing of the beginning is used, where the cut may be within an address."""
    whole = "203.0.113.12\n"
    text = "#" * (LARGEST - len(whole)) + "\n" + whole
    assert len(text) == LARGEST + 1
    for refused in (terminal.run(*command, "-", input=text), terminal.run(*command, "/dev/zero")):
        assert refused.exit_code != ExitCode.OK
        assert "larger than 8 MiB" in refused.stderr
    assert terminal.records("blocks", "list") == []


def test_now_shows_manual_blocks_with_the_command_that_removes_them(served: Served, terminal: Terminal) -> None:
    """As it stands; it removes the block."""
    served.enroll("a")
    terminal.ok("blocks", "add", ADDRESS)
    (block,) = terminal.records("now", "--manager", served.url, "--auth-token", ADMIN_TOKEN)["blocks"]
    assert f"{ADDRESS} on the whole fleet" in terminal.ok("now")
    terminal.ok(*block["undo"].split()[2:])
    assert terminal.records("blocks", "list") == []


def test_the_admin_sees_manual_blocks_in_an_agents_policy(served: Served, admin: httpx2.Client) -> None:
    """Each with the scope that it was added for."""
    agent = served.enroll("a")
    admin.post("/api/blocks", json={"value": ADDRESS})
    admin.post("/api/blocks", json={"value": "198.51.100.10", "agentId": agent.agent_id})
    shown = admin.get(f"/api/policy/agent/{agent.agent_id}").json()["data"]["blocklist"]["ips"]
    assert {each["value"]: each["scope"] for each in shown} == {ADDRESS: "fleet", "198.51.100.10": "agent"}


def test_an_http_agent_gets_manual_blocks_with_its_policy(served: Served, admin: httpx2.Client) -> None:
    """Those of its organization and of the whole fleet, under a newer version."""
    agent = served.join("legacy")
    with agent.client:
        before = agent.poll().json()["data"]["version"]
        admin.post("/api/blocks", json={"value": ADDRESS})
        polled = agent.poll(version=before).json()["data"]
    assert polled["version"] > before
    assert [each["value"] for each in polled["blocklist"]["ips"]] == [ADDRESS]


def test_a_groups_block_counts_the_agents_that_the_group_has(
    served: Served, admin: httpx2.Client, terminal: Terminal
) -> None:
    """By route and by command; a group that is not there is not found."""
    agents = [served.enroll(hostname) for hostname in ("web-1", "db-1")]
    document = {"selector": {"tagsAll": ["web"]}, "priority": 10, "policy": {}}
    assert admin.put("/api/policies/groups/web", json=document).status_code in {200, 201}
    assert admin.patch(f"/api/agents/{agents[0].agent_id}", json={"tags": ["web"]}).status_code == 200
    assert "in group web" in terminal.ok("blocks", "add", ADDRESS, "--group", "web")
    with served.bench() as bench:
        policy = bench.fleet.policies.effective[agents[0].agent_id]
        force = {"policy_version": policy.version, "policy_digest": policy.resolved.digest}
        beat = agents[0].heartbeat(bench.wall, policy_state=PolicyState.APPLIED, **force)
        bench.receive(topics.HEARTBEAT, agents[0].agent_id, beat)
        bench.pass_time(10)
    (block,) = admin.get(f"/api/blocks?value={ADDRESS}").json()["data"]
    assert (block["scope"], block["target"], block["organizationId"]) == ("group", "web", None)
    assert (block["targetCount"], block["acceptedCount"]) == (1, 1)
    assert [each["hostname"] for each in block["acceptedBy"]] == ["web-1"]
    assert terminal.run("blocks", "add", ADDRESS, "--group", "none").exit_code == ExitCode.NOT_FOUND
    for other in ({"organization": "acme"}, {"agentId": agents[0].agent_id}):
        assert admin.post("/api/blocks", json={"value": ADDRESS, "group": "web", **other}).status_code == 400
    assert f"{ADDRESS} on 1 agent," in terminal.ok("now")


def test_a_block_of_the_whole_fleet_names_the_organizations_that_are_exempt(
    served: Served, admin: httpx2.Client
) -> None:
    """Beside the block in the answer, and by the command; none where no organization keeps the address free."""
    served.enroll("a")
    with served.bench() as bench:
        bench.enroll("b", organization_id="acme")
    listed = {"value": "198.51.100.8", "organizationId": "acme"}
    assert admin.post("/api/allowlist", json=listed).status_code == 201
    for value, exempt in (("198.51.100.8", ["acme"]), ("198.51.100.9", [])):
        added = admin.post("/api/blocks", json={"value": value})
        assert (added.status_code, added.json()["exempt"]) == (201, exempt)
    added_again = Terminal(served).run("blocks", "add", "198.51.100.8")
    assert "not on the hosts of acme: its own rules keep the address free" in added_again.output
