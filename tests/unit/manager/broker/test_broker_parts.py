"""The pure parts of the embedded broker against plain models of what they should do."""

import asyncio
from collections.abc import Iterable

import pytest
from amqtt.adapters import BufferReader
from amqtt.mqtt.publish import PublishPacket
from hypothesis import given
from hypothesis import strategies as st

from manager.broker import errors
from manager.broker.connection.packet_reader import PacketError, read_packet, read_publish
from manager.broker.delivery.delivery_queue import DeliveryQueue
from manager.broker.delivery.message import Message
from manager.broker.delivery.retained_messages import RetainedMessages
from manager.broker.delivery.subscription_index import SubscriptionIndex, is_filter, is_topic
from manager.broker.errors import WrongAmqttVersionError
from manager.broker.limits import BrokerLimits
from manager.mqtt_packets import publish_packet, remaining_length

words = st.sampled_from(["a", "b", ""])
topics = st.lists(words, min_size=1, max_size=4).map("/".join).filter(is_topic)
filters = (
    st.tuples(st.lists(st.sampled_from(["a", "b", "", "+"]), max_size=4), st.sampled_from([[], ["#"]]))
    .map(lambda parts: "/".join([*parts[0], *parts[1]]))
    .filter(is_filter)
)
clients = st.sampled_from(["one", "two", "three"])


def matches(topic_filter: str, topic: str) -> bool:
    """MQTT 3.1.1, 4.7, word by word."""
    wanted, levels = topic_filter.split("/"), topic.split("/")
    if wanted[-1] == "#":
        wanted = wanted[:-1]
        levels = levels[: len(wanted)]
    return len(wanted) == len(levels) and all(w in ("+", level) for w, level in zip(wanted, levels, strict=True))


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("add"), clients, filters, st.integers(0, 1)),
            st.tuples(st.just("remove"), clients, filters, st.just(0)),
            st.tuples(st.just("forget"), clients, st.just(""), st.just(0)),
        ),
    ),
    st.lists(topics),
)
def test_a_topic_reaches_exactly_the_subscribers_whose_filters_match(
    changes: list[tuple[str, str, str, int]],
    published: list[str],
) -> None:
    """After any changes the index finds the subscribers that a scan of all filters finds, with the highest QoS."""
    index, granted = SubscriptionIndex(), dict[tuple[str, str], int]()
    for change, client, topic_filter, qos in changes:
        if change == "add":
            index.add(client, topic_filter, qos)
            granted[client, topic_filter] = qos
        elif change == "remove":
            index.remove(client, topic_filter)
            granted.pop((client, topic_filter), None)
        else:
            index.remove_client(client)
            granted = {key: value for key, value in granted.items() if key[0] != client}
    for topic in published:
        expected: dict[str, int] = {}
        for (client, topic_filter), qos in granted.items():
            if matches(topic_filter, topic):
                expected[client] = max(qos, expected.get(client, 0))
        assert index.match(topic) == expected


@given(st.lists(st.tuples(topics, st.sampled_from([b"", b"x", b"y"]))), st.lists(filters))
def test_a_subscription_finds_exactly_the_retained_messages_that_match(
    kept: list[tuple[str, bytes]],
    subscribed: list[str],
) -> None:
    """The newest message of each topic is found by every filter that matches it; an empty one clears."""
    retained, expected = RetainedMessages(), dict[str, bytes]()
    for topic, payload in kept:
        retained.keep(Message(topic, payload, 1))
        expected.pop(topic, None)
        if payload:
            expected[topic] = payload
    assert len(retained) == len(expected)
    for topic_filter in subscribed:
        found = retained.matching(topic_filter)
        assert sorted((m.topic, m.payload) for m in found) == sorted(
            item for item in expected.items() if matches(topic_filter, item[0])
        )


def sent(queue: DeliveryQueue) -> Iterable[tuple[int, int, bool]]:
    """Yield packet id, number and duplicate flag of what the queue sends now."""
    reader = BufferReader(queue.take(1_000_000))
    while head := asyncio.run(reader.read(1)):
        size = asyncio.run(reader.read(1))[0]
        publication = read_publish(head[0] & 15, asyncio.run(reader.read(size)))
        yield publication.packet_id, int(publication.message.payload), bool(head[0] & 8)


LIMITS = BrokerLimits(packet_bytes=100, queue_bytes=1000, in_flight=3)


