"""Manual blocks in the engine: what is published, what is refused, restarts, expiry, lifts and the audit log."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from manager.domain.networks import network_of
from manager.domain.policies.fleet_policies import GLOBAL, Scope
from manager.domain.response.manual_block_rules import ManualBlockRules
from manager.domain.response.manual_blocks import FLEET, ManualHolder
from manager.domain.response.settings import ResponderSettings
from manager.engine.commands.block_requests import LiftAddress
from manager.engine.commands.requests import (
    ChangeAgent,
    ChangeAllowlist,
    RemoveAgent,
    RemoveBlock,
    SetPolicy,
    UndoIncident,
)
from manager.engine.context import Context
from manager.engine.response import manual_response
from manager.engine.settings import EngineSettings
from manager.errors import Conflict, Invalid, NotFound
from tests.support.attacks import ATTACKER, attack, trusted
from tests.support.blocks import add, blocked, changes, group
from tests.support.engine import Bench
from tests.support.operators import request_from

pytestmark = pytest.mark.usefixtures("each_system")

ADDRESS = "198.51.100.9"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def audited(bench: Bench) -> list[tuple[str, str, str]]:
    """Return actor, action and target of the audit entries about blocks."""
    rows = bench.rows("SELECT actor, action, target FROM audit_entry WHERE action LIKE 'block.%' ORDER BY id")
    return [(actor, action, target) for actor, action, target in rows]


def test_a_block_of_the_whole_fleet_reaches_each_organization_and_is_stored_once(bench: Bench) -> None:
    """One signed change for each organization, with the time left; one row; one audit entry."""
    bench.enroll("a")
    bench.enroll("b", organization_id="acme")
    added = add(bench, ADDRESS)
    for organization_id in ("default", "acme"):
        (change,) = changes(bench, organization_id)
        assert change["added"] == [
            {"kind": "ip", "value": ADDRESS, "expiresAt": "2027-01-15T09:00:00Z", "secondsLeft": 3600.0}
        ]
        assert "signature" in change
        assert blocked(bench, organization_id) == [ADDRESS]
    assert bench.rows("SELECT scope, value, added_by, reason FROM emergency_entry") == [
        ("fleet", ADDRESS, "alice", "seen")
    ]
    assert audited(bench) == [("alice", "block.add", added.blocks[0].id)]


def test_a_block_of_one_organization_or_agent_reaches_nobody_else(bench: Bench) -> None:
    """The organization's in its blocklist, the agent's in its own policy, with the reason."""
    agent = bench.enroll("a")
    bench.enroll("b", organization_id="acme")
    add(bench, ADDRESS, holder=ManualHolder("organization", "acme"))
    add(bench, "198.51.100.0/25", holder=ManualHolder("agent", agent.agent_id))
    assert (blocked(bench, "acme"), blocked(bench)) == ([ADDRESS], [])
    (entry,) = bench.fleet.policies.effective[agent.agent_id].resolved.sections["blocklist"]["ips"]
    assert entry == {"value": "198.51.100.0/25", "reason": "seen", "expiresAt": "2027-01-15T09:00:00.000Z"}
    with pytest.raises(NotFound):
        add(bench, ADDRESS, holder=ManualHolder("agent", "ag-0000000000000000"))


def test_blocks_survive_a_restart_and_end_at_their_time(bench: Bench) -> None:
    """In the blocklist and in the agent's own policy; at the end both are told."""
    agent = bench.enroll("a")
    add(bench, ADDRESS)
    add(bench, "198.51.100.10", holder=ManualHolder("agent", agent.agent_id))
    bench.crash()
    assert blocked(bench) == [ADDRESS]
    changes(bench)
    bench.pass_time(3601, step=60)
    (change,) = [each for each in changes(bench) if each["removed"]]
    assert change["removed"] == [{"kind": "ip", "value": ADDRESS}]
    assert bench.fleet.policies.effective[agent.agent_id].resolved.sections["blocklist"]["ips"] == []
    assert bench.rows("SELECT * FROM emergency_entry") == []


