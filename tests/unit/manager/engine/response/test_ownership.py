"""Blocks of hosts and policy groups that change their organization: who has them afterwards, and what the log says."""

import json
from pathlib import Path
from typing import Any

import pytest

from manager.domain.policies.fleet_policies import Scope
from manager.domain.response.manual_blocks import ManualHolder
from manager.domain.response.settings import ResponderSettings
from manager.engine.commands.block_requests import LiftAddress
from manager.engine.commands.requests import ApproveIncident, ChangeAgent, ChangeAllowlist, FreezeResponses
from manager.engine.settings import EngineSettings
from manager.storage.queries import StoreQueries
from tests.support.attacks import ATTACKER, attack, trusted
from tests.support.blocks import add, group
from tests.support.engine import Bench
from tests.support.migrated_store import open_reading
from tests.support.simulated import SimulatedAgent

ADDRESS = "198.51.100.9"


def listed(bench: Bench, organization_id: str) -> list[str]:
    """Return the values of the blocks that a token of an organization finds."""
    reader = open_reading(bench.directory / "panguard.db")
    try:
        queries = StoreQueries(reader)
        records, _ = queries.blocks(after=bench.wall, kind="ip", organizations=(organization_id,), limit=50)
    finally:
        reader.close()
    return sorted(str(record["value"]) for record in records)


def own(bench: Bench, agent: SimulatedAgent) -> list[str]:
    """Return what an agent blocks by its own policy."""
    sections = bench.fleet.policies.effective[agent.agent_id].resolved.sections
    return [entry["value"] for entry in sections["blocklist"]["ips"]]


def move(bench: Bench, agent: SimulatedAgent, organization_id: str) -> None:
    bench.ask(ChangeAgent(agent.agent_id, "alice", organization_id=organization_id))


def audited(bench: Bench, action: str) -> list[tuple[Any, Any]]:
    """Return the states before and after of the audit entries of an action."""
    rows = bench.rows(f"SELECT before, after FROM audit_entry WHERE action = '{action}' ORDER BY id")
    return [(json.loads(before), json.loads(after)) for before, after in rows]


def test_a_hosts_manual_block_goes_along_to_its_new_organization(bench: Bench) -> None:
    """It is found and lifted there, not in the former one; the audit log has both organizations."""
    agent = bench.enroll("a")
    add(bench, ADDRESS, holder=ManualHolder("agent", agent.agent_id))
    move(bench, agent, "acme")
    bench.crash()
    assert (own(bench, agent), listed(bench, "acme"), listed(bench, "default")) == ([ADDRESS], [ADDRESS], [])
    ((before, after),) = audited(bench, "block.move")
    assert (before["organizationId"], after["organizationId"], after["value"]) == ("default", "acme", ADDRESS)
    assert bench.ask(LiftAddress(ADDRESS, "alice", "default")).block_ids == ()
    assert own(bench, agent) == [ADDRESS]
    assert len(bench.ask(LiftAddress(ADDRESS, "alice", "acme")).block_ids) == 1
    assert (own(bench, agent), listed(bench, "acme")) == ([], [])


def test_the_rules_of_the_new_organization_hold_for_the_block(bench: Bench) -> None:
    """What its allowlist has is not blocked on its new host; the audit log gives the reason."""
    agent = bench.enroll("a")
    bench.ask(ChangeAllowlist(Scope("organization", "acme"), None, ADDRESS, listed=True, author="alice"))
    add(bench, ADDRESS, holder=ManualHolder("agent", agent.agent_id))
    move(bench, agent, "acme")
    assert (own(bench, agent), listed(bench, "acme")) == ([], [])
    ((_, after),) = audited(bench, "block.withdraw")
    assert "allowlist of organization acme" in after["reason"]


def test_an_incidents_entry_on_a_host_ends_when_the_host_moves(bench: Bench) -> None:
    """It is of an incident that the new organization may not see; the other host keeps its own."""
    first, second = trusted(bench, "a", "b")
    attack(bench, first, second)
    assert own(bench, first) == own(bench, second) == [ATTACKER]
    move(bench, first, "acme")
    bench.crash()
    assert (own(bench, first), own(bench, second)) == ([], [ATTACKER])
    assert (listed(bench, "acme"), listed(bench, "default")) == ([], [ATTACKER])
    entries = audited(bench, "block.withdraw")
    assert sorted(before["kind"] for before, _ in entries) == ["ip", "sensitivity"]
    ((before, after),) = [each for each in entries if each[0]["kind"] == "ip"]
    assert (before["target"], before["organizationId"]) == (first.agent_id, "default")
    assert after["reason"] == "the host is in organization acme now"


