"""Each defect of stock amqtt 0.12.1 that the hardened broker mends, shown on both.

The stock variants are strict expected failures: should a test pass on stock amqtt, it proves nothing.
"""

import asyncio
import sys
from collections.abc import Callable

import pytest
from amqtt.session import Session

from tests.integration.broker.broker_clients import PahoClient, RawClient, packet, text
from tests.integration.broker.broker_rules import PASSWORD
from tests.integration.broker.broker_threads import BrokerThread

Connect = Callable[..., PahoClient]
Raw = Callable[[], RawClient]

STOCK_FAILS = pytest.mark.xfail(strict=True, raises=(AssertionError, pytest.fail.Exception))
"""The stock broker breaks the claim, or hangs over it until the test's time is up."""

on_both = pytest.mark.parametrize(
    "broker",
    ["hardened", pytest.param("stock", marks=[STOCK_FAILS, pytest.mark.timeout(25)])],
    indirect=True,
)


@on_both
def test_a_client_receives_no_retained_message_that_it_did_not_subscribe_to(connect: Connect) -> None:
    """Other clients' subscriptions bring a new client none of their retained messages."""
    owner = connect("owner", username="owner")
    owner.subscribe("closed/#")
    owner.publish("closed/a/kept", "secret", retain=True)
    guest = connect("guest")
    guest.subscribe("open/marker")
    guest.publish("open/marker", "end")
    assert guest.until("end") == []


@on_both
def test_retained_messages_pass_the_access_control(connect: Connect) -> None:
    """A wildcard subscription brings only those retained messages that the client may receive."""
    owner = connect("owner", username="owner")
    owner.publish("closed/a/kept", "secret", retain=True)
    owner.publish("open/a/kept", "news", retain=True)
    guest = connect("guest")
    guest.subscribe("#")
    guest.publish("open/marker", "end")
    assert [message.payload for message in guest.until("end")] == [b"news"]


@on_both
def test_a_wrong_password_leaves_the_owner_of_the_client_id_alone(connect: Connect, raw: Raw) -> None:
    """A CONNECT that is refused ends nothing of the session whose client id it carried."""
    victim = connect("victim")
    victim.subscribe("open/a")
    assert raw().connect("victim", password="wrong") != 0
    connect("publisher").publish("open/a", "still here")
    assert victim.texts(1) == ["still here"]


@on_both
def test_a_client_id_belongs_to_the_user_who_opened_the_session(connect: Connect, raw: Raw) -> None:
    """Another user, rightly authenticated, is refused under a client id that is in use."""
    victim = connect("victim", username="owner", clean=False)
    assert raw().connect("victim", username="guest") != 0
    victim.subscribe("open/a")
    connect("publisher").publish("open/a", "still here")
    assert victim.texts(1) == ["still here"]


@on_both
def test_unacknowledged_messages_come_again_in_order_after_a_reconnect(broker: BrokerThread, connect: Connect) -> None:
    """QoS 1 that was delivered and not acknowledged is delivered again, marked as a duplicate."""
    first = connect("consumer", clean=False, manual_ack=True)
    first.subscribe("open/a")
    publisher = connect("publisher")
    for number in range(3):
        publisher.publish("open/a", str(number))
    assert first.texts(3) == ["0", "1", "2"]
    first.close()
    broker.await_end_of("consumer")
    publisher.publish("open/a", "3")
    second = connect("consumer", clean=False, manual_ack=True)
    again = [second.next() for _ in range(4)]
    assert [(message.payload, message.dup) for message in again] == [(b"0", 1), (b"1", 1), (b"2", 1), (b"3", 0)]


