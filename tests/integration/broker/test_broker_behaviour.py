"""Behaviour of the hardened broker beyond the fixed defects."""

import asyncio
from collections.abc import Callable

import pytest
from amqtt.broker import Broker

from manager.broker.connection.connection_handler import ConnectionHandler
from manager.broker.hardened_broker import HardenedBroker
from tests.integration.broker.broker_clients import PahoClient, RawClient, packet, text
from tests.integration.broker.broker_threads import BrokerThread

Connect = Callable[..., PahoClient]
Raw = Callable[[], RawClient]


def test_each_publisher_s_messages_arrive_in_its_order(connect: Connect) -> None:
    """Two publishers at once: the messages of each arrive complete and in its own order."""
    consumer = connect("consumer")
    consumer.subscribe("open/#")
    publishers = [connect("left"), connect("right")]
    for number in range(500):
        for publisher in publishers:
            publisher.paho.publish(f"open/{publisher.name}", str(number), 1)
    arrived = [consumer.next() for _ in range(1000)]
    for name in ("left", "right"):
        assert [int(m.payload) for m in arrived if m.topic == f"open/{name}"] == list(range(500))


def test_a_denied_publication_changes_nothing(connect: Connect) -> None:
    """A publication that is not allowed is delivered to no client and not retained; the client stays connected."""
    owner = connect("owner", username="owner")
    owner.subscribe("#")
    guest = connect("guest")
    guest.publish("closed/a/kept", "forged", retain=True)
    guest.publish("open/marker", "end")
    assert owner.until("end") == []
    late = connect("late", username="owner")
    late.subscribe("closed/#")
    owner.publish("open/marker", "end")
    late.subscribe("open/marker")
    owner.publish("open/marker", "end")
    assert late.until("end") == []


def test_a_message_that_a_subscriber_may_not_receive_passes_it_by(connect: Connect) -> None:
    """A wildcard subscription brings only those live messages that the client may receive."""
    guest = connect("guest")
    guest.subscribe("#")
    owner = connect("owner", username="owner")
    owner.publish("closed/a", "secret")
    owner.publish("open/marker", "end")
    assert guest.until("end") == []


def test_quality_0_does_not_wait_for_an_absent_client(broker: BrokerThread, connect: Connect) -> None:
    """A message published with QoS 0 while a client was away is not delivered later."""
    absent = connect("absent", clean=False)
    absent.subscribe("open/a")
    absent.close()
    broker.await_end_of("absent")
    publisher = connect("publisher")
    publisher.publish("open/a", "stale", qos=0)
    publisher.publish("open/a", "end", qos=1)
    assert connect("absent", clean=False).until("end") == []


def test_a_denied_subscription_is_refused_and_brings_nothing(connect: Connect) -> None:
    """A filter that the access control refuses is answered with 0x80."""
    assert connect("guest").subscribe("closed/a") == 0x80


def test_an_empty_retained_message_clears_its_topic(connect: Connect) -> None:
    """After an empty retained message a new subscriber gets nothing retained."""
    publisher = connect("publisher")
    publisher.publish("open/a/kept", "news", retain=True)
    publisher.publish("open/a/kept", "", retain=True)
    consumer = connect("consumer")
    consumer.subscribe("open/#")
    publisher.publish("open/marker", "end")
    assert consumer.until("end") == []


def test_a_polite_client_leaves_no_will(broker: BrokerThread, connect: Connect, raw: Raw) -> None:
    """DISCONNECT discards the will; a lost connection publishes it, retained where that counts."""
    observer = connect("observer")
    observer.subscribe("open/#")
    polite, rude = raw(), raw()
    polite.connect("polite", will=("open/will/kept", "polite"), will_retain=True)
    polite.send(packet(0xE0, b""))
    broker.await_end_of("polite")
    rude.connect("rude", will=("open/will/kept", "rude"), will_retain=True)
    rude.socket.close()
    assert observer.texts(1) == ["rude"]
    late = connect("late")
    late.subscribe("open/will/+")
    assert late.texts(1) == ["rude"]


def test_a_takeover_publishes_the_old_will_first(connect: Connect, raw: Raw) -> None:
    """The will of the connection that was taken over never follows what the new connection says."""
    observer = connect("observer")
    observer.subscribe("open/#")
    old, new = raw(), raw()
    old.connect("twice", will=("open/presence/kept", "lost"))
    new.connect("twice")
    new.publish("open/presence/kept", b"online")
    assert observer.texts(2) == ["lost", "online"]


