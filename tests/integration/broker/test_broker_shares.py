"""Shares of connections at the embedded broker: the public password and idle sockets keep no agent out."""

import ssl
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from manager.broker.embedded_broker import EmbeddedBroker
from tests.integration.broker.broker_clients import PahoClient, RawClient, packet, text
from tests.integration.broker.broker_threads import BrokerThread
from tests.integration.broker.test_broker_process import AGENT, certificate, configuration

Connect = Callable[..., PahoClient]
Raw = Callable[[], RawClient]
FEW = pytest.mark.limits(
    connect_seconds=60.0,
    connections=3,
    connections_per_user=2,
    pending_connections=4,
    registration_connections=3,
    registration_connections_per_network=3,
)


@FEW
def test_idle_connections_keep_nobody_out(raw: Raw, connect: Connect) -> None:
    """Beyond the share of connections without a CONNECT the oldest is closed, and a client that connects is served."""
    idle = [raw() for _ in range(12)]
    connect("agent", username="ag-1").subscribe("open/a")
    for client in idle[:8]:
        assert client.is_closed_by_peer()


@FEW
def test_registering_clients_have_a_share_of_their_own(raw: Raw) -> None:
    """With all of their places taken another one is refused, agents are served, and a place comes free again."""
    guests = [raw() for _ in range(3)]
    for number, guest in enumerate(guests):
        assert guest.connect(f"guest-{number}", username="visitor") == 0
    assert raw().connect("one too many", username="visitor") == 3
    for number in range(3):
        assert raw().connect(f"agent-{number}", username=f"ag-{number}") == 0
    assert raw().connect("agent-4", username="ag-4") == 3
    guests[0].send(b"\xe0\x00")
    assert guests[0].is_closed_by_peer()
    assert raw().connect("another", username="visitor") == 0


@FEW
def test_one_user_cannot_take_all_connections(raw: Raw) -> None:
    """A third connection of one user is refused, and another user's is not."""
    for number in range(2):
        assert raw().connect(f"one-{number}", username="ag-1") == 0
    assert raw().connect("one-2", username="ag-1") == 3
    assert raw().connect("other", username="ag-2") == 0


@pytest.mark.limits(registration_seconds=0.3)
def test_the_connection_of_a_registering_client_ends_by_itself(raw: Raw) -> None:
    """However lively it is, it is closed after its time; an agent's connection stays."""
    guest, agent = raw(), raw()
    agent.connect("agent", username="ag-1")
    guest.connect("guest", username="visitor", keep_alive=60)
    assert guest.is_closed_by_peer()
    agent.send(b"\xc0\x00")
    assert agent.receive(2) == b"\xd0\x00"


def test_a_registering_client_has_no_stored_session(connect: Connect, broker: BrokerThread) -> None:
    """It cannot have messages kept for it, whatever it asks for."""
    first = connect("guest", username="visitor", clean=False)
    first.subscribe("open/a")
    first.close()
    broker.await_end_of("guest")
    assert not broker.call(_is_kept)
    connect("publisher").publish("open/a", "missed")
    again = connect("guest", username="visitor", clean=False)
    assert not again.session_present
    again.subscribe("open/marker")
    again.publish("open/marker", "end")
    assert again.until("end") == []


@pytest.mark.limits(packet_bytes=50_000, registration_queue_bytes=100_000)
def test_a_registering_client_that_does_not_read_has_a_small_queue(
    broker: BrokerThread, connect: Connect, raw: Raw
) -> None:
    """Its queue ends at a bound of its own, far below an agent's."""
    deaf = raw()
    deaf.connect("deaf", username="visitor")
    deaf.send(packet(0x82, b"\x00\x01" + text("open/some") + b"\x01"))
    deaf.receive(5)
    publisher = connect("publisher")
    for _ in range(400):
        publisher.paho.publish("open/some", b"x" * 40_000, 1)
    publisher.publish("open/marker", "all of them are handed on")

    async def waiting(hardened: Any) -> tuple[int, int]:
        queue = hardened.session("deaf").queue
        return queue.size_bytes, queue.dropped

    size, dropped = broker.call(waiting)
    assert dropped > 0
    # messages in flight are never dropped: the socket and the transport have taken them
    in_flight = broker.call(_in_flight) * 40_100
    assert size <= max(100_000, in_flight)


async def _is_kept(hardened: Any) -> bool:
    return hardened.session("guest") is not None


async def _in_flight(hardened: Any) -> int:
    return int(hardened.session("deaf").queue.in_flight)


@pytest.mark.limits(registration_messages=10, registration_bytes=100_000_000, publish_burst=1.0)
def test_registering_clients_of_one_network_share_one_rate(connect: Connect) -> None:
    """A new connection under a new client id does not refill the budget; agents do not wait for it."""
    watcher = connect("watcher", username="ag-1")
    watcher.subscribe("flood/#", 1)
    watcher.subscribe("word", 1)
    for number in range(6):
        guest = connect(f"guest-{number}", username="visitor")
        for message in range(6):
            guest.paho.publish(f"flood/{number}/{message}", b"x", 1)
    watcher.publish("word", "y")
    before = [message.topic for message in watcher.until("y")]
    assert len(before) <= 20


def test_idle_connections_at_a_tls_port_count_before_their_handshake(tmp_path: Path) -> None:
    """Sockets that never begin a handshake are closed for later ones, and an agent is served by TLS."""
    chain, key = certificate(tmp_path)
    broker = EmbeddedBroker(
        configuration(certificate=str(chain), key=str(key), limits={"pending_connections": 5, "connect_seconds": 60})
    )
    broker.start()
    try:
        with ExitStack() as stack:
            idle = [stack.enter_context(RawClient(broker.port)) for _ in range(20)]
            agent = stack.enter_context(RawClient(broker.port))
            context = ssl.create_default_context(cafile=str(chain))
            agent.socket = context.wrap_socket(agent.socket, server_hostname="localhost")
            assert agent.connect(f"{AGENT}-1", username=AGENT) == 0
            for client in idle[:15]:
                assert client.is_closed_by_peer()
    finally:
        broker.stop()
