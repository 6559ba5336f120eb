"""Lifted addresses on an organization's never list: bounded, and published by the command that lifts."""

from ipaddress import ip_network

from manager.domain.response.never_list import LIFT_LIMIT, LIFT_TIME, LiftedAddresses

NOW = 1_800_000_000.0
NETWORKS = [ip_network(f"198.51.{number // 250}.{1 + number % 250}") for number in range(LIFT_LIMIT + 3)]


def test_one_lift_too_many_ends_the_one_that_would_end_first() -> None:
    """The new one stays, even where the clock was set back and it ends first."""
    lifted = LiftedAddresses()
    for number, network in enumerate(NETWORKS):
        lifted.add("acme", network, NOW + number)
    assert list(lifted.of_organization("acme")) == NETWORKS[3:]
    early = ip_network("203.0.113.9")
    lifted.add("acme", early, NOW - LIFT_TIME)
    assert early in lifted.of_organization("acme")
    assert len(lifted.of_organization("acme")) == LIFT_LIMIT
    assert lifted.of_organization("other") == {}


def test_a_published_list_is_due_again_only_when_a_lift_ends() -> None:
    """The list of a large organization takes milliseconds to make: not twice for one lift."""
    lifted = LiftedAddresses()
    lifted.add("acme", NETWORKS[0], NOW + LIFT_TIME)
    lifted.published("acme")
    assert lifted.take_changed(NOW) == []
    assert lifted.take_changed(NOW + LIFT_TIME) == ["acme"]


def test_a_clock_that_is_set_back_makes_no_lift_longer() -> None:
    """Five minutes from then at most, not the day that the clock was ahead."""
    lifted = LiftedAddresses()
    lifted.add("acme", NETWORKS[0], NOW + LIFT_TIME)
    lifted.published("acme")
    back = NOW - 86_400
    assert lifted.take_changed(back) == []
    assert lifted.take_changed(back + LIFT_TIME - 1) == []
    assert lifted.take_changed(back + LIFT_TIME) == ["acme"]
    assert lifted.of_organization("acme") == {}
