"""The kernel as second witness: whom this host really answered, and who only seems to have come."""

import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fence_process import FenceProcess
from tests.support.network import EchoService, Network, NetworkHost
from tests.support.spoofing import PSH_ACK, packet, send_spoofed

pytestmark = pytest.mark.namespaces

SERVER, ATTACKER, CUSTOMER = "203.0.113.1", "203.0.113.66", "203.0.113.67"
SPOOFED = 1000


@pytest.fixture
def hosts() -> Iterator[tuple[NetworkHost, NetworkHost]]:
    with Network() as network:
        server = network.host(f"{SERVER}/24", gateway="203.0.113.254")
        yield server, network.host(f"{ATTACKER}/24", f"{CUSTOMER}/24")


@pytest.fixture
def fence(hosts: tuple[NetworkHost, NetworkHost], tmp_path: Path) -> Iterator[FenceProcess]:
    server, _ = hosts
    with EchoService(server, 22), EchoService(server, 80), FenceProcess(server, tmp_path) as fence:
        yield fence


def _block(fence: FenceProcess, value: str, port: int | None = 22) -> tuple[str, str]:
    """Ask as the guard does; return outcome and reason."""
    beside = {} if port is None else {"port": port}
    answer = fence.ask(request="block", value=value, seconds=60, own=True, **beside)
    return str(answer["outcome"]), str(answer.get("reason", ""))


def test_spoofed_packets_make_no_witness(fence: FenceProcess, hosts: tuple[NetworkHost, NetworkHost]) -> None:
    """Of 1,000 addresses that SYN, ACK and PSH packets with payload named as their source none can be blocked."""
    sources = [f"198.51.{100 + number // 250}.{1 + number % 250}" for number in range(SPOOFED)]
    hosts[1].within(lambda: send_spoofed(sources, SERVER))
    assert hosts[1].reaches(SERVER, 22, ATTACKER)
    assert [element["elem"]["val"] for element in fence.elements("seen4_22")] == [ATTACKER]
    outcomes = {_block(fence, source) for source in sources[::40]}
    assert outcomes == {("refused", "this address never spoke to port 22 here; is a proxy in front?")}
    assert _block(fence, ATTACKER) == ("taken", "")
    assert len(fence.elements("block4")) == 1


def test_a_packet_from_no_address_of_this_host_makes_no_witness(
    fence: FenceProcess, hosts: tuple[NetworkHost, NetworkHost]
) -> None:
    """A container's or namespace's packet, which the host only passes on, shows no answer of the host."""
    server, client = hosts

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
            for source, target in (("203.0.113.9", ATTACKER), (SERVER, CUSTOMER)):
                raw.sendto(packet(source, target, 22, 40_000, PSH_ACK), (target, 0))

    assert client.reaches(SERVER, 80, ATTACKER)
    server.within(send)
    assert fence.ask(request="seen", value=CUSTOMER)["seen"] is True
    assert fence.ask(request="seen", value=ATTACKER)["seen"] is False


_SEND_FROM = """
import encodings.idna, os, socket, sys
os.setgroups([])
os.setgid(10_001)
os.setuid(10_001)
with socket.create_connection((sys.argv[1], 4444), 5, source_address=(sys.argv[2], 2222)) as connection:
    connection.sendall(b"x")
    connection.recv(1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1, 0, 0, 0, 0, 0, 0, 0]))
"""


def test_what_another_user_sends_from_sshds_port_makes_no_witness(
    hosts: tuple[NetworkHost, NetworkHost], tmp_path: Path
) -> None:
    """From a port above 1023 and an address on which sshd does not listen, every user can connect to anybody."""
    server, client = hosts
    with FenceProcess(server, tmp_path, protected_ports=[2222], ssh_ports=[2222]) as fence:
        with EchoService(client, 4444):
            server.run(sys.executable, "-I", "-S", "-c", _SEND_FROM, ATTACKER, SERVER)
        assert fence.ask(request="seen", value=ATTACKER)["seen"] is False
        with EchoService(server, 2222):
            assert client.reaches(SERVER, 2222, ATTACKER)
        assert fence.ask(request="seen", value=ATTACKER)["seen"] is True


