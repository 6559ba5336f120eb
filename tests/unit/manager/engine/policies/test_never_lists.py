"""The never list in an organization's blocklist: signed, at most once a minute, the same after a restart."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from manager.domain.agents.registry import Takeover
from manager.domain.response.manual_blocks import FLEET
from manager.engine.commands.block_requests import AddBlocks, NewBlock
from manager.engine.commands.requests import ReadPolicy, RecordOperatorAddress
from manager.engine.settings import EngineSettings
from manager.errors import Conflict
from schemas.topics import BLOCKLIST, BLOCKLIST_CHANGES
from tests.support.attacks import ATTACKER, attack, trusted
from tests.support.engine import Bench

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
    bench.ask(RecordOperatorAddress("203.0.113.50"))
    bench.ask(RecordOperatorAddress("203.0.113.60", frozenset({"acme"})))
    bench.ask(RecordOperatorAddress("127.0.0.1"))
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
        bench.ask(RecordOperatorAddress(f"198.18.{number // 250}.{number % 250}"))
        bench.pass_time(0.4)
    bench.pass_time(60)
    assert len(changes(bench)) == 2
    assert bench.fleet.counters["never_addresses_left_out"] == 0


def test_the_live_block_of_a_persons_address_is_withdrawn_and_not_made_again(bench: Bench) -> None:
    """At its first request, in the organizations that the person is for."""
    agents = trusted(bench, "a", "b", "c")
    attack(bench, *agents)
    assert len(bench.fleet.blocklists.snapshot("default").entries) == 1
    bench.ask(RecordOperatorAddress(ATTACKER, frozenset({"acme"})))
    assert len(bench.fleet.blocklists.snapshot("default").entries) == 1
    bench.ask(RecordOperatorAddress(ATTACKER))
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
    bench.ask(RecordOperatorAddress("198.18.0.7"))
    assert [entry.value for entry in bench.fleet.blocklists.snapshot("default").entries] == ["198.19.0.1"]
    assert len(bench.rows("SELECT 1 FROM audit_entry WHERE action = 'block.withdraw'")) == 1
    with pytest.raises(Conflict, match="a person used the API from it within 12 hours"):
        bench.ask(block)
