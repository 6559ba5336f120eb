"""The never list in an organization's blocklist: signed, at most once a minute, the same after a restart."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from manager.domain.agents.registry import Takeover
from manager.domain.response.manual_blocks import FLEET
from manager.domain.response.operator_addresses import MOST
from manager.engine.commands.access_requests import RecordOperatorAddress, RevokeAccess, RotateAccess
from manager.engine.commands.block_requests import AddBlocks, LiftAddress, NewBlock
from manager.engine.commands.requests import ReadPolicy
from manager.engine.settings import EngineSettings
from manager.errors import Conflict
from schemas.topics import BLOCKLIST, BLOCKLIST_CHANGES
from tests.support.attacks import ATTACKER, attack, trusted
from tests.support.engine import Bench
from tests.support.operators import person, request_from

SETTINGS = EngineSettings(
    takeover=Takeover.ALLOW, own_addresses=("198.51.100.1",), fleet_networks=("192.0.2.0/28",)
)  # fmt: skip
OURS = ["192.0.2.0/28", "198.51.100.1"]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path, SETTINGS)
    yield bench
    bench.database.close()


def changes(bench: Bench) -> list[dict[str, Any]]:
    """Return the blocklist changes published since the last look."""
    return [json.loads(payload) for payload in bench.publisher.take(BLOCKLIST_CHANGES.address("default"))]


def enroll(bench: Bench, *hostnames: str) -> None:
    """Let hosts register, each with an address of its own."""
    token = bench.token()
    for number, hostname in enumerate(hostnames):
        bench.enroll(hostname, token, addresses=[f"203.0.113.{7 * number + 1}"], gateways=["203.0.113.254"])


def test_the_organizations_addresses_are_published_once_a_minute(bench: Bench) -> None:
    """Many registrations are one change; hosts, gateways, the manager and the fleet's networks are in it."""
    enroll(bench, "a", "b")
    bench.pass_time(58)
    assert changes(bench) == []
    bench.pass_time(4)
    (change,) = changes(bench)
    assert change["never"] == [
        "192.0.2.0/28",
        "198.51.100.1",
        "203.0.113.1",
        "203.0.113.8",
        "203.0.113.254",
    ]
    assert (change["added"], change["sequence"] > change["fromSequence"]) == ([], True)
    bench.pass_time(120)
    assert changes(bench) == []
    (snapshot,) = [json.loads(payload) for payload in bench.publisher.take(BLOCKLIST.address("default"))]
    assert (snapshot["never"], snapshot["sequence"]) == (change["never"], change["sequence"])


def test_a_restart_publishes_no_list_again(bench: Bench) -> None:
    """The published list is stored with its sequence; what changed meanwhile follows after the interval."""
    enroll(bench, "a")
    bench.pass_time(62)
    (change,) = changes(bench)
    bench.crash()
    bench.pass_time(120)
    assert changes(bench) == []
    assert list(bench.fleet.blocklists.never["default"]) == change["never"]
    assert bench.fleet.blocklists.snapshot("default").never == change["never"]


def test_an_agents_address_leaves_the_list_with_it(bench: Bench) -> None:
    """The list follows the registry."""
    enroll(bench, "a", "b")
    bench.pass_time(62)
    changes(bench)
    bench.fleet.addresses.discard(next(iter(bench.fleet.registry.agents)))
    bench.pass_time(62)
    (change,) = changes(bench)
    assert change["never"] == [*OURS, "203.0.113.8", "203.0.113.254"]


def test_another_organization_has_a_list_of_its_own(bench: Bench) -> None:
    """No organization's addresses are in another one's list."""
    enroll(bench, "a")
    bench.enroll("other", bench.token(), organization_id="acme", addresses=["203.0.113.99"])
    bench.pass_time(62)
    (change,) = changes(bench)
    assert "203.0.113.99" not in change["never"]
    assert bench.fleet.blocklists.never["acme"] == (*OURS, "203.0.113.99")
    assert bench.ask(ReadPolicy(next(iter(bench.fleet.registry.agents)))).document["allowlist"]["ips"] == []


def test_the_address_of_a_person_is_in_every_organizations_list(bench: Bench) -> None:
    """Also where no agent states an address; it leaves with the 12 hours, over a restart, and is published apart."""
    bench.enroll("a", addresses=[], gateways=[])
    bench.enroll("other", organization_id="acme", addresses=[], gateways=[])
    bench.pass_time(62)
    assert bench.fleet.blocklists.never == {"default": tuple(OURS), "acme": tuple(OURS)}
    request_from(bench, "203.0.113.50")
    request_from(bench, "203.0.113.60", "acme")
    request_from(bench, "127.0.0.1")
    changes(bench)
    bench.pass_time(58)
    assert changes(bench) == []
    bench.pass_time(4)
    assert [change["never"] for change in changes(bench)] == [[*OURS, "203.0.113.50"]]
    assert bench.fleet.blocklists.never["acme"] == (*OURS, "203.0.113.50", "203.0.113.60")
    bench.crash()
    bench.pass_time(120)
    assert changes(bench) == []
    bench.pass_time(12 * 3600, step=60)
    assert [change["never"] for change in changes(bench)] == [OURS]
    assert bench.rows("SELECT value FROM meta WHERE key = 'operator_addresses'") == [("[]",)]


def test_many_people_are_one_change_a_minute(bench: Bench) -> None:
    """However many requests come from however many addresses."""
    enroll(bench, "a")
    bench.pass_time(62)
    changes(bench)
    for number in range(300):
        request_from(bench, f"198.18.{number // 250}.{number % 250}")
        bench.pass_time(0.4)
    bench.pass_time(60)
    assert len(changes(bench)) == 2
    assert bench.fleet.counters["never_addresses_left_out"] == 0