@given(st.lists(st.sampled_from(["put 0", "put 1", "send", "ack", "reconnect"]), max_size=40))
def test_an_queue_keeps_its_bounds_and_its_order_whatever_happens(steps: list[str]) -> None:
    """First deliveries of a quality never go back in order, the window and the bytes hold, and none is lost unseen."""
    queue, number, acknowledged = DeliveryQueue(LIMITS), 0, set[int]()
    in_flight: dict[int, int] = {}
    newest = {0: 0, 1: 0}
    delivered = {0: set[int](), 1: set[int]()}
    forgotten = 0
    for step in [*steps, "reconnect", *["send", "ack", "ack", "ack"] * 10, "send"]:
        if step.startswith("put"):
            number += 1
            queue.put(Message("t", b"%d" % number, 1), int(step[-1]))
        elif step == "send":
            for packet_id, found, duplicate in list(sent(queue)):
                quality = 1 if packet_id else 0
                if not duplicate:
                    assert found > newest[quality]
                    newest[quality] = found
                if packet_id:
                    assert in_flight.setdefault(packet_id, found) == found
                delivered[quality].add(found)
        elif step == "ack" and in_flight:
            packet_id = next(iter(in_flight))
            acknowledged.add(in_flight.pop(packet_id))
            queue.acknowledge(packet_id)
        elif step == "reconnect":
            before = len(queue)
            queue.rewind()
            forgotten += before - len(queue)
        assert len(in_flight) == queue.in_flight <= LIMITS.in_flight
        assert queue.size_bytes <= LIMITS.queue_bytes
    assert delivered[1] == acknowledged
    assert len(delivered[0]) + len(delivered[1]) + queue.dropped + forgotten == number
    assert queue.size_bytes == len(queue) == 0


def test_what_is_unacknowledged_is_sent_first_again_and_only_once_a_connection() -> None:
    """After a reconnect the old messages come in their old order, before newer ones, and not twice."""
    queue = DeliveryQueue(LIMITS)
    for number in range(1, 4):
        queue.put(Message("t", b"%d" % number, 1), 1)
    first = list(sent(queue))
    queue.acknowledge(first[1][0])
    queue.rewind()
    queue.put(Message("t", b"4", 1), 1)
    assert [(number, again) for _, number, again in sent(queue)] == [(1, True), (3, True), (4, False)]
    assert list(sent(queue)) == []


def test_beyond_the_bound_quality_0_goes_before_quality_1() -> None:
    """The oldest QoS 0 makes room first, then the oldest QoS 1 that is not in flight."""
    queue = DeliveryQueue(BrokerLimits(queue_messages=3))
    for qos, payload in ((1, b"1"), (0, b"2"), (1, b"3"), (1, b"4"), (1, b"5")):
        queue.put(Message("t", payload, 1), qos)
    assert [number for _, number, _ in sent(queue)] == [3, 4, 5]
    assert queue.dropped == 2


def test_a_packet_id_in_flight_is_not_used_again() -> None:
    """With one message never acknowledged, 70,000 later ones pass its id over."""
    queue = DeliveryQueue(LIMITS)
    queue.put(Message("t", b"0", 1), 1)
    ((never, _, _),) = sent(queue)
    for number in range(1, 70_000):
        queue.put(Message("t", b"%d" % number, 1), 1)
        packet = queue.take(1_000)
        packet_id = int.from_bytes(packet[5:7], "big")
        assert packet_id not in (0, never)
        queue.acknowledge(packet_id)
    assert queue.in_flight == 1


@given(
    topics,
    st.binary(max_size=300),
    st.integers(1, 65_535) | st.none(),
    st.booleans(),
    st.booleans(),
)
def test_a_publish_packet_is_the_one_that_amqtt_makes(
    topic: str,
    payload: bytes,
    packet_id: int | None,
    retain: bool,
    duplicate: bool,
) -> None:
    """The own writer of the frequent packet agrees with amqtt's codec, and the own reader reads it back."""
    message = Message(topic, payload, 0 if packet_id is None else 1)
    written = publish_packet(topic, payload, packet_id or 0, retained=retain, duplicate=duplicate)
    theirs = PublishPacket.build(topic, payload, packet_id, duplicate, message.qos, retain)
    assert written == theirs.to_bytes()
    packet = asyncio.run(read_packet(BufferReader(written), 1000))
    assert read_publish(packet.flags, packet.body) == (message, packet_id or 0, retain)


@given(st.integers(0, 268_435_455))
def test_a_length_is_read_as_it_was_written(size: int) -> None:
    """Every length that MQTT knows makes the round trip, up to the refusal that names it."""
    with pytest.raises(PacketError, match=f"a packet of {size} bytes"):
        asyncio.run(read_packet(BufferReader(b"\x30" + remaining_length(size)), -1))


@given(st.binary(max_size=50), st.integers(0, 15))
def test_no_bytes_upset_the_reader_of_publications(body: bytes, flags: int) -> None:
    """Any body is a publication or a `PacketError`, never anything else."""
    try:
        publication = read_publish(flags, body)
    except PacketError:
        return
    assert publication.message.topic


@pytest.mark.parametrize("topic_filter", ["", "a/#/b", "a#", "a+/b", "$share/g/t", "a\0", "/" * 40])
def test_a_filter_outside_the_grammar_is_none(topic_filter: str) -> None:
    """Misplaced wildcards, NUL, shared subscriptions and deeper levels than the limit are invalid."""
    assert not is_filter(topic_filter)


def test_another_amqtt_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """With any other version than the pinned one the broker says what to install."""
    monkeypatch.setattr(errors.amqtt, "__version__", "0.12.2")
    with pytest.raises(WrongAmqttVersionError, match=r"pip install amqtt==0\.12\.1"):
        errors.require_pinned_amqtt()