def test_a_new_organization_gets_the_blocks_of_the_whole_fleet(bench: Bench) -> None:
    """With the registration of its first agent."""
    bench.enroll("a")
    add(bench, ADDRESS)
    bench.enroll("b", organization_id="new")
    (change,) = changes(bench, "new")
    assert [each["value"] for each in change["added"]] == [ADDRESS]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("127.0.0.1", "loopback"),
        ("::ffff:127.0.0.1", "loopback"),
        ("10.0.0.0/8", "wider than /24"),
        ("192.0.2.7", "the manager's or the broker's"),
        ("192.0.2.0/24", "the manager's or the broker's"),
        ("203.0.113.1", "gateway of the fleet"),
        ("203.0.113.0/24", "gateway of the fleet"),
        ("198.51.100.77", "address that you ask from"),
        ("198.51.100.0/24", "address that you ask from"),
        ("192.0.2.99", "allowlist"),
        ("192.0.2.98/31", "allowlist"),
    ],
)
def test_what_is_never_blocked_is_refused_by_hand_too_and_with_force(tmp_path: Path, value: str, reason: str) -> None:
    """Loopback, gateways, the manager, the operator's own address, the allowlist: also as part of a network."""
    bench = Bench(tmp_path, EngineSettings(own_addresses=("192.0.2.7",)))
    bench.enroll("a", addresses=["203.0.113.5/24"], gateways=["203.0.113.1"])
    bench.ask(ChangeAllowlist(GLOBAL, None, "192.0.2.99", listed=True, author="alice"))
    for force in (False, True):
        with pytest.raises(Conflict, match=reason):
            add(bench, value, address="198.51.100.77", force=force)
    assert blocked(bench) == []
    assert audited(bench) == []


@pytest.mark.parametrize("value", [ATTACKER, "203.0.113.64/30"])
def test_a_recent_login_refuses_a_block_unless_it_is_forced(bench: Bench, value: str) -> None:
    """Forced, the block and its audit entry name the rule."""
    agents = trusted(bench, "a", "b")
    attack(bench, agents[0], sourceIp=ATTACKER, lastLogin=bench.wall - 60)
    with pytest.raises(Conflict, match=r"logged in successfully .* --force overrides it"):
        add(bench, value)
    (block,) = add(bench, value, force=True).blocks
    assert block.overrides is not None
    assert block.overrides.startswith("it logged in successfully")
    ((after,),) = bench.rows("SELECT after FROM audit_entry WHERE action = 'block.add'")
    assert json.loads(after)["overrides"] == block.overrides
    attack(bench, agents[1], sourceIp=ATTACKER, lastLogin=bench.wall)
    assert value in blocked(bench)


@pytest.mark.parametrize("value", ["203.0.113.9/24", "example.com", "fe80::1%eth0", "", "1.2.3", "a" * 64])
def test_what_is_no_address_is_refused(bench: Bench, value: str) -> None:
    """A CIDR with bits beside its prefix too, because it is one of two mistakes."""
    with pytest.raises(Invalid, match=r"is no address|has bits set"):
        add(bench, value)


def test_an_import_is_all_or_nothing_and_names_all_that_is_refused(bench: Bench) -> None:
    """A dry run lists the same and changes nothing."""
    bench.enroll("a")
    values = ("198.51.100.1", "127.0.0.1", "nonsense", "198.51.100.2")
    tried = add(bench, *values, dry_run=True)
    assert [(each.index, each.value) for each in tried.refused] == [(1, "127.0.0.1"), (2, "nonsense")]
    with pytest.raises(Conflict, match=r"nothing is blocked, 2 of 4 are refused: 2: .*loopback.*; 3: 'nonsense'"):
        add(bench, *values)
    assert (blocked(bench), bench.rows("SELECT * FROM emergency_entry")) == ([], [])