@on_both
@pytest.mark.limits(in_flight=10)
def test_no_more_than_the_window_is_in_flight(connect: Connect) -> None:
    """A consumer that acknowledges nothing gets one window of QoS 1; acknowledging brings the rest, in order."""
    consumer = connect("consumer", manual_ack=True)
    consumer.subscribe("open/#")
    publisher = connect("publisher")
    for number in range(25):
        publisher.publish("open/a", str(number))
    publisher.publish("open/marker", "end", qos=0)
    seen = consumer.until("end")
    assert len(seen) == 10
    while len(seen) < 25:
        consumer.paho.ack(seen[-10].mid, 1)
        seen.append(consumer.next())
    assert [message.payload.decode() for message in seen] == [str(number) for number in range(25)]


@on_both
def test_a_silent_client_is_taken_for_lost_after_its_keep_alive(connect: Connect, raw: Raw) -> None:
    """A client that sends nothing for 1.5 keep-alives is cut, and its will is published."""
    observer = connect("observer")
    observer.subscribe("open/will")
    frozen = raw()
    frozen.connect("frozen", keep_alive=1, will=("open/will", "lost"))
    assert observer.texts(1) == ["lost"]
    assert frozen.is_closed_by_peer()


@on_both
def test_a_takeover_closes_the_old_connection(raw: Raw) -> None:
    """The connection whose session is taken over is closed, not left open and deaf."""
    old = raw()
    old.connect("twice")
    assert raw().connect("twice") == 0
    assert old.is_closed_by_peer()


async def _calls_to_deliver(publisher: PahoClient, consumer: PahoClient) -> int:
    """Return how many functions the broker's thread calls while it takes a message and hands it on."""
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        await asyncio.to_thread(publisher.publish, "open/a", "now")
        await asyncio.to_thread(consumer.next)
    finally:
        sys.setprofile(None)
    return calls


@on_both
def test_subscriptions_that_do_not_match_cost_nothing(broker: BrokerThread, connect: Connect) -> None:
    """A message takes as many function calls beside 2,000 subscriptions that do not match as beside none."""
    consumer, publisher = connect("consumer"), connect("publisher")
    consumer.subscribe("open/a")
    alone = broker.call(lambda _: _calls_to_deliver(publisher, consumer))
    for number in range(20):
        consumer.subscribe_to_all([f"open/idle/{number}/{n}" for n in range(100)])
    consumer.unsubscribe("open/a")
    consumer.subscribe("open/a")
    crowded = broker.call(lambda _: _calls_to_deliver(publisher, consumer))
    assert crowded - alone < 1000


