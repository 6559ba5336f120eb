"""The never list in an organization's blocklist: signed, at most once a minute, the same after a restart."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from manager.domain.agents.registry import Takeover
from manager.engine.commands.requests import ReadPolicy
from manager.engine.settings import EngineSettings
from schemas.topics import BLOCKLIST, BLOCKLIST_CHANGES
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
