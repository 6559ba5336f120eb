"""Whatever an attacker calls himself, the address that is reported is his own."""

import ipaddress
from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.parse.sshd import FailedLogin, parse

NOW = datetime(2026, 11, 22, 10, 0, 30, tzinfo=UTC).timestamp()

peers = st.ip_addresses()
ports = st.integers(1, 65_535)
decoys = st.sampled_from(["9.9.9.9", "2001:db8::bad", "::ffff:9.9.9.9"])

# What sshd itself writes around an address: a name made of such pieces is the most that an attacker can do.
pieces = st.one_of(
    st.builds(" from {} port {} ssh2".format, decoys, ports),
    st.builds(" {} port {} [preauth]".format, decoys, ports),
    st.builds("Nov 22 10:00:01 host sshd[1]: Failed password for root from {} port {} ssh2".format, decoys, ports),
    st.sampled_from(
        [" ", "]", " from ", " port 22", " ssh2", ": RSA SHA256:abc", " [preauth]", "\\012", "root", "invalid user "]
    ),
    st.sampled_from(
        ["message repeated 9 times: [ ", " (serial 1) CA RSA SHA256:abc", "\u2028", "\x85", "\r", "\ufffd"]
    ),
    st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), max_size=8),
)
names = st.lists(pieces, max_size=6).map("".join).map(lambda name: name[:100])

MESSAGES = (
    "Failed password for {user} from {peer} port {port} ssh2",
    "Failed password for invalid user {user} from {peer} port {port} ssh2",
    "Failed keyboard-interactive/pam for invalid user {user} from {peer} port {port} ssh2",
    "Failed publickey for {user} from {peer} port {port} ssh2",
    "Failed publickey for {user} from {peer} port {port} ssh2: ED25519 SHA256:47DEQpj8HBSa+/TImW5JCeuQ",
    "Invalid user {user} from {peer} port {port}",
    "Connection closed by authenticating user {user} {peer} port {port} [preauth]",
    "Disconnected from invalid user {user} {peer} port {port} [preauth]",
    "error: maximum authentication attempts exceeded for invalid user {user} from {peer} port {port} ssh2 [preauth]",
)


def normal(peer: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """The spelling in which an address is reported: no zone, IPv4-mapped as IPv4."""
    if isinstance(peer, ipaddress.IPv4Address):
        return str(peer)
    return str(peer.ipv4_mapped or ipaddress.IPv6Address(int(peer)))


@settings(max_examples=500)
@given(st.sampled_from(MESSAGES), names, peers, ports, st.sampled_from(["{}", "message repeated 2 times: [ {}]"]))
def test_peer_is_the_address(
    message: str, user: str, peer: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int, folded: str
) -> None:
    """A failed login is read from every line that sshd writes about one, and its address and port are the peer's."""
    text = folded.format(message.format(user=user, peer=peer, port=port))
    event = parse(f"Nov 22 10:00:01 host sshd[77]: {text}", NOW, UTC)
    assert isinstance(event, FailedLogin)
    assert (event.address, event.port) == (normal(peer), port)


@settings(max_examples=500)
@given(names, names, peers, ports)
def test_certificate_id_never_accuses_another(
    user: str, key_id: str, peer: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int
) -> None:
    """With text of the attacker's on both sides of the address, the peer is reported or nobody."""
    detail = f"RSA-CERT SHA256:abc ID {key_id} (serial 1) CA RSA SHA256:def"
    line = f"Nov 22 10:00:01 host sshd[77]: Failed publickey for {user} from {peer} port {port} ssh2: {detail}"
    event = parse(line, NOW, UTC)
    if event is not None:
        assert isinstance(event, FailedLogin)
        assert (event.address, event.port) == (normal(peer), port)


@settings(max_examples=500)
@given(st.text(st.characters(exclude_categories=["Cs"])), names)
def test_no_line_raises(prefix: str, text: str) -> None:
    """Any text is either a login or None."""
    parse(prefix + text, NOW, UTC)
    parse(f"2026-11-22T10:00:01Z h sshd[1]: {prefix}{text}", NOW, UTC)
