"""A block is real: the fence in a network namespace, with real TCP from another."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fence_process import FenceProcess
from tests.support.network import EchoService, Network, NetworkHost, exchanges
from tests.support.waiting import eventually

pytestmark = pytest.mark.namespaces

SERVER, SERVER6 = "203.0.113.1", "2001:db8::1"
ATTACKER, NEIGHBOUR, ATTACKER6 = "203.0.113.66", "203.0.113.67", "2001:db8::66"


class World:
    """A protected host with an echo service on port 22, and a host that connects to it from several addresses."""

    def __init__(self, network: Network, server: NetworkHost, client: NetworkHost, fence: FenceProcess) -> None:
        self.network = network
        self.server = server
        self.client = client
        self.fence = fence

    def reaches(self, source: str = ATTACKER, port: int = 22) -> bool:
        """Return whether the client is answered from a source address."""
        return self.client.reaches(SERVER6 if ":" in source else SERVER, port, source)

    def block(self, value: str, seconds: float = 60, **beside: object) -> dict[str, object]:
        """Block as the guard does, after a failure on port 22."""
        return self.fence.as_guard(request="block", value=value, seconds=seconds, port=22, **beside)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with Network() as network:
        server = network.host(f"{SERVER}/24", f"{SERVER6}/64")
        client = network.host(f"{ATTACKER}/24", f"{NEIGHBOUR}/24", f"{ATTACKER6}/64")
        with EchoService(server, 22), FenceProcess(server, tmp_path) as fence:
            yield World(network, server, client, fence)


def test_a_blocked_address_gets_nothing_through_and_its_neighbour_does(world: World) -> None:
    """Inbound, over IPv4 and IPv6, for the very addresses."""
    for address in (ATTACKER, NEIGHBOUR, ATTACKER6):
        assert world.reaches(address)
    assert world.block(ATTACKER)["outcome"] == "taken"
    assert world.block(ATTACKER6)["outcome"] == "taken"
    assert not world.reaches(ATTACKER)
    assert not world.reaches(ATTACKER6)
    assert world.reaches(NEIGHBOUR)
    assert world.fence.as_guard(request="lift", value=ATTACKER)["outcome"] == "lifted"
    assert world.reaches(ATTACKER)


def test_an_established_connection_is_cut(world: World) -> None:
    """What was open before the block carries nothing after it."""
    with world.client.connect(SERVER, 22, ATTACKER) as connection:
        assert exchanges(connection)
        assert world.block(ATTACKER)["outcome"] == "taken"
        assert not exchanges(connection)


def test_the_host_reaches_a_blocked_address_no_more(world: World) -> None:
    """Outbound: a reverse shell has nowhere to go."""
    with EchoService(world.client, 4444):
        assert world.reaches(ATTACKER)
        assert world.block(ATTACKER)["outcome"] == "taken"
        assert not world.server.reaches(ATTACKER, 4444)
        assert world.server.reaches(NEIGHBOUR, 4444)
        assert world.fence.as_guard(request="lift", value=ATTACKER)["outcome"] == "lifted"
        assert world.server.reaches(ATTACKER, 4444)


def test_an_address_that_never_spoke_to_the_port_is_refused(world: World) -> None:
    """The kernel is the second witness: a forged log line names whom it likes and blocks nobody."""
    answer = world.block("198.51.100.7")
    assert answer["outcome"] == "refused"
    assert "never spoke to port 22" in str(answer["reason"])
    assert world.fence.elements("block4") == []


def test_after_a_flush_of_all_tables_the_measures_are_back_within_a_second(world: World) -> None:
    """A reload of the distribution's own rules takes our table along."""
    assert world.reaches(ATTACKER)
    assert world.block(ATTACKER)["outcome"] == "taken"
    world.server.run("nft", "flush", "ruleset")
    eventually(lambda: not world.reaches(ATTACKER), what="the block is back")
    assert world.fence.ask(request="check")["measuresLost"] == 1


def test_a_block_outlives_its_fence_and_the_next_fence_knows_it(world: World) -> None:
    """Killed: the kernel's own timeouts hold. Started again: the manifest is set again with the time left."""
    assert world.reaches(ATTACKER)
    assert world.block(ATTACKER, 300)["outcome"] == "taken"
    world.fence.kill()
    assert not world.reaches(ATTACKER)
    world.server.run("nft", "flush", "ruleset")
    assert world.reaches(ATTACKER)
    world.fence.start()
    assert not world.reaches(ATTACKER)
    (entry,) = world.fence.ask(request="list")["entries"]
    assert 240 < entry["secondsLeft"] < 300


