"""Client addresses: forwarded headers, trusted networks, and rate limit keys."""

import pytest

from manager.api.middleware.client_address import ClientAddresses

_PROXIED = ClientAddresses(trusted=["10.0.0.0/8", "2001:db8::/32"], proxies=["192.0.2.1"])


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("10.1.2.3", None, "10.1.2.3"),
        ("203.0.113.5", "10.0.0.1", "203.0.113.5"),
        ("192.0.2.1", "203.0.113.9", "203.0.113.9"),
        ("192.0.2.1", "10.0.0.1, 203.0.113.9", "203.0.113.9"),
        ("192.0.2.1", "10.0.0.1, 192.0.2.1", "10.0.0.1"),
        ("192.0.2.1", "nonsense", "192.0.2.1"),
        ("192.0.2.1", None, "192.0.2.1"),
    ],
)
def test_only_a_named_proxy_is_believed(peer: str, forwarded: str | None, address: str) -> None:
    """The last hop that is no proxy counts; hops that a client wrote before it do not."""
    headers = {} if forwarded is None else {b"x-forwarded-for": forwarded.encode()}
    assert _PROXIED.address((peer, 1), headers) == address


@pytest.mark.parametrize(
    ("address", "trusted"),
    [
        ("10.1.2.3", True),
        ("::ffff:10.1.2.3", True),
        ("2001:db8::7", True),
        ("11.0.0.1", False),
        ("", False),
        ("localhost", False),
    ],
)
def test_trust_is_a_matter_of_networks(address: str, *, trusted: bool) -> None:
    """An IPv4 address is the same in its IPv6 form."""
    assert _PROXIED.is_trusted(address) is trusted
    assert ClientAddresses().is_trusted(address) is False


def test_an_ipv6_host_cannot_evade_the_limit_within_its_prefix() -> None:
    """All addresses of one IPv6 /64 share a key; each IPv4 address has its own, in either form."""
    key = ClientAddresses.rate_limit_key
    assert key("2001:db8::1") == key("2001:db8::2") != key("2001:db8:0:1::1")
    assert key("::ffff:192.0.2.7") == key("192.0.2.7") != key("192.0.2.8")
