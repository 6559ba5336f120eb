"""Indicators in their normal form, within their scope, and what an organization allowlists."""

import pytest

from manager.domain.correlation import Allowlist, Indicator
from manager.domain.correlation.indicators import (
    hash_algorithm,
    indicators_of,
    normal_address,
    normal_hash,
    normal_network,
    normal_techniques,
)

MD5 = "d41d8cd98f00b204e9800998ecf8427e"
SHA1 = "da39a3ee5e6b4b0d3255bfef95601890afd80709"
SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("203.0.113.7", "203.0.113.7"),
        (" 203.0.113.7\n", "203.0.113.7"),
        ("2001:DB8:0:0:0:0:0:1", "2001:db8::1"),
        ("2001:0db8:0000:0000:0000:0000:0000:0001", "2001:db8::1"),
        ("2001:db8::0:1", "2001:db8::1"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("::FFFF:cb00:7107", "203.0.113.7"),
        ("0:0:0:0:0:ffff:203.0.113.7", "203.0.113.7"),
        ("fe80::1%eth0", "fe80::1"),
        ("fe80::1%25eth0", "fe80::1"),
        ("::ffff:203.0.113.7%eth0", "203.0.113.7"),
        ("::", "::"),
    ],
)
def test_forms_of_one_address_are_one_value(text: str, value: str) -> None:
    """Compressed or not, mapped or not, with a zone or without: the same address is the same value."""
    address = normal_address(text)
    assert address is not None
    assert address.value == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nowhere",
        "203.0.113",
        "203.0.113.256",
        "203.0.113.07",
        "203.0.113.0/24",
        "203.0.113.7%eth0",
        "1",
        "1" * 10_000,
    ],
)
def test_what_is_no_address_is_ignored(text: str) -> None:
    """A host name, a network or a number never becomes an address."""
    assert normal_address(text) is None


@pytest.mark.parametrize(
    ("text", "private"),
    [
        ("10.0.0.0", True),
        ("10.255.255.255", True),
        ("11.0.0.0", False),
        ("172.15.255.255", False),
        ("172.16.0.0", True),
        ("172.31.255.255", True),
        ("172.32.0.0", False),
        ("192.168.1.10", True),
        ("192.169.0.0", False),
        ("100.63.255.255", False),
        ("100.64.0.0", True),
        ("100.127.255.255", True),
        ("100.128.0.0", False),
        ("127.0.0.1", True),
        ("::1", True),
        ("::2", False),
        ("169.254.0.1", True),
        ("fe80::1%eth0", True),
        ("febf::1", True),
        ("fec0::1", False),
        ("fc00::1", True),
        ("fdff::1", True),
        ("fe00::1", False),
        ("::ffff:192.168.1.10", True),
        ("192.0.2.1", False),
        ("198.51.100.1", False),
        ("203.0.113.1", False),
        ("2001:db8::1", False),
        ("198.18.0.1", False),
        ("240.0.0.1", False),
    ],
)
def test_private_is_what_the_design_names(text: str, private: bool) -> None:
    """RFC 1918, fc00::/7, 100.64.0.0/10, loopback and link-local, to the last address, and no documentation range."""
    address = normal_address(text)
    assert address is not None
    assert address.private is private


@pytest.mark.parametrize(("text", "algorithm"), [(MD5, "md5"), (SHA1, "sha1"), (SHA256, "sha256")])
def test_a_hash_is_lower_case_and_known_by_its_length(text: str, algorithm: str) -> None:
    """Upper and lower case are one hash; its length says which it is."""
    assert normal_hash(text.upper()) == normal_hash(f" {text} ") == text
    assert hash_algorithm(text) == algorithm


@pytest.mark.parametrize("text", ["", "abc", MD5[:-1], SHA256 + "0", "g" * 32, "0x" + MD5[2:], "٣" * 32])
def test_what_is_no_hash_is_ignored(text: str) -> None:
    """Another length, or another alphabet, is no hash."""
    assert normal_hash(text) is None