def test_blocks_withdrawn_when_the_allowlist_or_a_new_host_says_so(bench: Bench) -> None:
    """The audit log names the reason; a block that neither concerns stays."""
    bench.enroll("a")
    add(bench, ADDRESS, "198.51.100.10", "198.51.100.128/25")
    bench.ask(ChangeAllowlist(GLOBAL, None, ADDRESS, listed=True, author="alice"))
    assert blocked(bench) == ["198.51.100.10", "198.51.100.128/25"]
    bench.enroll("b", addresses=["198.51.100.200/24"])
    assert blocked(bench) == ["198.51.100.10"]
    assert [action for _, action, _ in audited(bench)] == ["block.add"] * 3 + ["block.withdraw"] * 2


def test_an_overlap_of_an_incident_and_a_person_ends_with_the_last_of_them(bench: Bench) -> None:
    """Removing one leaves the other; guards are told of the address once, with the later end."""
    agents = trusted(bench, "a", "b", "c")
    attack(bench, *agents)
    (block,) = add(bench, ATTACKER, seconds=8 * 3600).blocks
    (entry,) = bench.fleet.blocklists.snapshot("default").entries
    assert entry.expires_at is not None
    assert entry.expires_at.timestamp() == bench.wall + 8 * 3600
    bench.ask(RemoveBlock(block.id, "alice"))
    (entry,) = bench.fleet.blocklists.snapshot("default").entries
    assert entry.expires_at is not None
    assert entry.expires_at.timestamp() == bench.wall + 4 * 3600
    (wide,) = bench.rows("SELECT id FROM emergency_entry WHERE scope = 'organization'")
    bench.ask(RemoveBlock(wide[0], "alice"))
    assert blocked(bench) == []
    with pytest.raises(NotFound):
        bench.ask(RemoveBlock(block.id, "alice"))


def test_adding_again_replaces_the_block_and_may_shorten_it(bench: Bench) -> None:
    """The newest word of a person counts; the audit entry has what it replaced."""
    bench.enroll("a")
    add(bench, ADDRESS, seconds=7200)
    add(bench, ADDRESS, seconds=60)
    (entry,) = bench.fleet.blocklists.snapshot("default").entries
    assert entry.expires_at is not None
    assert entry.expires_at.timestamp() == bench.wall + 60
    assert bench.rows("SELECT count(*) FROM emergency_entry") == [(1,)]
    bench.crash()
    assert blocked(bench) == [ADDRESS]


def test_a_lift_ends_every_block_of_the_address_and_asks_fences_to_end_their_guards_own(bench: Bench) -> None:
    """Its incident responds no more; the never list has the address for five minutes, so no guard blocks it again."""
    agents = trusted(bench, "a", "b", "c")
    attack(bench, *agents)
    (block,) = add(bench, ATTACKER).blocks
    changes(bench)
    lifted = bench.ask(LiftAddress(ATTACKER, "alice"))
    assert block.id in lifted.block_ids
    assert len(lifted.incident_ids) == 1
    assert (lifted.agents, lifted.not_reached) == (3, 3)
    assert blocked(bench) == []
    assert any(ATTACKER in each.get("never", ()) for each in changes(bench))
    attack(bench, *trusted(bench, "d", "e"))
    assert blocked(bench) == []
    bench.pass_time(301)
    assert any(ATTACKER not in each.get("never", [ATTACKER]) for each in changes(bench))
    assert ("manager", "block.lift", ATTACKER) in audited(bench)


def test_a_block_after_a_lift_takes_the_address_off_the_never_list_first(bench: Bench) -> None:
    """Fences refuse what the never list has, so the order of the two changes matters."""
    bench.enroll("a")
    bench.ask(LiftAddress(ADDRESS, "alice"))
    changes(bench)
    add(bench, ADDRESS)
    first, second = changes(bench)
    assert ADDRESS not in first["never"]
    assert [each["value"] for each in second["added"]] == [ADDRESS]
    assert second["fromSequence"] == first["sequence"]


