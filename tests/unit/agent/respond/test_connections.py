"""The connections that a block cuts: counted in the kernel's tables, and `unknown` where they say nothing."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from agent.events import Verdict
from agent.respond.connections import FRESH_FOR, ConnectionCounts, with_connections
from schemas.threats import ResponseTaken

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
LISTENING = "   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1\n"
ATTACK = "   1: 0A00000A:0016 077100CB:9C40 01 00000000:00000000 00:00000000 00000000     0        0 2\n"
CUSTOMER = "   2: 0A00000A:01BB 077100CB:9C41 01 00000000:00000000 00:00000000 00000000     0        0 3\n"
CLOSING = "   3: 0A00000A:01BB 077100CB:9C42 06 00000000:00000000 00:00000000 00000000     0        0 4\n"
MAPPED = (
    "   0: 0000000000000000FFFF00000A00000A:01BB 0000000000000000FFFF0000077100CB:9C43 01 "
    "00000000:00000000 00:00000000 00000000     0        0 5\n"
)
IN_PREFIX = (
    "   1: B80D0120000000000000000001000000:01BB B80D0120000000000000000002000000:9C44 01 "
    "00000000:00000000 00:00000000 00000000     0        0 6\n"
)
ADDRESS = "203.0.113.7"


class Tables:
    """Socket tables as the kernel writes them, and a clock."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.now = 0.0
        self.counts = ConnectionCounts(lambda: self.now, directory)

    def write(self, tcp: str, tcp6: str | None = None) -> None:
        (self._directory / "tcp").write_text(HEAD + tcp)
        if tcp6 is not None:
            (self._directory / "tcp6").write_text(HEAD + tcp6)


@pytest.fixture
def tables(tmp_path: Path) -> Tables:
    return Tables(tmp_path)


def test_connections_to_other_services_are_counted(tables: Tables) -> None:
    """The attack's own connections and those that are closing do not count; IPv4-mapped ones do."""
    tables.write(LISTENING + ATTACK + CUSTOMER + CLOSING, MAPPED + IN_PREFIX)
    assert tables.counts.elsewhere(ADDRESS, [22]) == 2
    assert tables.counts.elsewhere("203.0.113.8", [22]) == 0
    assert tables.counts.elsewhere("2001:db8::/64", [22]) == 1


@pytest.mark.parametrize("tcp", ["", LISTENING.replace(":0016", ":08AE"), LISTENING + "1: XYZ:0016 1:2 01 0\n"])
def test_what_the_tables_do_not_say_is_unknown(tables: Tables, tcp: str) -> None:
    """Where nothing listens on the attacked port, or a line cannot be read, nothing is stated."""
    tables.write(tcp)
    assert tables.counts.elsewhere(ADDRESS, [22]) is None


def test_a_host_without_tables_knows_nothing(tables: Tables) -> None:
    """No table is no zero."""
    assert tables.counts.elsewhere(ADDRESS, [22]) is None


def test_the_tables_are_read_again_after_a_while(tables: Tables) -> None:
    """A botnet's many blocks do not read a busy server's tables each."""
    tables.write(LISTENING)
    assert tables.counts.elsewhere(ADDRESS, [22]) == 0
    tables.write(LISTENING + CUSTOMER)
    assert tables.counts.elsewhere(ADDRESS, [22]) == 0
    tables.now += FRESH_FOR
    assert tables.counts.elsewhere(ADDRESS, [22]) == 1


@pytest.fixture
def connected() -> Iterator[tuple[int, int]]:
    """Two listening sockets of this host, each with one connection; yields their ports."""
    with ExitStack() as stack:
        ports = []
        for _ in range(2):
            listener = stack.enter_context(closing(socket.create_server(("127.0.0.1", 0))))
            stack.enter_context(closing(socket.create_connection(listener.getsockname())))
            stack.enter_context(closing(listener.accept()[0]))
            ports.append(listener.getsockname()[1])
        yield ports[0], ports[1]


def test_the_tables_of_this_kernel_are_read(connected: tuple[int, int]) -> None:
    """With real sockets the connection to the other port is counted, and more of them where no port is excluded."""
    one, other = connected
    counts = ConnectionCounts(lambda: 0.0)
    both, without = counts.elsewhere("127.0.0.1", [one]), counts.elsewhere("127.0.0.1", [one, other])
    assert both is not None
    assert without is not None
    assert both - without == 1


@pytest.mark.parametrize(
    ("action", "past", "stated"), [("block_ip", False, 1), ("block_ip", True, None), ("throttle_ip", False, None)]
)
def test_only_a_block_of_now_states_connections(tables: Tables, action: str, past: bool, stated: int | None) -> None:
    """A throttle leaves connections alone, and those of a past threat are not known any more."""
    tables.write(LISTENING + CUSTOMER)
    response = ResponseTaken(action=action, target=ADDRESS, outcome="would_be_taken")
    respond = with_connections(lambda _threat, _past: response, tables.counts, tuple)
    found = respond(_threat(), past)
    assert found is not None
    assert found.connections == stated


def _threat() -> Verdict:
    return Verdict(
        type="brute_force",
        technique="T1110",
        severity="high",
        confidence=90,
        rule_id="sshd-brute-force",
        count=5,
        first_seen=0,
        last_seen=1,
        detected_at=1,
        evidence={"sourceIp": ADDRESS},
        target="sourceIp",
        vouched=frozenset({"sourceIp"}),
    )
