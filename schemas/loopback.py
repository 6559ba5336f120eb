"""Loopback test: traffic to these hosts leaves no machine, so it may go without TLS."""

from ipaddress import ip_address


def is_loopback(host: str) -> bool:
    """Return whether a host name or address can only mean this machine."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