def test_the_undo_of_an_address_inside_a_blocked_network_leaves_the_network_blocked(world: World) -> None:
    """An auto-merging set would have swallowed the address, and given it free or kept it for good."""
    assert world.fence.ask(request="block", value=ATTACKER, seconds=60)["outcome"] == "taken"
    assert world.fence.ask(request="block", value="203.0.113.64/26", seconds=60)["outcome"] == "taken"
    assert world.fence.ask(request="lift", value=ATTACKER)["outcome"] == "lifted"
    assert not world.reaches(ATTACKER)
    assert world.fence.ask(request="lift", value="203.0.113.64/26")["outcome"] == "lifted"
    assert world.reaches(ATTACKER)


def test_panic_undoes_everything_and_stops_new_measures_until_resume(world: World) -> None:
    """Works without guard and manager."""
    assert world.reaches(ATTACKER)
    assert world.block(ATTACKER)["outcome"] == "taken"
    assert world.fence.ask(request="panic")["count"] == 1
    assert world.reaches(ATTACKER)
    assert world.block(ATTACKER)["outcome"] == "refused"
    assert world.fence.ask(request="resume")["ok"]
    assert world.block(ATTACKER)["outcome"] == "taken"


def test_throttle_slows_new_connections_and_leaves_established_ones(world: World) -> None:
    """At most four new connections at once from the address; its session lives on."""
    with world.client.connect(SERVER, 22, ATTACKER) as session:
        assert exchanges(session)
        answer = world.fence.as_guard(request="throttle", value=ATTACKER, seconds=60, port=22)
        assert answer["outcome"] == "taken"
        passed = sum(world.reaches(ATTACKER) for _ in range(8))
        assert passed == 4
        assert exchanges(session)
        assert world.reaches(NEIGHBOUR)


def test_a_throttled_network_shares_one_allowance(world: World) -> None:
    """Changing the address within the network gains nothing."""
    assert world.fence.ask(request="throttle", value="203.0.113.64/29", seconds=60)["outcome"] == "taken"
    passed = sum(world.reaches(source) for _ in range(4) for source in (ATTACKER, NEIGHBOUR))
    assert passed == 4


def test_rules_that_are_flushed_are_put_back(world: World) -> None:
    """The sets without the rules keep nobody out."""
    assert world.reaches(ATTACKER)
    assert world.block(ATTACKER)["outcome"] == "taken"
    world.server.run("nft", "flush", "table", "inet", "panguard")
    eventually(lambda: not world.reaches(ATTACKER), what="the block is back")


def test_a_block_ends_by_itself_at_its_time(world: World) -> None:
    """With the fence dead, too: the kernel counts."""
    assert world.reaches(ATTACKER)
    assert world.block(ATTACKER, 3)["outcome"] == "taken"
    world.fence.kill()
    assert not world.reaches(ATTACKER)
    eventually(lambda: world.reaches(ATTACKER), what="the end of the block")


def test_a_published_port_of_a_container_is_closed_too(world: World) -> None:
    """Traffic that is forwarded to a container never passes the input hook: it is dropped before."""
    network = world.network
    container = network.host("203.0.113.40/24")
    rules = """
    table ip nat {
      chain incoming { type nat hook prerouting priority -100; tcp dport 8080 dnat to 203.0.113.40:80; }
      chain outgoing { type nat hook postrouting priority 100; ip daddr 203.0.113.40 masquerade; }
    }
    """
    world.server.run("nft", "-f", "-", input_=rules)
    world.server.run("sysctl", "-q", "-w", "net.ipv4.ip_forward=1")
    with EchoService(container, 80):
        assert world.reaches(ATTACKER, 8080)
        assert world.reaches(ATTACKER)
        assert world.block(ATTACKER)["outcome"] == "taken"
        assert not world.reaches(ATTACKER, 8080)
        assert world.reaches(NEIGHBOUR, 8080)
    assert "dnat to 203.0.113.40" in world.server.run("nft", "list", "ruleset")


def test_what_the_host_sends_to_itself_is_left_alone(tmp_path: Path) -> None:
    """Also to an address that was blocked before it became one of the host's, until the next check lifts the block."""
    with Network() as network:
        server = network.host(f"{SERVER}/24")
        with EchoService(server, 22), FenceProcess(server, tmp_path, check_interval=3600.0) as fence:
            assert fence.ask(request="block", value=NEIGHBOUR, seconds=600)["outcome"] == "taken"
            server.run("ip", "address", "add", f"{NEIGHBOUR}/24", "dev", "lo")
            assert server.reaches(NEIGHBOUR, 22)
            assert len(fence.elements("block4")) == 1
