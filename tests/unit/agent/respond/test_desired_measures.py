"""Which measures should be in force: a pure rule."""

import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from agent.respond.desired_measures import desired_measures, next_expiry, protected_spans, span
from agent.respond.responder import Measure
from schemas.policy import Allowlist

NOW = 1_000.0
ADDRESSES = st.one_of(
    st.ip_addresses(v=4, network="203.0.113.0/28"), st.ip_addresses(v=6, network="2001:db8::/124")
).map(str)
NETWORKS = st.one_of(
    ADDRESSES,
    st.builds(
        lambda address, bits: str(ipaddress.ip_network((address, bits), strict=False)),
        st.ip_addresses(v=4, network="203.0.113.0/28"),
        st.integers(24, 32),
    ),
)
MEASURES = st.lists(
    st.builds(Measure, kind=st.just("ip"), value=NETWORKS, expires_at=st.none() | st.floats(NOW - 10, NOW + 10))
)


@given(MEASURES, st.lists(NETWORKS, max_size=3), st.lists(NETWORKS, max_size=2))
def test_the_desired_measures_are_what_a_naive_comparison_says(
    measures: list[Measure], allowed: list[str], protected: list[str]
) -> None:
    """For any lists: not expired, not overlapping what is allowed or protected, and of equals the longest."""

    def overlaps(one: str, other: str) -> bool:
        left, right = ipaddress.ip_network(one), ipaddress.ip_network(other)
        return left.version == right.version and left.overlaps(right)

    def lasts(measure: Measure) -> float:
        return float("inf") if measure.expires_at is None else measure.expires_at

    live = [measure for measure in measures if lasts(measure) > NOW]
    kept = [measure for measure in live if not any(overlaps(measure.value, other) for other in [*allowed, *protected])]
    expected = {measure.value: max(lasts(other) for other in kept if other.value == measure.value) for measure in kept}
    found = desired_measures(measures, Allowlist(ips=allowed), protected_spans(protected), NOW)
    assert {value: lasts(measure) for (_, value), measure in found.measures.items()} == expected


def test_loopback_and_the_own_host_are_never_blocked() -> None:
    """Whatever a policy says, a guard does not cut its own host off, and says which entry it refused."""
    values = ["127.0.0.1", "0.0.0.0/0", "::/0", "10.0.0.0/8", "::ffff:10.0.0.1", "203.0.113.7"]
    measures = [Measure("ip", span(value).text) for value in values]
    found = desired_measures(measures, Allowlist(), protected_spans(["10.0.0.1"]), NOW)
    assert [value for _, value in found.measures] == ["203.0.113.7"]
    assert len(found.refused) == 5
    assert all(sentence.startswith("blocklist: ") for sentence in found.refused)


def test_only_sha256_quarantines_and_the_allowlist_spares() -> None:
    """Shorter hashes and allowed ones are never put away."""
    sha256, allowed, md5 = "a" * 64, "b" * 64, "c" * 32
    measures = [Measure("file_hash", value) for value in (sha256, allowed, md5)]
    found = desired_measures(measures, Allowlist(file_hashes=[allowed]), (), NOW)
    assert [value for _, value in found.measures] == [sha256]


def test_spans_have_one_normal_form() -> None:
    """IPv4-mapped addresses are IPv4, host bits are dropped, a whole address has no prefix."""
    assert [span(text).text for text in ("::ffff:1.2.3.4", "1.2.3.4/32", "1.2.3.4/24", "2001:DB8::1/128")] == [
        "1.2.3.4",
        "1.2.3.4",
        "1.2.3.0/24",
        "2001:db8::1",
    ]


def test_the_first_expiry_wakes() -> None:
    """Measures for good never do."""
    assert next_expiry([Measure("ip", "203.0.113.7")]) == float("inf")
    assert next_expiry([Measure("ip", "a", expires_at=9), Measure("ip", "b", expires_at=5), Measure("ip", "c")]) == 5
