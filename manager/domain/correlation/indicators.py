"""Indicators: addresses, hashes and techniques in normal form, each with its scope."""

import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Literal, NamedTuple

Kind = Literal["source_ip", "file_hash", "technique"]
HashAlgorithm = Literal["md5", "sha1", "sha256"]

SITELESS = ""
"""Site shared by all agents without a site."""

_LONGEST_ADDRESS = 64
_MAPPED_PREFIX = 96
_ALGORITHMS: dict[int, HashAlgorithm] = {32: "md5", 40: "sha1", 64: "sha256"}
_HEXADECIMAL = re.compile(r"[0-9a-f]+")
_TECHNIQUE = re.compile(r"(T[0-9]{4})(\.[0-9]{3})?")
_BITS: dict[Kind, int] = {"source_ip": 1, "file_hash": 2, "technique": 4}
_PARENT_BIT = 8
"""Bit of the technique that a sub-technique belongs to."""
# Not `is_private`: it includes the documentation ranges and leaves 100.64.0.0/10 out. By version, as numbers,
# because a flood of new addresses pays for every comparison.
_PRIVATE = {
    version: tuple((int(network.netmask), int(network.network_address)) for network in map(ip_network, networks))
    for version, networks in {
        4: ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
        6: ("fc00::/7", "::1/128", "fe80::/10"),
    }.items()
}


class Indicator(NamedTuple):
    """A value that agents may share, and the scope within which it has the same meaning.

    Args:
        kind: source address, file hash or technique.
        value: its normal form.
        organization_id: organizations never mix.
        site: for a private address its site (`SITELESS` for agents without one), because 192.168.1.10 is another host
            behind each NAT; None for everything that means the same in the whole organization.
    """

    kind: Kind
    value: str
    organization_id: str
    site: str | None


class Address(NamedTuple):
    """A source address in normal form, and whether it is private to a site."""

    value: str
    private: bool


def normal_address(text: str) -> Address | None:
    """Return the normal form of an address, or None if it is not an address.

    IPv6 is compressed and in lower case; an IPv4-mapped address becomes the IPv4 address; a zone id is dropped, because
    it names an interface of the host that wrote it.
    """
    return _normal_address(text) if len(text) <= _LONGEST_ADDRESS else None


@lru_cache(maxsize=16_384)  # parsing costs most of a report, and addresses repeat
def _normal_address(text: str) -> Address | None:
    host, zone, _ = text.strip().partition("%")
    try:
        address = ip_address(host)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        address = address.ipv4_mapped or address
    elif zone:
        return None  # only IPv6 has zones
    number = int(address)
    return Address(str(address), any(number & mask == network for mask, network in _PRIVATE[address.version]))


@lru_cache(maxsize=16_384)
def parsed_address(value: str) -> IPv4Address | IPv6Address:
    """Parse an address in normal form; cached.

    Raises:
        ValueError: the text is not an address.
    """
    return ip_address(value)


def normal_network(text: str) -> str:
    """Return an address or CIDR in normal form, an IPv4-mapped one as IPv4, an address as its /32 or /128.

    Raises:
        ValueError: it is neither.
    """
    network = ip_network(text.strip(), strict=False)
    if isinstance(network, IPv6Network) and network.prefixlen >= _MAPPED_PREFIX:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return str(ip_network((mapped, network.prefixlen - _MAPPED_PREFIX)))
    return str(network)


def hash_algorithm(value: str) -> HashAlgorithm | None:
    """Return the hash algorithm that a digest's length implies."""
    return _ALGORITHMS.get(len(value))


def normal_hash(text: str) -> str | None:
    """Return a file hash in lower case, or None if it is not an MD5, SHA-1 or SHA-256 in hexadecimal."""
    value = text.strip().lower()
    return value if hash_algorithm(value) is not None and _HEXADECIMAL.fullmatch(value) else None


@lru_cache(maxsize=4_096)
def normal_techniques(text: str) -> tuple[str, ...]:
    """Return the ATT&CK ids that a technique counts as: `T1110.001` as itself and as `T1110`; none if it is no id."""
    match = _TECHNIQUE.fullmatch(text.strip().upper())
    if match is None:
        return ()
    return (match[0], match[1]) if match[2] else (match[0],)


@lru_cache(maxsize=16_384)  # reports repeat their indicators
def indicators_of(
    organization_id: str, site: str | None, source_ip: str | None, file_hash: str | None, technique: str | None
) -> tuple[Indicator, ...]:
    """Return the indicators of a report; invalid fields are ignored."""
    found: list[Indicator] = []
    if source_ip and (address := normal_address(source_ip)) is not None:
        value, private = address
        found.append(Indicator("source_ip", value, organization_id, (site or SITELESS) if private else None))
    if file_hash and (digest := normal_hash(file_hash)) is not None:
        found.append(Indicator("file_hash", digest, organization_id, None))
    if technique:
        found += [Indicator("technique", name, organization_id, None) for name in normal_techniques(technique)]
    return tuple(found)


def bit_of(indicator: Indicator, technique: str | None) -> int:
    """Return the bit of a report's indicator in `Report.ignored`.

    Args:
        indicator: one of the report's indicators.
        technique: the technique that the report names; of a sub-technique, its parent has a bit of its own.
    """
    if indicator.kind == "technique" and technique is not None and "." in technique and "." not in indicator.value:
        return _PARENT_BIT
    return _BITS[indicator.kind]
