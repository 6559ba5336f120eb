"""The organization whose blocklist a fence accepts: named by fence.conf, else by the signed policies of its agent."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.fence.conftest import KEY, NEXT_KEY, Bench, raw

ADDRESS, OTHER = "198.51.100.7", "198.51.100.8"


@pytest.fixture
def free(make_bench: Callable[..., Bench]) -> Bench:
    """Return a fence whose configuration names no organization, in `acme` by its policy 5 and list 57."""
    bench = make_bench(organization_id="")
    assert bench.take_policy(5, organization="acme")["ok"]
    assert bench.take(57, ADDRESS)["ok"]
    return bench


def test_a_newer_policy_moves_the_fence_and_ends_the_former_blocklist(free: Bench) -> None:
    """The former organization's blocks end, its list is refused, the new one's is taken; after a restart, too."""
    free.take_policy(6, organization="other")
    assert free.blocked == set()
    assert free.ask("check")["blocklistSequence"] == 0
    assert "'acme'" in free.take(58, ADDRESS)["reason"]
    free.restart()
    assert free.take(1, OTHER, organization="other")["blocklistSequence"] == 1
    assert (free.blocked, free.ask("status")["organizationId"]) == ({OTHER}, "other")


def test_the_former_exempt_networks_hold_until_the_new_list_comes(free: Bench) -> None:
    """Between the two lists no member of the fleet may be blocked."""
    free.take(58, ADDRESS, never=[OTHER])
    free.take_policy(6, OTHER, organization="other")
    assert free.blocked == set()
    free.take(1, organization="other", never=[])
    free.take_policy(7, OTHER, organization="other")
    assert free.blocked == {OTHER}


@pytest.mark.parametrize("version", [4, 5])
def test_a_policy_that_is_not_newer_moves_nothing(free: Bench, version: int) -> None:
    """A guard that was taken over cannot choose an organization from the policies it has kept."""
    free.take_policy(version, organization="other")
    assert free.ask("status")["organizationId"] == "acme"
    assert free.blocked == {ADDRESS}
    assert not free.take(1, OTHER, organization="other")["ok"]


def test_after_a_move_the_policies_before_it_lead_nowhere(free: Bench) -> None:
    """Each number is used up, also after a move back, and after a restart."""
    free.take_policy(6, organization="other")
    free.take_policy(7, organization="acme")
    free.restart()
    assert "older than 7" in free.take_policy(6, organization="other")["reason"]
    assert free.ask("status")["organizationId"] == "acme"


def test_the_unchanged_list_of_an_organization_is_taken_after_a_move_back_and_an_older_one_is_not(free: Bench) -> None:
    """The sequence has not risen in between."""
    free.take_policy(6, organization="other")
    free.take(99, OTHER, organization="other")
    free.take_policy(7, organization="acme")
    assert "older than 57" in free.take(56, ADDRESS)["reason"]
    assert free.take(57, ADDRESS)["blocklistSequence"] == 57
    assert free.blocked == {ADDRESS}


def test_a_policy_without_an_organization_moves_nothing(free: Bench) -> None:
    """Older managers name none."""
    free.take_policy(6)
    assert (free.ask("status")["organizationId"], free.blocked) == ("acme", {ADDRESS})


def test_a_policy_overrides_the_organization_of_a_first_blocklist(make_bench: Callable[..., Bench]) -> None:
    """The guard chose which signed list came first; the policy says whose list it is."""
    bench = make_bench(organization_id="")
    bench.take(9, ADDRESS, organization="foreign")
    bench.take_policy(1, organization="acme")
    assert bench.blocked == set()
    assert bench.take(2, OTHER)["ok"]


def test_a_configured_organization_is_left_by_no_policy(bench: Bench) -> None:
    """What root has set holds; the reason names the setting."""
    bench.take(57, ADDRESS)
    bench.take_policy(6, organization="other")
    assert bench.blocked == {ADDRESS}
    assert "organization_id in fence.conf" in bench.take(1, OTHER, organization="other")["reason"]


def test_a_policy_that_an_earlier_fence_took_is_wanted_again_for_its_organization(free: Bench) -> None:
    """After an upgrade the agent may have moved already, and its policy's version does not rise for that."""
    free.manifest.change([], [], {"organizations_id": "former"})
    free.manifest._database.execute("DELETE FROM state WHERE key = 'policy_organization_read'")
    free.restart()
    assert free.ask("check")["policyVersion"] == 0
    free.take_policy(5, organization="acme")
    assert (free.ask("check")["policyVersion"], free.ask("status")["organizationId"]) == (5, "acme")


def test_names_that_a_former_manager_gave_end_with_its_key(make_bench: Callable[..., Bench]) -> None:
    """Once fence.conf has the key of another manager alone, that one names agent and organization."""
    bench = make_bench(organization_id="", agent_id="")
    bench.take_policy(5, organization="acme")
    bench.restart(sign_keys=(raw(NEXT_KEY),))
    assert bench.ask("status")["organizationId"] is None
    agent = "ag-fedcba9876543210"
    assert bench.take_policy(1, organization="elsewhere", agent=agent, key=NEXT_KEY)["ok"]
    assert bench.ask("status")["organizationId"] == "elsewhere"
    bench.restart(sign_keys=(raw(NEXT_KEY), raw(KEY)))
    assert not bench.take_policy(6, organization="acme")["ok"]


@pytest.mark.parametrize("organization", ["", "a/b", "+", "x" * 65, 7, ["acme"]])
def test_an_organization_that_is_no_id_is_refused(free: Bench, organization: Any) -> None:
    """It stands in the topics whose messages are accepted."""
    assert "no id of an organization" in free.take_policy(6, organization=organization)["reason"]
