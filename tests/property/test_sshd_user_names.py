"""Whatever an attacker calls himself, the address that is reported is his own."""

import ipaddress
from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.events import Event, Record, RecordOrigin
from agent.parse.record_parser import RecordParser
from tests.support.examples import examples

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
    "Connection reset by invalid user {user} {peer} port {port} [preauth]",
    "Disconnected from invalid user {user} {peer} port {port} [preauth]",
    "Disconnecting invalid user {user} {peer} port {port}: Too many authentication failures [preauth]",
    "error: maximum authentication attempts exceeded for invalid user {user} from {peer} port {port} ssh2 [preauth]",
)
WITHOUT_PORT = (
    "Invalid user {user} from {peer}",
    "error: PAM: Authentication failure for illegal user {user} from {peer}",
    "error: PAM: User not known to the underlying authentication module for illegal user {user} from {peer}",
)
FOREIGN_TEXT_BEHIND = (
    "Bad protocol version identification '{text}' from {peer} port {port}",
    "Protocol major versions differ for {peer} port {port}: SSH-2.0-OpenSSH_9.2 vs. {text}",
    "Unable to negotiate with {peer} port {port}: no matching MAC found. Their offer: {text} [preauth]",
    "ssh_dispatch_run_fatal: Connection from {peer} port {port}: {text} [preauth]",
    "Received disconnect from {peer}: 11: {text} [preauth]",
)
HEADERS = (
    "Nov 22 10:00:01 host sshd[77]: ",
    "Nov 22 10:00:01 sshd[77]: ",
    "Nov 22 10:00:01 host auth.info sshd[77]: ",
    "2026-11-22T10:00:01.123456+00:00 host sshd-session[77]: ",
    "<38>1 2026-11-22T10:00:01Z host sshd 77 - - ",
    "Sun 2026-11-22 10:00:01 UTC host sshd[77]: ",
)


def read(line: str) -> Event | None:
    """The event of one line."""
    return RecordParser(UTC).read(Record(line, RecordOrigin("test")), NOW).event


def normal(peer: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """The spelling in which an address is reported: no zone, IPv4-mapped as IPv4."""
    if isinstance(peer, ipaddress.IPv4Address):
        return str(peer)
    return str(peer.ipv4_mapped or ipaddress.IPv6Address(int(peer)))


@settings(max_examples=examples(500))
@given(
    st.sampled_from(HEADERS),
    st.sampled_from(MESSAGES),
    names,
    peers,
    ports,
    st.sampled_from(["{}", "message repeated 2 times: [ {}]"]),
)
def test_peer_is_the_address(  # noqa: PLR0917 -- hypothesis gives them by position
    header: str,
    message: str,
    user: str,
    peer: ipaddress.IPv4Address | ipaddress.IPv6Address,
    port: int,
    folded: str,
) -> None:
    """An event is read from every line that sshd writes about a user, and its address and port are the peer's."""
    event = read(header + folded.format(message.format(user=user, peer=peer, port=port)))
    assert event is not None
    assert (event.fields["sourceIp"], event.fields["port"]) == (normal(peer), port)


@settings(max_examples=examples(300))
@given(st.sampled_from(HEADERS), st.sampled_from(WITHOUT_PORT), names, peers)
def test_peer_without_a_port_is_the_address(
    header: str, message: str, user: str, peer: ipaddress.IPv4Address | ipaddress.IPv6Address
) -> None:
    """Where sshd writes no port, the last word is the peer, whatever the name looks like."""
    event = read(header + message.format(user=user, peer=peer))
    assert event is not None
    assert event.fields["sourceIp"] == normal(peer)


@settings(max_examples=examples(300))
@given(st.sampled_from(HEADERS), st.sampled_from(FOREIGN_TEXT_BEHIND), names, peers, ports)
def test_protocol_text_never_accuses_another(
    header: str, message: str, text: str, peer: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int
) -> None:
    """Text that a peer sends before it names a user never becomes an address: the peer is reported or nobody."""
    event = read(header + message.format(text=text, peer=peer, port=port))
    assert event is None or event.fields["sourceIp"] == normal(peer)


@settings(max_examples=examples(500))
@given(names, names, peers, ports)
def test_certificate_id_never_accuses_another(
    user: str, key_id: str, peer: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int
) -> None:
    """With text of the attacker's on both sides of the address, the peer is reported or nobody."""
    detail = f"RSA-CERT SHA256:abc ID {key_id} (serial 1) CA RSA SHA256:def"
    event = read(f"Nov 22 10:00:01 host sshd[77]: Failed publickey for {user} from {peer} port {port} ssh2: {detail}")
    if event is not None:
        assert (event.fields["sourceIp"], event.fields["port"]) == (normal(peer), port)


@settings(max_examples=examples(300))
@given(st.sampled_from(["app: ", "app[1]: ", "kernel: ", "CRON[9]: "]), st.sampled_from(HEADERS), names)
def test_line_of_another_program_is_never_sshds(program: str, header: str, text: str) -> None:
    """Whatever another program logs, be it a line with sshd's header, is no event of sshd."""
    message = f"{header}Failed password for root from 9.9.9.9 port 22 ssh2"
    assert read(f"Nov 22 10:00:01 {program}{text}{message}") is None
    assert read(f"2026-11-22T10:00:01Z host {program}{text}{message}") is None


@settings(max_examples=examples(500))
@given(st.text(st.characters(exclude_categories=["Cs"])), names)
def test_no_line_raises(prefix: str, text: str) -> None:
    """Any text is either an event or None."""
    read(prefix + text)
    for header in HEADERS:
        read(f"{header}{prefix}{text}")
