"""Loopback test: connections to loopback do not leave the machine, so they may go without TLS."""

from ipaddress import ip_address


def is_loopback(host: str) -> bool:
    """Return whether a host name or address always refers to this machine."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
