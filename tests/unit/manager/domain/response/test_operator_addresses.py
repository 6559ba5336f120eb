"""Addresses of the people who use the API: which count, where, and for how long."""

from hypothesis import given
from hypothesis import strategies as st

from manager.domain.instant import Instant
from manager.domain.networks import network_of
from manager.domain.response.operator_addresses import KEPT_FOR, MOST, Operator, OperatorAddresses

START = 1_800_000_000.0
ANN = Operator("ann", "text of ann")
BOB = Operator("bob", "text of bob", frozenset({"acme", "beta"}))


def text_of(name: str) -> str:
    """Return the text of a token that is accepted."""
    return f"text of {name}"


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
        assert not addresses.record(value, ANN, at(0))
    assert (addresses.of_organization("acme"), addresses.changed) == ([], False)


def test_an_address_is_found_in_each_form_and_in_a_network_that_contains_it() -> None:
    """IPv4-mapped and zoned addresses are the address itself; a block of a whole network would hit it, too."""
    addresses = OperatorAddresses()
    assert addresses.record("::ffff:203.0.113.9", ANN, at(0))
    assert addresses.record("fe80::1%eth0", ANN, at(0))
    assert holds(addresses, "203.0.113.9")
    assert holds(addresses, "203.0.113.0/28")
    assert not holds(addresses, "203.0.113.8")
    assert not holds(addresses, "203.0.113.16/28")
    assert addresses.of_organization("acme") == ["203.0.113.9", "fe80::1"]


def test_a_limited_person_counts_in_its_organizations_only() -> None:
    """No organization can shield an address from another one's blocklist."""
    addresses = OperatorAddresses()
    addresses.record("203.0.113.9", BOB, at(0))
    assert [holds(addresses, "203.0.113.9", each) for each in ("acme", "beta", "other")] == [True, True, False]
    assert [holds(addresses, "203.0.113.0/24", each) for each in ("acme", "beta", "other")] == [True, True, False]
    assert addresses.of_organization("other") == []


requests = st.lists(
    st.tuples(
        st.integers(0, 4),
        st.sampled_from([ANN, BOB]),
        st.sampled_from([0.0, 3600.0, KEPT_FOR - 1, KEPT_FOR]),
        st.sampled_from([None, None, "ann", "bob"]),
    ),
    max_size=20,
)


@given(requests, st.integers(0, 20))
def test_an_address_is_kept_for_12_hours_after_its_last_request(
    made: list[tuple[int, Operator, float, str | None]], restart: int
) -> None:
    """Unless its token is refused: compared with a naive list, over a restart; `changed` is set with each change."""
    addresses, now, refused = OperatorAddresses(), 0.0, set[str]()
    last: dict[tuple[str, Operator], float] = {}

    def current(name: str) -> str | None:
        return None if name in refused else text_of(name)

    for number, (host, operator, pause, revoked) in enumerate(made):
        if number == restart:
            stored, addresses = addresses.stored_value(at(now)), OperatorAddresses()
            addresses.load(stored, at(now), current)
        before = addresses.of_organization("acme")
        now += pause
        refused |= {revoked} if revoked is not None else set()
        gone = addresses.expire(at(now), current)
        live = {place for place, when in last.items() if now - when < KEPT_FOR and place[1].name not in refused}
        assert gone is (len(live) < len(last))
        last = {place: last[place] for place in live}
        refused.clear()  # it was made anew
        value = f"203.0.113.{host}"
        is_new = (value, operator) not in last
        assert addresses.record(value, operator, at(now)) is is_new
        last[value, operator] = now
        assert addresses.of_organization("acme") == sorted({value for value, _ in last})
        assert addresses.of_organization("other") == sorted({value for value, each in last if each is ANN})
        assert holds(addresses, "203.0.113.1", "other") is (("203.0.113.1", ANN) in last)
        assert addresses.changed or addresses.of_organization("acme") == before or not is_new
        addresses.changed = False


def test_a_time_ahead_of_the_clock_keeps_no_address_longer() -> None:
    """As after a clock that was set back while no manager ran: the age counts as 0, not as less."""
    ahead = OperatorAddresses()
    ahead.record("203.0.113.9", ANN, at(30 * 86_400))
    addresses = OperatorAddresses()
    addresses.load(ahead.stored_value(at(30 * 86_400)), at(0), text_of)
    assert not addresses.expire(at(KEPT_FOR - 1), text_of)
    assert holds(addresses, "203.0.113.9")
    assert addresses.expire(at(KEPT_FOR), text_of)
    assert addresses.of_organization("acme") == []


def test_the_least_recent_address_of_the_same_token_makes_room() -> None:
    """However many addresses one token has, nobody else's goes."""
    addresses = OperatorAddresses()
    addresses.record("198.51.100.1", ANN, at(0))
    for number in range(MOST):
        addresses.record(f"203.0.113.{number}", BOB, at(1 + number))
    addresses.record("203.0.113.0", BOB, at(500))
    addresses.record("203.0.113.99", BOB, at(501))
    assert len(addresses.of_organization("acme")) == MOST + 1
    assert holds(addresses, "203.0.113.0")
    assert not holds(addresses, "203.0.113.1")
    assert holds(addresses, "198.51.100.1")


def test_an_address_of_two_tokens_counts_until_the_last_of_them_is_refused() -> None:
    """In the organizations of the tokens that are left."""
    addresses = OperatorAddresses()
    for operator in (ANN, BOB):
        addresses.record("203.0.113.9", operator, at(0))
    assert addresses.expire(at(1), lambda name: None if name == "ann" else text_of(name))
    assert [holds(addresses, "203.0.113.9", each) for each in ("acme", "other")] == [True, False]
    assert addresses.expire(at(1), lambda _name: "another text")
    assert not holds(addresses, "203.0.113.9")
    assert (addresses.of_organization("acme"), addresses.stored_value(at(1))) == ([], "[]")


def test_what_an_earlier_release_stored_is_left_out() -> None:
    """It names no token; the next request records the address again."""
    addresses = OperatorAddresses()
    addresses.load(f'[["203.0.113.9", null, {START}]]', at(0), text_of)
    assert addresses.of_organization("acme") == []
