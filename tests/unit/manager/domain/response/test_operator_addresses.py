"""Addresses of the people who use the API: which count, where, and for how long."""

from hypothesis import given
from hypothesis import strategies as st

from manager.domain.instant import Instant
from manager.domain.networks import network_of
from manager.domain.response.operator_addresses import KEPT_FOR, MOST, OperatorAddresses

START = 1_800_000_000.0


def at(seconds: float) -> Instant:
    return Instant(START + seconds, 50.0 + seconds)


def holds(addresses: OperatorAddresses, value: str, organization_id: str = "acme") -> bool:
    network = network_of(value)
    assert network is not None
    return addresses.holds(network, organization_id)


def test_loopback_and_what_is_no_address_do_not_count() -> None:
    """A request over loopback, over a socket without an address, or from a network names nobody."""
    addresses = OperatorAddresses()
    for value in ("127.0.0.1", "::1", "::ffff:127.0.0.9", "", "unix", "203.0.113.0/24"):
        assert not addresses.record(value, None, at(0))
    assert (addresses.of_organization("acme"), addresses.changed) == ([], False)


def test_an_address_is_found_in_each_form_and_in_a_network_that_contains_it() -> None:
    """IPv4-mapped and zoned addresses are the address itself; a block of a whole network would hit it, too."""
    addresses = OperatorAddresses()
    assert addresses.record("::ffff:203.0.113.9", None, at(0))
    assert addresses.record("fe80::1%eth0", None, at(0))
    assert holds(addresses, "203.0.113.9")
    assert holds(addresses, "203.0.113.0/28")
    assert not holds(addresses, "203.0.113.8")
    assert not holds(addresses, "203.0.113.16/28")
    assert addresses.of_organization("acme") == ["203.0.113.9", "fe80::1"]


def test_a_limited_person_counts_in_its_organizations_only() -> None:
    """No organization can shield an address from another one's blocklist."""
    addresses = OperatorAddresses()
    addresses.record("203.0.113.9", {"acme", "beta"}, at(0))
    assert [holds(addresses, "203.0.113.9", each) for each in ("acme", "beta", "other")] == [True, True, False]
    assert [holds(addresses, "203.0.113.0/24", each) for each in ("acme", "beta", "other")] == [True, True, False]
    assert addresses.of_organization("other") == []


requests = st.lists(
    st.tuples(
        st.integers(0, 4), st.sampled_from([None, "acme"]), st.sampled_from([0.0, 3600.0, KEPT_FOR - 1, KEPT_FOR])
    ),
    max_size=20,
)


@given(requests, st.integers(0, 20))
def test_an_address_is_kept_for_12_hours_after_its_last_request(
    made: list[tuple[int, str | None, float]], restart: int
) -> None:
    """Compared with a naive list of requests, over a restart at any moment; `changed` is set with each difference."""
    addresses, now = OperatorAddresses(), 0.0
    last: dict[tuple[str, str | None], float] = {}
    for number, (host, organization_id, pause) in enumerate(made):
        if number == restart:
            stored, addresses = addresses.stored_value(at(now)), OperatorAddresses()
            addresses.load(stored, at(now))
        before = addresses.of_organization("acme")
        now += pause
        gone = addresses.expire(at(now))
        value = f"203.0.113.{host}"
        live = {place for place, when in last.items() if now - when < KEPT_FOR}
        assert gone is (len(live) < len(last))
        last = {place: last[place] for place in live}
        is_new = (value, organization_id) not in last
        assert addresses.record(value, None if organization_id is None else {organization_id}, at(now)) is is_new
        last[value, organization_id] = now
        assert sorted(addresses.of_organization("acme")) == sorted(place[0] for place in last)
        assert addresses.changed or addresses.of_organization("acme") == before or not is_new
        addresses.changed = False


def test_a_time_ahead_of_the_clock_keeps_no_address_longer() -> None:
    """As after a clock that was set back while no manager ran: the age counts as 0, not as less."""
    ahead = OperatorAddresses()
    ahead.record("203.0.113.9", None, at(30 * 86_400))
    addresses = OperatorAddresses()
    addresses.load(ahead.stored_value(at(30 * 86_400)), at(0))
    assert not addresses.expire(at(KEPT_FOR - 1))
    assert holds(addresses, "203.0.113.9")
    assert addresses.expire(at(KEPT_FOR))
    assert addresses.of_organization("acme") == []


def test_the_least_recent_address_makes_room() -> None:
    """Beyond 200 addresses the one with the oldest last request is dropped."""
    addresses = OperatorAddresses()
    for number in range(MOST):
        addresses.record(f"203.0.{number // 250}.{number % 250}", None, at(number))
    addresses.record("203.0.0.0", None, at(500))
    addresses.record("198.51.100.1", None, at(501))
    assert len(addresses.of_organization("acme")) == MOST
    assert holds(addresses, "203.0.0.0")
    assert not holds(addresses, "203.0.0.1")