def test_a_lift_refuses_where_something_else_would_go_on_blocking(bench: Bench) -> None:
    """A wider block, a block of the whole fleet lifted for one organization, a policy document, not its ended entry."""
    bench.enroll("a")
    add(bench, "198.51.100.0/24")
    with pytest.raises(Conflict, match=r"198.51.100.0/24 \(blk-.*\) contains"):
        bench.ask(LiftAddress(ADDRESS, "alice"))
    with pytest.raises(Conflict, match="in the whole fleet"):
        bench.ask(LiftAddress("198.51.100.0/24", "alice", "default"))
    bench.ask(SetPolicy(GLOBAL, {"blocklist": {"ips": ["203.0.113.4"]}}, "alice"))
    with pytest.raises(Conflict, match=r"the policy document global blocks 203\.0\.113\.4"):
        bench.ask(LiftAddress("203.0.113.4", "alice"))
    group = {"selector": {}, "priority": 1, "policy": {"blocklist": {"ips": ["203.0.113.5"]}}}
    bench.ask(SetPolicy(Scope("group", "web"), group, "alice"))
    with pytest.raises(Conflict, match=r"the policy document group:web blocks 203\.0\.113\.5"):
        bench.ask(LiftAddress("203.0.113.5", "alice"))
    ended = {"value": "203.0.113.6", "expiresAt": "2020-01-01T00:00:00Z"}
    bench.ask(SetPolicy(GLOBAL, {"blocklist": {"ips": [ended]}}, "alice"))
    bench.ask(LiftAddress("203.0.113.6", "alice"))
    with pytest.raises(Invalid):
        bench.ask(LiftAddress("0.0.0.0/0", "alice"))
    assert blocked(bench) == ["198.51.100.0/24"]


def test_lifting_a_network_lifts_what_is_within_it(bench: Bench) -> None:
    """By hand and by incident; what is beside it stays."""
    attack(bench, *trusted(bench, "a", "b"))
    add(bench, "203.0.113.64/30", "203.0.113.200", "198.51.100.1")
    bench.ask(LiftAddress("203.0.113.0/24", "alice"))
    assert blocked(bench) == ["198.51.100.1"]
    assert [row[0] for row in bench.rows("SELECT value FROM emergency_entry WHERE kind = 'ip'")] == ["198.51.100.1"]


def test_there_is_room_for_so_many_blocks_and_incidents_keep_some(tmp_path: Path) -> None:
    """A block that finds no room is refused with the number; of incidents' entries the first to expire makes room."""
    settings = ResponderSettings(organization_entries=4, organization_manual_blocks=3)
    bench = Bench(tmp_path, EngineSettings(responder=settings))
    agents = trusted(bench, "a", "b", "c")
    for number in range(2):
        attack(bench, *agents, sourceIp=f"203.0.113.{number + 1}")
        bench.pass_time(1)
    add(bench, "198.51.100.1", "198.51.100.2")
    add(bench, "198.51.100.3", holder=ManualHolder("organization", "default"))
    assert blocked(bench) == ["198.51.100.1", "198.51.100.2", "198.51.100.3", "203.0.113.2"]
    for holder in (FLEET, ManualHolder("organization", "default")):
        with pytest.raises(Conflict, match="at most 3 may be in an organization's blocklist"):
            add(bench, "198.51.100.4", holder=holder)
    add(bench, "198.51.100.1")
    bench.crash()
    assert len(blocked(bench)) == 4


@pytest.mark.parametrize(
    "value", ["64:ff9b::c633:6409", "2002:c633:6409::1", "2002:c633:6409::/48", "64:ff9b::c633:6400/120"]
)
def test_ipv6_that_stands_for_an_agents_ipv4_address_is_refused(bench: Bench, value: str) -> None:
    """NAT64 and 6to4 lead to the agent; a block that is in force goes as soon as such an agent enrols."""
    bench.enroll("a")
    (block,) = add(bench, value).blocks
    bench.enroll("b", addresses=[ADDRESS])
    assert bench.fleet.responder.entries.manual.get(block.id) is None
    with pytest.raises(Conflict, match=r"it stands for 198\.51\.100\..*fleet itself"):
        add(bench, value)