def test_quality_2_publications_are_taken_exactly_once(connect: Connect, raw: Raw) -> None:
    """A QoS 2 message sent again before its release is delivered once; subscribers get it with QoS 1."""
    consumer = connect("consumer")
    assert consumer.subscribe("open/#", 2) == 1
    client = raw()
    client.connect("twice")
    body = text("open/a") + b"\x00\x07" + b"once"
    for head in (0x34, 0x3C):
        client.send(packet(head, body))
        assert client.receive(4) == b"\x50\x02\x00\x07"
    client.send(packet(0x62, b"\x00\x07"))
    assert client.receive(4) == b"\x70\x02\x00\x07"
    client.publish("open/marker", b"end")
    assert [(m.payload, m.qos) for m in consumer.until("end")] == [(b"once", 1)]


def test_an_unsubscribed_client_receives_no_more(connect: Connect) -> None:
    """UNSUBSCRIBE ends the delivery of that filter and leaves the others."""
    consumer = connect("consumer")
    consumer.subscribe("open/#")
    consumer.subscribe("open/marker")
    consumer.unsubscribe("open/#")
    publisher = connect("publisher")
    publisher.publish("open/a", "no more")
    publisher.publish("open/marker", "end")
    assert consumer.until("end") == []


def test_a_clean_session_forgets_what_was_stored(connect: Connect) -> None:
    """A clean CONNECT drops the stored session of that client id, its filters and its queue."""
    connect("client", clean=False).subscribe("open/#")
    connect("client").close()
    connect("publisher").publish("open/a", "missed")
    again = connect("client", clean=False)
    assert not again.session_present
    again.subscribe("open/marker")
    again.publish("open/marker", "end")
    assert again.until("end") == []


@pytest.mark.limits(offline_sessions_per_user=2)
def test_stored_sessions_of_one_user_are_bounded(connect: Connect) -> None:
    """The session that has been away longest makes room for the newest."""
    for number in range(3):
        connect(f"client-{number}", clean=False).close()
    assert connect("client-2", clean=False).session_present
    assert not connect("client-0", clean=False).session_present


def test_a_stored_session_needs_a_name(raw: Raw) -> None:
    """An empty client id is served with a clean session, and refused with return code 2 without."""
    assert raw().connect("", clean=True) == 0
    assert raw().connect("", clean=False) == 2


GARBAGE = [
    b"",
    b"\x00" * 64,
    b"GET / HTTP/1.1\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"\x10\xff\xff\xff\xff\xff",
    b"\x10\x02\x00\x04",
    packet(0x10, text("MQTT") + b"\x04\xc2\x00\x3c"),
    packet(0x10, text("MQTT") + b"\x04\x02\x00\x3c" + text(b"\xff\xfe")),
    packet(0x10, text("MQTT") + b"\x04\x3e\x00\x3c" + text("x")),
    packet(0x10, text("MQIsdp") + b"\x03\x02\x00\x3c" + text("x")),
]

BROKEN = [
    b"\x00\x00",
    b"\xf0\x00",
    packet(0x10, text("MQTT") + b"\x04\x02\x00\x3c" + text("again")),
    packet(0x30, b"\x00"),
    packet(0x30, text("open/+")),
    packet(0x30, text(b"\xff\xfe")),
    packet(0x30, text("/" * 200)),
    packet(0x36, text("open/a") + b"\x00\x01"),
    packet(0x32, text("open/a") + b"\x00\x00"),
    packet(0x40, b"\x01"),
    packet(0x82, b"\x00\x01"),
    packet(0x80, b"\x00\x01" + text("open/a") + b"\x00"),
    packet(0x82, b"\x00\x01" + text("open/a") + b"\x03"),
    packet(0xA2, b"\x00\x01"),
]


def test_garbage_neither_harms_the_broker_nor_stays_connected(connect: Connect, raw: Raw) -> None:
    """Connections that speak no MQTT are ended, and served clients do not notice."""
    consumer = connect("consumer")
    consumer.subscribe("open/a")
    clients = [raw() for _ in GARBAGE]
    for client, garbage in zip(clients, GARBAGE, strict=True):
        client.send(garbage)
    for client, garbage in zip(clients, GARBAGE, strict=True):
        if garbage:
            assert client.is_closed_by_peer(), garbage
    consumer.publish("open/a", "well")
    assert consumer.texts(1) == ["well"]