@pytest.mark.parametrize("end", ["revoke", "rotate", "expire", "restart"])
def test_a_persons_address_is_free_no_longer_than_the_token_is_accepted(bench: Bench, end: str) -> None:
    """It leaves the rules at once and the list within a minute, over a restart too; another person's address stays."""
    enroll(bench, "a")
    bench.pass_time(62)
    ann = person(bench, "ann", expires_at=bench.wall + 100 if end == "expire" else None)
    bench.ask(RecordOperatorAddress("198.18.0.1", ann))
    bench.ask(RecordOperatorAddress("198.18.0.2", person(bench, "bob")))
    bench.pass_time(62)
    assert {"198.18.0.1", "198.18.0.2"} <= set(bench.fleet.blocklists.never["default"])
    if end == "rotate":
        bench.ask(RotateAccess("test", "ann"))
    elif end == "expire":
        bench.pass_time(40)
    else:
        bench.ask(RevokeAccess("test", "ann"))
    if end == "restart":
        bench.crash()
    bench.ask(RecordOperatorAddress("198.18.0.1", ann))  # on its way from the server when the token ended
    assert bench.fleet.operator_addresses.of_organization("default") == ["198.18.0.2"]
    bench.ask(AddBlocks(FLEET, (NewBlock("198.18.0.1", 3600.0, "seen"),), "bob"))
    bench.pass_time(62)
    never = bench.fleet.blocklists.never["default"]
    assert ("198.18.0.1" in never, "198.18.0.2" in never) == (False, True)


def test_another_admin_token_ends_the_addresses_of_the_former_one(bench: Bench) -> None:
    """The settings have it, so it changes with a restart; addresses of access tokens stay."""
    request_from(bench, "198.18.0.1")
    request_from(bench, "198.18.0.2", "default")
    bench.crash()
    assert bench.fleet.operator_addresses.of_organization("default") == ["198.18.0.1", "198.18.0.2"]
    bench.settings = replace(bench.settings, admin_text="another")
    bench.crash()
    assert bench.fleet.operator_addresses.of_organization("default") == ["198.18.0.2"]


def test_a_token_for_one_organization_pushes_nobody_elses_address_out(bench: Bench) -> None:
    """However many addresses its requests come from."""
    enroll(bench, "a")
    request_from(bench, "198.18.0.1")
    for number in range(250):
        request_from(bench, f"198.19.0.{number}", "default")
    listed = bench.fleet.operator_addresses.of_organization("default")
    assert ("198.18.0.1" in listed, len(listed)) == (True, MOST + 1)


def test_neither_lifts_nor_people_nor_hosts_push_configured_networks_and_gateways_out(tmp_path: Path) -> None:
    """Of a list that is too long the hosts' addresses go first, then people's, then lifts."""
    networks = tuple(f"100.{number // 200}.{number % 200}.0/25" for number in range(950))
    bench = Bench(tmp_path, replace(SETTINGS, fleet_networks=networks, own_addresses=()))
    for number in range(2):
        gateways = [f"10.{number}.{hop}.1" for hop in range(10)]
        bench.enroll(f"h{number}", gateways=gateways, addresses=[f"192.{number}.{host}.7" for host in range(40)])
    request_from(bench, "198.18.0.1")
    for number in range(40):
        bench.ask(LiftAddress(f"198.51.{number}.1", "ann", "default"))
    bench.pass_time(62)
    never = bench.fleet.blocklists.never["default"]
    lifts = [value for value in never if value.startswith("198.51.")]
    assert set(networks) <= set(never)
    assert (len(never), len([value for value in never if value.startswith("10.")]), len(lifts)) == (1000, 20, 30)
    assert not any(value.startswith(("198.18.", "192.")) for value in never)
    bench.database.close()


def test_the_live_block_of_a_persons_address_is_withdrawn_and_not_made_again(bench: Bench) -> None:
    """At its first request, in the organizations that the person is for."""
    agents = trusted(bench, "a", "b", "c")
    attack(bench, *agents)
    assert len(bench.fleet.blocklists.snapshot("default").entries) == 1
    request_from(bench, ATTACKER, "acme")
    assert len(bench.fleet.blocklists.snapshot("default").entries) == 1
    request_from(bench, ATTACKER)
    assert bench.fleet.blocklists.snapshot("default").entries == []
    attack(bench, *agents)
    assert bench.fleet.blocklists.snapshot("default").entries == []
    reasons = bench.rows("SELECT reason FROM incident_response WHERE state = 'refused'")
    assert reasons == [("never blocked: a person used the API from it within 12 hours",)]


def test_no_manual_block_holds_against_a_persons_address(bench: Bench) -> None:
    """A live one is withdrawn with an audit entry, and a new one is refused with the reason."""
    enroll(bench, "a")
    block = AddBlocks(
        FLEET, (NewBlock("198.18.0.0/24", 3600.0, "noise"), NewBlock("198.19.0.1", 3600.0, "scan")), "ann"
    )
    bench.ask(block)
    request_from(bench, "198.18.0.7")
    assert [entry.value for entry in bench.fleet.blocklists.snapshot("default").entries] == ["198.19.0.1"]
    assert len(bench.rows("SELECT 1 FROM audit_entry WHERE action = 'block.withdraw'")) == 1
    with pytest.raises(Conflict, match="a person used the API from it within 12 hours"):
        bench.ask(block)
