"""Manual blocks of several organizations: none ends, prevents or lifts another one's."""

from ipaddress import ip_network
from pathlib import Path

import pytest

from manager.domain.policies.fleet_policies import GLOBAL, Scope
from manager.domain.response.manual_blocks import FLEET, ManualHolder
from manager.engine.commands.block_requests import LiftAddress
from manager.engine.commands.requests import (
    ChangeAgent,
    ChangeAllowlist,
    RemoveBlock,
    SetPolicy,
    UndoIncident,
)
from manager.errors import Conflict
from tests.support.attacks import ATTACKER, attack, trusted
from tests.support.blocks import add, blocked, changes, group
from tests.support.engine import Bench
from tests.support.operators import request_from

ADDRESS = "198.51.100.9"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_one_organization_can_neither_prevent_nor_end_a_block_of_the_whole_fleet(bench: Bench) -> None:
    """Its allowlist, its agents' and its people's addresses keep its own hosts free; a global entry ends the block."""
    bench.enroll("a")
    bench.enroll("b", organization_id="acme", addresses=["198.51.100.7/24"])
    bench.ask(ChangeAllowlist(Scope("organization", "acme"), None, "198.51.100.8", listed=True, author="alice"))
    request_from(bench, "198.51.100.6", "acme")
    group(bench, "web", "web")
    before = ("198.51.100.6", "198.51.100.7", "198.51.100.8", "198.51.100.9")
    for holder in (FLEET, ManualHolder("group", "web")):
        added = add(bench, *before, "198.51.100.16/28", holder=holder)
        assert added.exempt == dict.fromkeys(before[:3], ("acme",))
    later = ("198.51.100.17", "198.51.100.18", "198.51.100.19")
    bench.enroll("c", organization_id="acme", addresses=[f"{later[0]}/28"])
    bench.ask(ChangeAllowlist(Scope("organization", "acme"), None, later[1], listed=True, author="alice"))
    request_from(bench, later[2], "acme")
    assert blocked(bench) == blocked(bench, "acme") == ["198.51.100.16/28", *before]
    with pytest.raises(Conflict, match="allowlist of organization acme"):
        add(bench, "198.51.100.8", holder=ManualHolder("organization", "acme"))
    bench.ask(ChangeAllowlist(Scope("organization", "default"), None, "198.51.100.8", listed=True, author="alice"))
    request_from(bench, "198.51.100.9")
    bench.ask(ChangeAllowlist(GLOBAL, None, "198.51.100.20", listed=True, author="alice"))
    assert blocked(bench) == ["198.51.100.6", "198.51.100.7"]
    with pytest.raises(
        Conflict, match="no organization blocks it; in acme it is on the allowlist of organization acme"
    ):
        add(bench, "198.51.100.8")


def block_elsewhere(bench: Bench, address: str) -> None:
    """Block an address and its /24 in each way that holds on no host of the organization `default`."""
    other = bench.enroll("other", organization_id="acme")
    bench.ask(ChangeAgent(other.agent_id, "alice", tags=("far",)))
    document = {"blocklist": {"ips": [address]}}
    group(bench, "far", "far", policy=document)
    group(bench, "own", "far", organization="acme", policy=document)
    for scope in (Scope("organization", "acme"), Scope("agent", other.agent_id)):
        bench.ask(SetPolicy(scope, document, "alice"))
    network = str(ip_network(f"{address}/24", strict=False))
    for scope_name, target in (
        ("organization", "acme"), ("group", "far"), ("group", "own"), ("agent", other.agent_id)
    ):  # fmt: skip
        add(bench, address, network, holder=ManualHolder(scope_name, target))  # type: ignore[arg-type]


def test_a_lift_in_one_organization_is_not_refused_because_of_another_one(bench: Bench) -> None:
    """A document or block that holds there is refused, without the name of a group of the whole fleet."""
    agent = bench.enroll("a")
    block_elsewhere(bench, ADDRESS)
    before = len(bench.fleet.responder.entries.manual)
    add(bench, ADDRESS, holder=ManualHolder("organization", "default"))
    bench.ask(LiftAddress(ADDRESS, "alice", "default"))
    assert (blocked(bench), len(bench.fleet.responder.entries.manual)) == ([], before)
    bench.ask(ChangeAgent(agent.agent_id, "alice", tags=("far",)))
    with pytest.raises(Conflict, match=r"^198\.51\.100\.9 is blocked in a group of the whole fleet"):
        bench.ask(LiftAddress(ADDRESS, "alice", "default"))
    for block in list(bench.fleet.responder.entries.manual):
        bench.ask(RemoveBlock(block.id, "alice"))
    with pytest.raises(Conflict, match=r"^the policy document of a group of the whole fleet blocks 198\.51\.100\.9:"):
        bench.ask(LiftAddress(ADDRESS, "alice", "default"))
    bench.ask(SetPolicy(Scope("group", "far"), None, "alice"))
    bench.ask(SetPolicy(Scope("agent", agent.agent_id), {"blocklist": {"ips": [ADDRESS]}}, "alice"))
    with pytest.raises(Conflict, match=f"the policy document agent.*{agent.agent_id} blocks"):
        bench.ask(LiftAddress(ADDRESS, "alice", "default"))


def test_an_undo_lifts_although_another_organization_blocks_the_address(bench: Bench) -> None:
    """The never list of the incident's organization has it; not once a group's block holds on one of its hosts."""
    agents = trusted(bench, "a", "b", "c")
    attack(bench, *agents)
    block_elsewhere(bench, ATTACKER)
    changes(bench)
    ((incident_id,),) = bench.rows(f"SELECT id FROM incident WHERE value = '{ATTACKER}'")
    bench.ask(UndoIncident(incident_id, "alice"))
    assert any(ATTACKER in each.get("never", ()) for each in changes(bench))
    bench.pass_time(301)
    changes(bench)
    bench.ask(ChangeAgent(agents[0].agent_id, "alice", tags=("far",)))
    bench.ask(UndoIncident(incident_id, "alice"))
    assert not any(ATTACKER in each.get("never", ()) for each in changes(bench))
