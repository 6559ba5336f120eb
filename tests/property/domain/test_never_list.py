"""The never list: covers the fleet, is short, and is no wider than the limit asks for."""

from ipaddress import IPv4Network, IPv6Network, ip_network

from hypothesis import given
from hypothesis import strategies as st

from manager.domain.networks import Network, overlap
from manager.domain.response.never_list import Tier, never_list

ipv4 = st.integers(0, 2**32 - 1).map(lambda number: IPv4Network((number, 32)))
ipv6 = st.integers(0, 2**20 - 1).map(lambda number: IPv6Network(((0x20010DB8 << 96) + (number << 70), 128)))
near = st.integers(0, 2**10).map(lambda number: IPv4Network((0xCB007100 + number, 32)))
addresses = st.lists(st.one_of(ipv4, ipv6, near), max_size=60)
networks = st.lists(st.builds(lambda number, bits: IPv4Network((number, bits), strict=False),
                              st.integers(0, 2**32 - 1), st.integers(8, 32)), max_size=4)  # fmt: skip


def covers(listed: list[Network], network: Network) -> bool:
    """Compare with every network of the list."""
    return any(each.version == network.version and network.subnet_of(each) for each in listed)  # type: ignore[arg-type]


@given(networks, addresses, st.integers(4, 40))
def test_a_list_covers_what_it_has_room_for(fixed: list[Network], own: list[Network], most: int) -> None:
    """It is within the limit, disjoint, has every fixed network, and each address unless it says that some are out."""
    found = never_list([Tier(fixed), Tier(own, may_widen=True)], most)
    listed: list[Network] = [ip_network(text) for text in found.networks]
    assert len(listed) <= most
    assert not any(overlap(one, other) for number, one in enumerate(listed) for other in listed[:number])
    assert all(covers(listed, network) for network in fixed)
    left_out = [network for network in own if not covers(listed, network)]
    assert bool(left_out) <= bool(found.left_out)


@given(networks, addresses, addresses, addresses, st.integers(1, 40))
def test_no_tier_displaces_an_earlier_one(
    fixed: list[Network], gateways: list[Network], people: list[Network], own: list[Network], most: int
) -> None:
    """What is left out of a tier is left out of every later one; what fits without later tiers is never left out."""
    tiers = [Tier(fixed), Tier(gateways, may_widen=True), Tier(people), Tier(own, may_widen=True)]
    listed: list[Network] = [ip_network(text) for text in never_list(tiers, most).networks]
    assert len(listed) <= most
    for number, tier in enumerate(tiers):
        alone: list[Network] = [ip_network(text) for text in never_list(tiers[: number + 1], most).networks]
        wanted = [network for network in tier.networks if covers(alone, network)]
        assert all(covers(listed, network) for network in wanted)


@given(networks, addresses)
def test_a_list_with_room_names_the_addresses_and_nothing_else(fixed: list[Network], own: list[Network]) -> None:
    """Below the limit nothing is widened: a neighbour of a host stays a target."""
    listed: list[Network] = [ip_network(text) for text in never_list([Tier(fixed), Tier(own, may_widen=True)]).networks]
    assert sum(each.num_addresses for each in listed) == len({*_each(own, fixed)}) + sum(
        each.num_addresses for each in _collapsed(fixed)
    )


@given(addresses, st.integers(1, 10))
def test_no_list_is_wider_than_a_site(own: list[Network], most: int) -> None:
    """However little room there is, no /24 or /48 without a host of the fleet is on the list."""
    listed = [ip_network(text) for text in never_list([Tier(own, may_widen=True)], most).networks]
    assert all(
        any(overlap(each, network) for network in own)
        for each in listed
        for each in each.subnets(new_prefix=max(each.prefixlen, 24 if each.version == 4 else 48))
    )


def _each(own: list[Network], fixed: list[Network]) -> set[Network]:
    """Return the addresses that no fixed network holds."""
    return {network for network in own if not covers(fixed, network)}


def _collapsed(networks: list[Network]) -> list[Network]:
    """Return the networks that no other one holds."""
    different = list(dict.fromkeys(networks))
    return [one for one in different if not any(one != other and covers([other], one) for other in different)]
