"""Disjoint pieces of overlapping networks, and interval sets, against naive oracles."""

import itertools
from ipaddress import IPv4Address, IPv4Network, ip_network

from hypothesis import given
from hypothesis import strategies as st

from fence.addresses import IntervalSet, Network, pieces, span

NETWORKS = st.builds(
    lambda number, prefix: IPv4Network((0xCB007100 + number, prefix), strict=False),
    st.integers(0, 255),
    st.integers(24, 32),
)
ENTRIES = st.lists(st.tuples(NETWORKS, st.integers(1, 9).map(float)), max_size=12)


@given(ENTRIES)
def test_an_address_is_in_a_piece_exactly_when_an_entry_covers_it_and_until_the_latest_end(
    entries: list[tuple[IPv4Network, float]],
) -> None:
    """The naive oracle asks every entry for every address."""
    found = pieces(entries)
    for number in range(0xCB007100, 0xCB007200):
        address = IPv4Address(number)
        covering = [end for network, end in entries if address in network]
        pieces_over = [end for first, last, end in found if first <= number <= last]
        assert pieces_over == ([max(covering)] if covering else [])


@given(ENTRIES)
def test_pieces_are_disjoint_ascending_and_joined(entries: list[tuple[IPv4Network, float]]) -> None:
    """The kernel refuses intervals that overlap; neighbours of one end are one piece."""
    found = pieces(entries)
    for (_, last, end), (first, _, following) in itertools.pairwise(found):
        assert last < first
        assert last + 1 < first or end != following


@given(st.lists(NETWORKS, max_size=10), NETWORKS)
def test_an_interval_set_overlaps_what_one_of_its_networks_overlaps(networks: list[Network], asked: Network) -> None:
    """The naive oracle compares with each network."""
    assert IntervalSet(networks).overlaps(asked) == any(asked.overlaps(network) for network in networks)  # type: ignore[arg-type]


@given(st.lists(NETWORKS, max_size=10))
def test_the_intervals_of_a_set_hold_its_addresses_and_no_others(networks: list[Network]) -> None:
    """Merged intervals cover the same addresses."""
    covered = {number for network in networks for number in range(span(network)[0], span(network)[1] + 1)}
    merged = IntervalSet(networks).intervals(4)
    assert {number for first, last in merged for number in range(int(first), int(last) + 1)} == covered


def test_versions_do_not_mix() -> None:
    """An IPv6 address whose number is an IPv4 one is another address."""
    assert not IntervalSet([ip_network("0.0.0.1")]).overlaps(ip_network("::1"))