@pytest.mark.parametrize(
    ("text", "techniques"),
    [
        ("T1110", ("T1110",)),
        ("t1110 ", ("T1110",)),
        ("T1110.001", ("T1110.001", "T1110")),
        ("t1110.001", ("T1110.001", "T1110")),
        ("T111", ()),
        ("T11100", ()),
        ("T1110.1", ()),
        ("TA0006", ()),
        ("brute_force", ()),
        ("T1110.001.002", ()),
        ("T\uff11\uff11\uff11\uff10", ()),
    ],
)
def test_a_sub_technique_counts_as_itself_and_as_its_technique(text: str, techniques: tuple[str, ...]) -> None:
    """`T1110.001` counts as both, in any case; what is no ATT&CK id counts for nothing."""
    assert normal_techniques(text) == techniques


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("203.0.113.0/24", "203.0.113.0/24"),
        ("203.0.113.9/24", "203.0.113.0/24"),
        ("203.0.113.7", "203.0.113.7/32"),
        ("::ffff:203.0.113.0/120", "203.0.113.0/24"),
        ("2001:DB8::/32", "2001:db8::/32"),
        ("::ffff:0:0/95", "::fffe:0:0/95"),
    ],
)
def test_forms_of_one_network_are_one_value(text: str, network: str) -> None:
    """Host bits are dropped, and a network of mapped addresses is the IPv4 network."""
    assert normal_network(text) == network


def test_a_report_is_compared_by_all_it_names() -> None:
    """Address, hash and technique each make an indicator; only the private address belongs to the site."""
    assert indicators_of("acme", "north", "10.0.0.1", SHA1.upper(), "t1110.001") == (
        Indicator("source_ip", "10.0.0.1", "acme", "north"),
        Indicator("file_hash", SHA1, "acme", None),
        Indicator("technique", "T1110.001", "acme", None),
        Indicator("technique", "T1110", "acme", None),
    )
    assert indicators_of("acme", "north", "203.0.113.7", None, None) == (
        Indicator("source_ip", "203.0.113.7", "acme", None),
    )
    assert indicators_of("acme", None, None, None, None) == indicators_of("acme", None, "x", "y", "z") == ()


def test_agents_without_a_site_share_one() -> None:
    """No site and an empty one are the same site, which is none of the named ones."""
    assert indicators_of("acme", None, "10.0.0.1", None, None) == indicators_of("acme", "", "10.0.0.1", None, None)
    assert indicators_of("acme", None, "10.0.0.1", None, None) != indicators_of("acme", "a", "10.0.0.1", None, None)


@pytest.mark.parametrize(
    ("entry", "indicator", "covered"),
    [
        ("203.0.113.7", Indicator("source_ip", "203.0.113.7", "acme", None), True),
        ("::ffff:203.0.113.7", Indicator("source_ip", "203.0.113.7", "acme", None), True),
        ("203.0.113.0/24", Indicator("source_ip", "203.0.113.255", "acme", None), True),
        ("203.0.113.0/24", Indicator("source_ip", "203.0.114.0", "acme", None), False),
        ("203.0.113.0/24", Indicator("source_ip", "203.0.113.7", "other", None), False),
        ("203.0.113.0/24", Indicator("source_ip", "2001:db8::1", "acme", None), False),
        ("2001:db8::/32", Indicator("source_ip", "2001:db8::1", "acme", None), True),
        ("10.0.0.0/8", Indicator("source_ip", "10.0.0.1", "acme", "north"), True),
        (SHA256.upper(), Indicator("file_hash", SHA256, "acme", None), True),
        (SHA256, Indicator("file_hash", SHA1, "acme", None), False),
        ("T1110", Indicator("technique", "T1110.001", "acme", None), True),
        ("T1110.001", Indicator("technique", "T1110", "acme", None), False),
        ("T1110.001", Indicator("technique", "T1110.001", "acme", None), True),
    ],
)
def test_an_allowlist_covers_its_own_organization_in_any_form(entry: str, indicator: Indicator, covered: bool) -> None:
    """Entries are normalised as indicators are, networks hold their addresses, techniques their sub-techniques."""
    assert Allowlist({"acme": [entry]})(indicator) is covered


def test_an_allowlist_refuses_what_it_cannot_compare() -> None:
    """An entry that would never match is an error that names it."""
    with pytest.raises(ValueError, match=r"'mail\.example\.org'"):
        Allowlist({"acme": ["203.0.113.7", "mail.example.org"]})
