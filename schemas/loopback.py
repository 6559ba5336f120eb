"""Which hosts are this one: what is said to them leaves no machine, so only there it may go without TLS."""

from ipaddress import ip_address


def is_loopback(host: str) -> bool:
    """Return whether a host's name or address can mean nothing but the machine itself."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
