"""The shares of connections against a naive oracle that recounts everything at each step."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manager.broker.connection.connection_slots import ConnectionSlots, network_of
from manager.broker.limits import BrokerLimits
from tests.support.examples import examples

LIMITS = BrokerLimits(
    connections=4,
    connections_per_user=2,
    pending_connections=3,
    registration_connections=3,
    registration_connections_per_network=2,
)
ADDRESSES = ("192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1")
USERS = ("ag-1", "ag-2", "ag-3", None)

steps = st.lists(
    st.one_of(
        st.tuples(st.just("open"), st.sampled_from(ADDRESSES), st.just(0)),
        st.tuples(st.just("admit"), st.sampled_from(USERS), st.integers(0, 20)),
        st.tuples(st.just("guest"), st.just("registration"), st.integers(0, 20)),
        st.tuples(st.just("close"), st.just(""), st.integers(0, 20)),
    ),
    max_size=60,
)


class Oracle:
    """All connections in one list: number, network, and user, `pending` or `guest`."""

    def __init__(self) -> None:
        self.open: list[tuple[int, str, str | None]] = []

    def count(self, *, state: str | None = "", network: str = "") -> int:
        return sum(
            1
            for _, where, who in self.open
            if (not network or where == network)
            and (who == state if state != "user" else who not in ("pending", "guest"))
        )

    def refuses(self, number: int, user: str | None, *, guest: bool) -> bool:
        network = next(where for one, where, _ in self.open if one == number)
        if guest:
            return self.count(state="guest") >= 3 or self.count(state="guest", network=network) >= 2
        return self.count(state="user") >= 4 or self.count(state=user) >= 2


@settings(max_examples=examples(300))
@given(steps)
def test_shares_hold_whatever_happens(steps: list[tuple[str, str | None, int]]) -> None:
    """No share is ever exceeded, none takes from another, and a closed connection gives its place back."""
    slots, oracle, number = ConnectionSlots(LIMITS), Oracle(), 0
    for step, word, index in steps:
        pending = [one for one, _, who in oracle.open if who == "pending"]
        if step == "open":
            number += 1
            evicted = slots.open(number, str(word))
            oracle.open.append((number, network_of(str(word)), "pending"))
            assert evicted == (pending[0] if len(pending) == 3 else None)
            oracle.open = [each for each in oracle.open if each[0] != evicted]
        elif step in ("admit", "guest") and pending:
            chosen = pending[index % len(pending)]
            guest = step == "guest"
            refused = slots.admit(chosen, word, guest=guest) is not None
            assert refused == oracle.refuses(chosen, word, guest=guest)
            if not refused:
                state = "guest" if guest else word
                oracle.open = [(one, where, state if one == chosen else who) for one, where, who in oracle.open]
        elif step == "close":
            slots.close(index)
            oracle.open = [each for each in oracle.open if each[0] != index]
        assert slots.total == len(oracle.open)
    for each in range(number + 1):
        slots.close(each)
    assert (slots.total, slots._by_user, slots._guests_by_network) == (0, {}, {})


@pytest.mark.parametrize(
    ("users", "refused"),
    [
        (["ag-1"] * 3, "too many connections of this user"),
        (["ag-1", "ag-1", "ag-2", "ag-2", "ag-3"], "too many connections"),
        (["ag-1", "ag-2", "ag-1", "ag-3"], None),
    ],
)
def test_a_user_has_a_share_and_all_users_have_one(users: list[str], refused: str | None) -> None:
    """The last one is refused for the share that is used up, and for no other."""
    slots = ConnectionSlots(LIMITS)
    answers = []
    for number, user in enumerate(users):
        slots.open(number, "192.0.2.1")
        answers.append(slots.admit(number, user, guest=False))
    assert answers == [*([None] * (len(users) - 1)), refused]


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("unix", "unix"),
    ],
)
def test_a_network_counts_as_one_client(address: str, network: str) -> None:
    """One host has as many IPv6 addresses as it likes; an IPv4 address is one, mapped or not."""
    assert network_of(address) == network