def test_a_block_that_stands_for_a_persons_ipv4_address_goes_with_their_first_request(bench: Bench) -> None:
    """By hand or decided by the responder; a network that stands for another host stays blocked."""
    attack(bench, *trusted(bench, "a", "b", "c"), sourceIp="64:ff9b::c633:6409")
    add(bench, "2002:c633:6409::1", "2002:c633:640a::1")
    assert set(blocked(bench)) == {"64:ff9b::c633:6409", "2002:c633:6409::1", "2002:c633:640a::1"}
    request_from(bench, ADDRESS)
    assert blocked(bench) == ["2002:c633:640a::1"]


def test_replaced_blocks_leave_nothing_behind(bench: Bench) -> None:
    """The heap of ends stays in proportion to the live blocks, and the next end stays right."""
    bench.enroll("a")
    for number in range(100):
        add(bench, ADDRESS, seconds=100_000.0 - number)
    manual = bench.fleet.responder.entries.manual
    assert len(manual) == 1
    assert len(manual._ends) <= 2 * 1 + 64 + 1
    assert manual.next_expiry() == bench.wall + 100_000.0 - 99


def test_a_check_of_all_blocks_builds_the_rules_once_for_each_holder(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many blocks a holder has: to build them reads the whole fleet."""
    bench.enroll("a")
    add(bench, *(f"198.51.100.{number}" for number in range(20)))
    add(bench, ADDRESS, holder=ManualHolder("organization", "default"))
    built: list[ManualHolder] = []
    build = manual_response.rules_for

    def counted(context: Context, holder: ManualHolder) -> ManualBlockRules:
        built.append(holder)
        return build(context, holder)

    monkeypatch.setattr(manual_response, "rules_for", counted)
    bench.ask(ChangeAllowlist(GLOBAL, None, "192.0.2.1", listed=True, author="alice"))
    assert sorted(built) == sorted({FLEET, ManualHolder("organization", "default")})


def test_a_removed_agents_own_blocks_go_with_it(bench: Bench) -> None:
    """Nothing of them is left in the store."""
    agent = bench.enroll("a")
    add(bench, ADDRESS, holder=ManualHolder("agent", agent.agent_id))
    bench.ask(RemoveAgent(agent.agent_id, "alice"))
    assert bench.rows("SELECT * FROM emergency_entry") == []
    assert network_of(ADDRESS) is not None
    assert not bench.fleet.responder.entries.manual.list_about(ADDRESS)


def test_blocks_that_the_settings_forbid_since_a_restart_are_withdrawn(bench: Bench) -> None:
    """The address became the manager's own; the audit log says so."""
    bench.enroll("a")
    add(bench, ADDRESS, "198.51.100.10")
    bench.settings = replace(bench.settings, own_addresses=(ADDRESS,))
    bench.crash()
    bench.pass_time(1)
    assert blocked(bench) == ["198.51.100.10"]
    assert [action for _, action, _ in audited(bench)][-1] == "block.withdraw"


def own(bench: Bench, agent: Any) -> list[str]:
    """Return what an agent blocks by its own policy."""
    sections = bench.fleet.policies.effective[agent.agent_id].resolved.sections
    return [entry["value"] for entry in sections["blocklist"]["ips"]]


def test_a_groups_block_follows_its_agents_and_goes_with_the_group(bench: Bench) -> None:
    """An agent that gets the tag blocks, one that loses it does not; a restart changes nothing, no policy either."""
    agents = [bench.enroll(hostname) for hostname in "ab"]
    with pytest.raises(NotFound):
        add(bench, ADDRESS, holder=ManualHolder("group", "web"))
    group(bench, "web", "web")
    bench.ask(ChangeAgent(agents[0].agent_id, "alice", tags=("web",)))
    add(bench, ADDRESS, holder=ManualHolder("group", "web"))
    assert [own(bench, agent) for agent in agents] == [[ADDRESS], []]
    assert blocked(bench) == []
    bench.ask(ChangeAgent(agents[1].agent_id, "alice", tags=("web",)))
    bench.ask(ChangeAgent(agents[0].agent_id, "alice", tags=()))
    assert [own(bench, agent) for agent in agents] == [[], [ADDRESS]]
    versions = {agent_id: policy.version for agent_id, policy in bench.fleet.policies.effective.items()}
    bench.pass_time(10)
    bench.crash()
    assert [own(bench, agent) for agent in agents] == [[], [ADDRESS]]
    assert {agent_id: policy.version for agent_id, policy in bench.fleet.policies.effective.items()} == versions
    bench.ask(SetPolicy(Scope("group", "web"), None, "alice"))
    assert [own(bench, agent) for agent in agents] == [[], []]
    assert bench.rows("SELECT * FROM emergency_entry") == []
    assert [action for _, action, _ in audited(bench)] == ["block.add", "block.withdraw"]


def test_a_groups_block_ends_and_is_lifted_like_any_other(bench: Bench) -> None:
    """Beside the agent's own block of the same address, of which the later end counts."""
    agent = bench.enroll("a")
    group(bench, "web", "web")
    bench.ask(ChangeAgent(agent.agent_id, "alice", tags=("web",)))
    add(bench, ADDRESS, holder=ManualHolder("group", "web"), seconds=60)
    add(bench, ADDRESS, holder=ManualHolder("agent", agent.agent_id), seconds=120)
    add(bench, "198.51.100.10", holder=ManualHolder("group", "web"), seconds=600)
    bench.pass_time(61)
    assert sorted(own(bench, agent)) == ["198.51.100.10", ADDRESS]
    bench.pass_time(61)
    assert own(bench, agent) == ["198.51.100.10"]
    with pytest.raises(Conflict, match=r"^198\.51\.100\.10 is blocked in a group of the whole fleet"):
        bench.ask(LiftAddress("198.51.100.10", "alice", "default"))
    bench.ask(LiftAddress("198.51.100.10", "alice"))
    assert own(bench, agent) == []


def test_an_agent_takes_its_own_blocks_first_and_its_groups_while_there_is_room(tmp_path: Path) -> None:
    """So that a policy fits in a message however many groups an agent is in."""
    bench = Bench(tmp_path, EngineSettings(responder=ResponderSettings(agent_manual_blocks=2)))
    agent = bench.enroll("a")
    for name in ("web", "mail"):
        group(bench, name, name)
    bench.ask(ChangeAgent(agent.agent_id, "alice", tags=("web", "mail")))
    add(bench, "198.51.100.1", holder=ManualHolder("group", "mail"))
    add(bench, "198.51.100.2", "198.51.100.3", holder=ManualHolder("group", "web"))
    add(bench, "198.51.100.4", holder=ManualHolder("agent", agent.agent_id))
    assert len(own(bench, agent)) == 2
    assert "198.51.100.4" in own(bench, agent)
    with pytest.raises(Conflict, match="at most 2 may be on one group"):
        add(bench, "198.51.100.5", holder=ManualHolder("group", "web"))


def test_an_undo_has_fences_end_their_guards_own_blocks_unless_a_person_blocks_the_address(bench: Bench) -> None:
    """By the never list, for five minutes; a manual block of the address or around it stays in force on every host."""
    agents = trusted(bench, "a", "b", "c")
    for number, address in enumerate((ATTACKER, "203.0.113.9")):
        attack(bench, *agents, sourceIp=address)
        bench.pass_time(1 + number)
    add(bench, "203.0.113.8/30")
    changes(bench)
    for address in (ATTACKER, "203.0.113.9"):
        ((incident_id,),) = bench.rows(f"SELECT id FROM incident WHERE value = '{address}'")
        bench.ask(UndoIncident(incident_id, "alice"))
    listed = [each["never"] for each in changes(bench) if "never" in each]
    assert any(ATTACKER in networks for networks in listed)
    assert not any("203.0.113.9" in networks for networks in listed)
    assert blocked(bench) == ["203.0.113.8/30"]
    bench.pass_time(301)
    assert any(ATTACKER not in each.get("never", [ATTACKER]) for each in changes(bench))
