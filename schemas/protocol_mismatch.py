"""Error messages for a server that speaks another protocol than the URL says, such as the broker asked over HTTP."""

_PORTS = {"http": "the manager's (8443 by default)", "mqtt": "the broker's (1883 by default, 8883 with TLS)"}
_OTHER = {"http": "the broker's", "mqtt": "the manager's"}


def no_answer(url: str) -> str:
    """Return the message for a server that ended a connection before an answer in the protocol of its URL."""
    scheme = url.partition("://")[0]
    protocol = scheme.removesuffix("s")
    secure = f"write {protocol}s:// if it has TLS, and " if scheme == protocol else ""
    return f"{url} ended the connection without an {protocol.upper()} answer: {secure}{_see(protocol)}"


def no_tls(url: str) -> str:
    """Return the message for a server that does not speak TLS, or ends the connection during the TLS handshake."""
    protocol = url.partition("://")[0].removesuffix("s")
    return f"{url} does not speak TLS: write {protocol}:// if it has none, and {_see(protocol)}"


def _see(protocol: str) -> str:
    return f"see that the port is {_PORTS[protocol]} and not {_OTHER[protocol]}"
