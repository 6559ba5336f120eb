"""Normalises the addresses in log lines."""

import ipaddress
import re
from functools import lru_cache

_LONGEST = 64
_IPV4 = re.compile(r"(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?:\.(?!\Z)|\Z)){4}", re.ASCII)


@lru_cache(maxsize=2048)
def normal_address(text: str) -> str | None:
    """Return the address in canonical form; None for a host name.

    An IPv4-mapped IPv6 address becomes the IPv4 address; a zone is dropped, because firewalls have none.
    """
    if _IPV4.fullmatch(text):
        return text
    if len(text) > _LONGEST:
        return None
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        return str(address.ipv4_mapped or ipaddress.IPv6Address(int(address)))
    return str(address)


@lru_cache(maxsize=2048)
def source_of(address: str) -> str:
    """Return the source that an address counts for: the address itself, or the /64 of an IPv6 address, as a prefix."""
    if ":" not in address:
        return address
    return str(ipaddress.IPv6Network((int(ipaddress.IPv6Address(address)) >> 64 << 64, 64)))