def test_a_web_servers_customers_cannot_be_blocked_for_an_ssh_reason(
    fence: FenceProcess, hosts: tuple[NetworkHost, NetworkHost]
) -> None:
    """A guard that was taken over names whom it likes; who only spoke to port 80 has no witness on port 22."""
    assert hosts[1].reaches(SERVER, 80, CUSTOMER)
    assert _block(fence, CUSTOMER)[0] == "refused"
    assert hosts[1].reaches(SERVER, 22, ATTACKER)
    assert _block(fence, ATTACKER)[0] == "taken"
    assert hosts[1].reaches(SERVER, 80, CUSTOMER)


def test_the_witnesses_outlive_the_fence(fence: FenceProcess, hosts: tuple[NetworkHost, NetworkHost]) -> None:
    """A fence that was idle and is started by the fifth failure still knows who spoke before."""
    assert hosts[1].reaches(SERVER, 22, ATTACKER)
    fence.stop()
    fence.start()
    assert fence.as_guard(request="seen", value=ATTACKER)["seen"]
    assert not fence.as_guard(request="seen", value=CUSTOMER)["seen"]
    assert _block(fence, ATTACKER)[0] == "taken"
    fence.kill()
    fence.start()
    assert not hosts[1].reaches(SERVER, 22, ATTACKER)


def test_where_nothing_listens_nothing_is_claimed(hosts: tuple[NetworkHost, NetworkHost], tmp_path: Path) -> None:
    """A guard in a container of its own sees the host's log and not its traffic: it says `impossible`."""
    with FenceProcess(hosts[0], tmp_path) as fence:
        outcome, reason = _block(fence, ATTACKER)
    assert outcome == "impossible"
    assert "nothing listens on port 22 in this network namespace" in reason


@pytest.mark.parametrize("port", [22, None])
def test_whom_this_host_connected_to_is_throttled_and_not_blocked_by_own_decision(
    fence: FenceProcess, hosts: tuple[NetworkHost, NetworkHost], port: int | None
) -> None:
    """A database, a mirror, a mail relay; who only came is blocked, and an operator's block holds for all."""
    server, client = hosts
    assert client.reaches(SERVER, 22, ATTACKER)
    assert client.reaches(SERVER, 22, CUSTOMER)
    with EchoService(client, 5432):
        assert server.reaches(CUSTOMER, 5432)
    told = "this host itself connected to it within 24 h; it can be throttled"
    assert _block(fence, CUSTOMER, port) == ("refused", told)
    beside = {} if port is None else {"port": port}
    request = {"value": CUSTOMER, "seconds": 60, "own": True, **beside}
    assert fence.ask(request="block", **request)["instead"] == "throttle"
    assert fence.ask(request="throttle", **request)["outcome"] == "taken"
    assert _block(fence, ATTACKER, port) == ("taken", "")
    assert fence.ask(request="block", value=CUSTOMER, seconds=60)["outcome"] == "taken"


@pytest.mark.parametrize(("port", "counts"), [(123, True), (53, True), (514, False)])
def test_time_and_name_servers_that_this_host_asked_are_not_blocked_by_own_decision(
    fence: FenceProcess, hosts: tuple[NetworkHost, NetworkHost], port: int, counts: bool
) -> None:
    """By the packets that it sent, whatever its configuration says; UDP to other ports counts for nothing."""
    server, client = hosts
    assert client.reaches(SERVER, 22, ATTACKER)

    def ask() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as query:
            query.sendto(b"?", (ATTACKER, port))

    server.within(ask)
    assert _block(fence, ATTACKER)[0] == ("refused" if counts else "taken")


def test_a_fence_that_was_restarted_knows_whom_this_host_connected_to(
    fence: FenceProcess, hosts: tuple[NetworkHost, NetworkHost]
) -> None:
    """The record is the kernel's."""
    server, client = hosts
    assert client.reaches(SERVER, 22, ATTACKER)
    with EchoService(client, 5432):
        assert server.reaches(ATTACKER, 5432)
    fence.kill()
    fence.start()
    assert _block(fence, ATTACKER)[0] == "refused"