@pytest.mark.parametrize("later", ["thaw", "approve"])
def test_an_incident_of_the_former_organization_gives_a_moved_host_nothing_more(bench: Bench, later: str) -> None:
    """Neither when automatic response resumes nor when a person approves it."""
    bench.database.close()
    bench.settings = EngineSettings(
        responder=ResponderSettings(organization_agents=9, blocks=0 if later == "approve" else 100)
    )
    bench.build()
    first, second, third = trusted(bench, "a", "b", "c")
    if later == "thaw":
        bench.ask(FreezeResponses(frozen=True, author="alice"))
    attack(bench, first, second)
    move(bench, first, "acme")
    if later == "thaw":
        bench.ask(FreezeResponses(frozen=False, author="alice"))
        attack(bench, third)
    else:
        ((incident_id,),) = bench.rows(f"SELECT id FROM incident WHERE value = '{ATTACKER}'")
        bench.ask(ApproveIncident(incident_id, "alice"))
    assert (own(bench, first), own(bench, second)) == ([], [ATTACKER])


def test_the_blocks_of_a_group_go_along_with_it(bench: Bench) -> None:
    """To another organization, to the whole fleet, and back: those who may see and remove them are its own people."""
    agents = [bench.enroll("a", organization_id="acme"), bench.enroll("b", organization_id="other")]
    for agent in agents:
        bench.ask(ChangeAgent(agent.agent_id, "alice", tags=("web",)))
    group(bench, "web", "web", organization="acme")
    add(bench, ADDRESS, holder=ManualHolder("group", "web"))
    group(bench, "web", "web", organization="other")
    assert ([own(bench, agent) for agent in agents], listed(bench, "acme"), listed(bench, "other")) == (
        [[], [ADDRESS]],
        [],
        [ADDRESS],
    )
    group(bench, "web", "web")
    assert [own(bench, agent) for agent in agents] == [[ADDRESS], [ADDRESS]]
    assert bench.rows("SELECT organization_id FROM emergency_entry") == [("",)]
    group(bench, "web", "web", organization="other")
    bench.crash()
    bench.ask(LiftAddress(ADDRESS, "alice", "other"))
    assert [own(bench, agent) for agent in agents] == [[], []]
    moves = [(before["organizationId"], after["organizationId"]) for before, after in audited(bench, "block.move")]
    assert moves == [("acme", "other"), ("other", None), (None, "other")]


def test_a_store_of_an_earlier_release_is_corrected_at_the_start(bench: Bench) -> None:
    """There the blocks of moved hosts and groups kept the former organization."""
    first, second = trusted(bench, "a", "b")
    attack(bench, first, second)
    group(bench, "web", "web", organization="default")
    add(bench, ADDRESS, holder=ManualHolder("agent", first.agent_id))
    add(bench, ADDRESS, holder=ManualHolder("group", "web"))
    bench.database.execute_sql("UPDATE emergency_entry SET organization_id = 'acme' WHERE value = ?", (ADDRESS,))
    bench.database.execute_sql(
        "UPDATE emergency_entry SET organization_id = 'acme' WHERE value = ? AND target = ?", (ATTACKER, first.agent_id)
    )
    bench.crash()
    bench.pass_time(1)
    assert listed(bench, "acme") == []
    assert listed(bench, "default") == [ADDRESS, ADDRESS, ATTACKER]
    assert own(bench, first) == [ADDRESS]
    assert bench.failures() == {}


def test_the_never_list_of_the_former_organization_forgets_a_moved_host(bench: Bench) -> None:
    """Its address is in the list of the organization that it is in, and in no other."""
    bench.enroll("a", addresses=[], gateways=[])
    agent = bench.enroll("b", addresses=["203.0.113.9"], gateways=[])
    bench.pass_time(62)
    assert bench.fleet.blocklists.never["default"] == ("203.0.113.9",)
    move(bench, agent, "acme")
    bench.pass_time(62)
    assert bench.fleet.blocklists.never == {"default": (), "acme": ("203.0.113.9",)}


def test_the_blocks_of_a_group_make_room_on_a_host_that_comes_to_it(tmp_path: Path) -> None:
    """By a tag as by a change of the group: of an incident's entries the first to expire goes, in the store too."""
    settings = ResponderSettings(agent_entries=3, agent_manual_blocks=2, organization_agents=9)
    bench = Bench(tmp_path, EngineSettings(responder=settings))
    tagged, grouped = trusted(bench, "a", "b")
    for number in range(3):
        attack(bench, tagged, grouped, sourceIp=f"203.0.113.{number + 1}")
        bench.pass_time(1)
    group(bench, "web", "web")
    add(bench, "198.51.100.1", "198.51.100.2", holder=ManualHolder("group", "web"))
    bench.ask(ChangeAgent(tagged.agent_id, "alice", tags=("web",)))
    bench.ask(ChangeAgent(grouped.agent_id, "alice", tags=("mail",)))
    group(bench, "web", "mail")
    entries = bench.fleet.responder.entries
    for agent in (tagged, grouped):
        assert len(entries.list_of("agent", agent.agent_id)) + len(entries.manual_of(agent.agent_id)) <= 3
    live = {entry.id for entry in entries} | {block.id for block in entries.manual}
    assert {entry_id for (entry_id,) in bench.rows("SELECT id FROM emergency_entry")} == live
    bench.database.close()
