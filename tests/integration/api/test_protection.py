"""The forecast of automatic blocking over HTTP and by command."""

import re
import shlex
from pathlib import Path

import httpx2
import pytest

from manager.engine.commands.requests import ChangeAgent
from schemas import topics
from schemas.model import utc
from schemas.presence import ReportedLogin
from schemas.threats import ResponseTaken
from tests.integration.api.served import Served
from tests.integration.api.terminal import Terminal
from tests.support.attacks import trusted

FRIEND = "203.0.113.1"


@pytest.fixture
def blocking(served: Served) -> Served:
    """A manager whose guard would have blocked four addresses, and reported a login from one of them."""
    with served.bench() as bench:
        (agent,) = trusted(bench, "web-1")
        for number in range(1, 5):
            address = f"203.0.113.{number}"
            agent.response = ResponseTaken(action="block_ip", target=address, outcome="would_be_taken", connections=0)
            bench.receive(topics.THREATS, agent.agent_id, agent.threat(bench.wall, sourceIp=address))
        bench.pass_time(60)
        login = ReportedLogin(source_ip=FRIEND, user="bob", at=utc(bench.wall))
        bench.receive(topics.HEARTBEAT, agent.agent_id, agent.heartbeat(bench.wall, logins=[login]))
        bench.pass_time(60)
    return served


def test_the_forecast_is_one_sentence_and_its_cases(blocking: Served) -> None:
    """The command prints the counts in a sentence, then each address that turned out to be a friend's."""
    first, *rest = Terminal(blocking).ok("protection", "forecast").splitlines()
    assert first == (
        "30 days: 4 addresses would have been blocked, 1 later logged in (bob from 203.0.113.1), 0 customers cut; "
        "100 % before their 6th guess"
    )
    assert any(FRIEND in line and "bob logged in on web-1" in line for line in rest)


def test_an_allowlist_entry_makes_a_friend(blocking: Served) -> None:
    """An entry that covers a blocked address counts, and so does one that was removed since."""
    terminal = Terminal(blocking)
    terminal.ok("allowlist", "add", "203.0.113.2/31")
    terminal.ok("allowlist", "remove", "203.0.113.2/31")
    found = terminal.records("protection", "forecast", "--days", "7")
    assert (found["addresses"], found["allowlisted"], found["friends"]) == (4, 2, 3)
    allowed = {case["address"]: case["allowance"] for case in found["cases"] if case["allowance"] is not None}
    assert {each["value"] for each in allowed.values()} == {"203.0.113.2/31"}
    assert set(allowed) == {"203.0.113.2", "203.0.113.3"}


def test_each_documented_command_runs(blocking: Served, admin: httpx2.Client) -> None:
    """The commands of the page on protection do what it says."""
    group = {"selector": {"sites": ["web"]}, "priority": 1, "policy": {}}
    assert admin.put("/api/policies/groups/web", json=group).status_code == 200
    page = (Path(__file__).parents[3] / "docs" / "protection.md").read_text()
    commands = re.findall(r"^panguard manager (protection .*)$", page, re.MULTILINE)
    assert len(commands) == 4
    for command in commands:
        Terminal(blocking).ok(*shlex.split(command))


def test_without_measures_the_command_says_so(served: Served) -> None:
    """A fleet whose guards reported no measure has no forecast, which is not a forecast of zero."""
    assert Terminal(served).ok("protection", "forecast").startswith("30 days: no guard reported")


def test_a_group_counts_its_own_agents(blocking: Served, admin: httpx2.Client) -> None:
    """Only measures of agents that the group selects now count; an allowlist of the group makes its friends."""
    with blocking.bench() as bench:
        (agent,) = trusted(bench, "db-1")
        bench.ask(ChangeAgent(agent.agent_id, "test", site="cellar"))
        agent.response = ResponseTaken(action="block_ip", target="203.0.113.9", outcome="taken")
        bench.receive(topics.THREATS, agent.agent_id, agent.threat(bench.wall, sourceIp="203.0.113.9"))
    policy = {"allowlist": {"ips": ["203.0.113.0/24"]}}
    group = {"selector": {"sites": ["cellar"]}, "priority": 1, "policy": policy}
    assert admin.put("/api/policies/groups/databases", json=group).status_code == 200
    terminal = Terminal(blocking)
    found = terminal.records("protection", "forecast", "--group", "databases")
    assert (found["addresses"], found["taken"], found["allowlisted"], found["hosts"]) == (1, 1, 1, 1)
    assert [case["address"] for case in found["cases"]] == ["203.0.113.9"]
    fleet = terminal.records("protection", "forecast")
    assert (fleet["addresses"], fleet["allowlisted"]) == (5, 1)
    assert admin.delete("/api/policies/groups/databases").status_code == 200
    refused = terminal.run("protection", "forecast", "--group", "databases")
    assert (refused.exit_code, "Group databases not found" in refused.output) == (5, True)


@pytest.mark.parametrize("days", [0, 31])
def test_only_days_that_are_kept_can_be_asked_for(admin: httpx2.Client, days: int) -> None:
    """Measures are kept for 30 days, so more is an error that names the parameter."""
    answer = admin.get("/api/protection/forecast", params={"days": days})
    assert (answer.status_code, "days" in answer.json()["error"]) == (400, True)