@pytest.mark.parametrize("data", BROKEN, ids=[data[:12].hex() for data in BROKEN])
def test_a_client_that_breaks_the_protocol_is_cut(raw: Raw, data: bytes) -> None:
    """A malformed or unexpected packet ends the sender's connection."""
    client = raw()
    assert client.connect("breaker") == 0
    client.send(data)
    assert client.is_closed_by_peer()


def test_random_bytes_after_a_connect_harm_nobody_else(connect: Connect, raw: Raw) -> None:
    """After random bytes from 50 authenticated clients the broker still serves others."""
    consumer = connect("consumer")
    consumer.subscribe("open/a")
    for number in range(50):
        client = raw()
        client.connect(f"random-{number}")
        client.send(bytes((number * 37 + 11 * step * step) % 256 for step in range(200)))
        client.socket.close()
    consumer.publish("open/a", "well")
    assert consumer.texts(1) == ["well"]


@pytest.mark.limits(packet_bytes=100_000, queue_bytes=400_000)
def test_a_client_that_does_not_read_costs_no_more_than_its_queue(
    broker: BrokerThread,
    connect: Connect,
    raw: Raw,
) -> None:
    """QoS 0 for a connected client that reads nothing is bounded in bytes, and others get theirs."""
    deaf = raw()
    deaf.connect("deaf")
    deaf.send(packet(0x82, b"\x00\x01" + text("open/flood") + b"\x00"))
    consumer, publisher = connect("consumer"), connect("publisher")
    consumer.subscribe("open/marker")
    for _ in range(300):
        publisher.paho.publish("open/flood", b"x" * 90_000, 0)
    publisher.publish("open/marker", "end")
    assert consumer.texts(1) == ["end"]

    async def waiting(hardened: Broker) -> tuple[int, int]:
        session = hardened.session("deaf") if isinstance(hardened, HardenedBroker) else None
        assert session is not None
        return session.queue.size_bytes, session.queue.dropped

    size, dropped = broker.call(waiting)
    assert 0 < size <= 400_000
    assert dropped > 0


def test_a_takeover_loses_nothing_that_the_old_connection_did_not_acknowledge(
    connect: Connect,
    raw: Raw,
) -> None:
    """Messages sent or queued for the old connection reach the new one, complete and in order."""
    deaf = raw()
    deaf.connect("twice", clean=False)
    deaf.send(packet(0x82, b"\x00\x01" + text("open/a") + b"\x01"))
    deaf.receive(5)
    publisher = connect("publisher")
    for number in range(60):
        publisher.paho.publish("open/a", f"{number:04}" + "x" * 200_000, 1)
    publisher.publish("open/b", "the last is queued", 1)
    awake = connect("twice", clean=False)
    assert [int(awake.next().payload[:4]) for _ in range(60)] == list(range(60))
    assert deaf.is_closed_by_peer()


def test_a_broker_that_stood_still_blames_no_client(broker: BrokerThread, raw: Raw) -> None:
    """A keep-alive that is looked at late starts anew; one that is looked at in time and has run out cuts."""
    client = raw()
    client.connect("quiet", keep_alive=60)

    async def look(hardened: Broker, *, late_by: float) -> bool:
        session = hardened.session("quiet") if isinstance(hardened, HardenedBroker) else None
        handler = session.connection if session is not None else None
        assert isinstance(handler, ConnectionHandler)
        now = asyncio.get_running_loop().time()
        handler._last_packet = now - 100
        handler._check_keep_alive(now - late_by)
        return session is not None and handler._closed

    assert not broker.call(lambda hardened: look(hardened, late_by=30))
    assert broker.call(lambda hardened: look(hardened, late_by=0))
    assert client.is_closed_by_peer()


def test_disconnecting_a_user_cuts_it_and_drops_its_session(broker: BrokerThread, connect: Connect, raw: Raw) -> None:
    """Every connection of the user ends without a will, its stored sessions are gone, and other users stay."""
    observer = connect("observer", username="owner")
    observer.subscribe("#")
    connect("stored", username="agent", clean=False).close()
    live = raw()
    live.connect("live", username="agent", will=("open/will", "lost"))
    assert broker.call(_cut) == 2
    assert live.is_closed_by_peer()
    assert not connect("stored", username="agent", clean=False).session_present
    observer.publish("open/marker", "end")
    assert observer.until("end") == []


async def _cut(broker: Broker) -> int:
    assert isinstance(broker, HardenedBroker)
    return broker.disconnect("agent")