@on_both
def test_a_subscription_does_not_write_out_all_others(
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A SUBSCRIBE makes no text of the sessions that are subscribed already."""
    described: list[Session] = []
    connect("first").subscribe("open/#")
    monkeypatch.setattr(Session, "__repr__", lambda session: described.append(session) or "session")
    second = connect("second")
    second.subscribe("open/a")
    second.subscribe("open/b")
    assert described == []


@on_both
@pytest.mark.limits(connections=2)
def test_a_connection_too_many_is_refused(raw: Raw) -> None:
    """Beyond the limit a client is refused; one that ends makes room again."""
    first, second = raw(), raw()
    first.connect("first")
    second.connect("second")
    refused = raw()
    refused.send(packet(0x10, text("MQTT") + b"\x04\xc2\x00\x3c" + text("x") + text("guest") + text(PASSWORD)))
    assert refused.is_closed_by_peer()
    first.send(packet(0xE0, b""))
    assert first.is_closed_by_peer()
    assert raw().connect("third") == 0


@on_both
@pytest.mark.limits(connect_seconds=0.3)
def test_a_connection_without_a_connect_is_closed(raw: Raw) -> None:
    """A connection without a CONNECT, or with half of one, is closed after the time limit."""
    silent, half = raw(), raw()
    half.send(b"\x10\x7f\x00\x04MQ")
    assert silent.is_closed_by_peer()
    assert half.is_closed_by_peer()


@on_both
@pytest.mark.limits(packet_bytes=10_000)
def test_a_packet_beyond_the_limit_cuts_the_client(raw: Raw) -> None:
    """A length beyond the limit ends the connection before any of the body is taken."""
    client = raw()
    client.connect("greedy")
    client.send(b"\x30\xff\xff\xff\x7f")
    assert client.is_closed_by_peer()


@on_both
@pytest.mark.limits(packet_bytes=2_000, queue_bytes=10_000)
def test_what_waits_for_an_absent_client_is_bounded_in_bytes(broker: BrokerThread, connect: Connect) -> None:
    """The queue of a client that is away keeps the newest messages that fit, in order."""
    absent = connect("absent", clean=False)
    absent.subscribe("open/a")
    absent.close()
    broker.await_end_of("absent")
    publisher = connect("publisher")
    for number in range(30):
        publisher.publish("open/a", f"{number:04}" + "x" * 996)
    publisher.publish("open/a", "end")
    back = connect("absent", clean=False)
    numbers = [int(message.payload[:4]) for message in back.until("end")]
    assert numbers == list(range(30 - len(numbers), 30))
    assert 5 <= len(numbers) <= 10


@on_both
def test_the_retain_flag_counts_only_on_retained_topics(connect: Connect) -> None:
    """A retain flag elsewhere is stripped: subscribers at the time get the message, later ones do not."""
    early = connect("early")
    early.subscribe("open/a")
    publisher = connect("publisher")
    publisher.publish("open/a", "litter", retain=True)
    publisher.publish("open/a/kept", "news", retain=True)
    late = connect("late")
    late.subscribe("open/#")
    publisher.publish("open/marker", "end")
    assert early.texts(1) == ["litter"]
    assert [(message.payload, message.retain) for message in late.until("end")] == [(b"news", 1)]


@on_both
def test_a_will_on_a_denied_topic_is_not_published(broker: BrokerThread, connect: Connect, raw: Raw) -> None:
    """The last will passes the same access control as a publication."""
    owner = connect("owner", username="owner")
    owner.subscribe("#")
    guest = raw()
    guest.connect("guest", will=("closed/a/kept", "forged"), will_retain=True)
    guest.socket.close()
    broker.await_end_of("guest")
    owner.publish("open/marker", "end")
    assert owner.until("end") == []


@on_both
def test_a_message_is_delivered_with_the_lower_of_both_qualities(connect: Connect) -> None:
    """A QoS 0 publication arrives with QoS 0 on a QoS 1 subscription, and the other way round."""
    consumer = connect("consumer")
    consumer.subscribe("open/a", 1)
    consumer.subscribe("open/b", 0)
    publisher = connect("publisher")
    publisher.publish("open/a", "once", qos=0)
    assert consumer.next().qos == 0
    publisher.publish("open/b", "once", qos=1)
    assert consumer.next().qos == 0


@on_both
def test_queued_messages_do_not_look_retained(broker: BrokerThread, connect: Connect) -> None:
    """A message that waited for its client arrives without the retain flag."""
    absent = connect("absent", clean=False)
    absent.subscribe("open/a")
    absent.close()
    broker.await_end_of("absent")
    observer = connect("observer")
    observer.subscribe("open/a")
    connect("publisher").publish("open/a", "queued")
    assert observer.texts(1) == ["queued"]
    back = connect("absent", clean=False)
    assert back.session_present
    message = back.next()
    assert (message.payload, message.retain) == (b"queued", 0)


@on_both
def test_a_shared_subscription_is_refused(connect: Connect) -> None:
    """`$share` is refused instead of granted and never served."""
    assert connect("consumer").subscribe("$share/group/open/a") == 0x80


@on_both
def test_an_mqtt_5_client_is_told_that_it_is_not_served(raw: Raw) -> None:
    """A CONNECT of MQTT 5 is answered with reason code 0x84, unsupported protocol version, and closed."""
    client = raw()
    client.send(packet(0x10, text("MQTT") + b"\x05\x02\x00\x3c\x00" + text("five")))
    client.socket.settimeout(client.patience)
    try:
        answer = client.socket.recv(16)
    except TimeoutError:
        answer = b""
    assert answer == b"\x20\x03\x00\x84\x00"
    assert client.is_closed_by_peer()
