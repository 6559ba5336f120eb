"""Refusals of signed messages, each by itself: whose they are, their order, their form, their size."""

from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from tests.unit.fence.test_refusals import AGENT, GATEWAY, LISTED, OWN, TARGET, UNSEEN, World

OTHER_AGENT = "ag-00000000000000ff"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def _snapshot(world: World, sequence: int, *entries: dict[str, Any], **members: Any) -> str:
    head = {"organizationId": "acme", "sequence": sequence, "sentAt": "2026-11-29T00:00:00Z"}
    return world.give("organizations/acme/blocklist", {**head, "entries": list(entries), **members})


def test_without_keys_nothing_is_taken_and_the_remedy_is_named(tmp_path: Path) -> None:
    """A host that was installed without a token."""
    assert "names no sign_keys" in World(tmp_path, sign_keys=[]).policy(1)


def test_a_message_on_another_topic_of_this_agent_is_no_policy(world: World) -> None:
    """The manager signs other things for it."""
    document = {"agentId": AGENT, "version": 9, "blocklist": {"ips": [TARGET]}, "allowlist": {"ips": []}}
    assert "not this agent's policy" in world.give(f"agents/{AGENT}/receipts", document)
    assert world.kernel.addresses("block") == []


def test_another_ones_topic_names_the_remedy(world: World) -> None:
    """It is what an operator sees after a new enrollment."""
    assert "set agent_id in fence.conf" in world.policy(9, topic_of=OTHER_AGENT)
    assert "set organization_id in fence.conf" in world.change(0, 9, organization="other")


def test_the_content_must_name_the_organization_of_the_topic(world: World) -> None:
    """A signature for one topic is not enough."""
    assert "another organization" in _snapshot(world, 1, organizationId="other")


def test_an_end_without_the_time_of_signing_is_refused(world: World) -> None:
    """This host's clock says nothing about the manager's."""
    entry = {"kind": "ip", "value": TARGET, "expiresAt": "2026-11-29T04:00:00Z"}
    assert "needs secondsLeft" in _snapshot(world, 1, entry, sentAt=None)
    assert _snapshot(world, 1, entry) == "taken"


@pytest.mark.parametrize("number", [True, -1, 2**63, "7", 1.5, None])
def test_a_version_that_is_no_whole_number_is_refused(world: World, number: Any) -> None:
    """So the next one is greater whatever it is."""
    assert "no number" in world.policy(number)
    assert "no number" in _snapshot(world, number)


def test_entries_beyond_the_limit_are_refused_by_name(world: World) -> None:
    """Of a policy, and of the list of networks that are never blocked."""
    ips = [f"198.18.{number // 250}.{1 + number % 250}" for number in range(10_201)]
    assert world.policy(1, blocklist={"ips": ips}) == "taken"
    assert (world.fence.measures, world.ask("check")["refused"]) == (10_200, 1)
    never = [f"203.0.{number // 250}.{1 + number % 250}" for number in range(1_000)]
    assert _snapshot(world, 1, never=[*never, UNSEEN]) == "taken"
    assert world.block(UNSEEN) == "taken"
    assert {"value": UNSEEN, "reason": "the fence exempts at most 1000 networks"} in world.ask("check")["reasons"]


def test_domains_and_hashes_are_not_the_fences(world: World) -> None:
    """They are neither set nor refused."""
    entry = {"kind": "domain", "value": "evil.example", "secondsLeft": 60}
    assert _snapshot(world, 1, entry, {"kind": "ip", "value": TARGET, "secondsLeft": 60}) == "taken"
    assert (world.fence.measures, world.ask("check")["refused"]) == (1, 0)


def test_a_change_after_a_release_needs_the_snapshot(world: World) -> None:
    """What it follows on is in force no more."""
    assert world.change(0, 5) == "taken"
    assert world.ask("release")["outcome"] == "lifted"
    assert "send the snapshot" in world.change(5, 6)


def test_the_signed_lists_lift_what_was_set_and_stand_before_any_measure_in_the_kernel(world: World) -> None:
    """Allowlist and fleet, beside what the host itself says: own addresses, gateways, fence.conf's list."""
    for value in (TARGET, UNSEEN):
        assert world.block(value, 0) == "taken"
    assert world.policy(1, allowlist={"ips": [TARGET]}) == "taken"
    assert world.kernel.addresses("block") == [UNSEEN]
    assert world.change(0, 1, never=[UNSEEN]) == "taken"
    assert world.kernel.addresses("block") == []
    never = (TARGET, UNSEEN, OWN, GATEWAY, LISTED)
    assert [value for value in never if not world.kernel.never.overlaps(ip_network(value))] == []
