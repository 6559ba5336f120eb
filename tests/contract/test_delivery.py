"""Delivery at every broker: order, redelivery, the window, queues and sizes."""

from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from schemas.limits import BLOCKLIST_LIMIT, KIB, MIB, THREAT_LIMIT
from schemas.topics import BLOCKLIST, HEARTBEAT, THREATS
from tests.contract.brokers import HARDENED, MOSQUITTO, fleet_at
from tests.contract.members import Members
from tests.integration.broker.broker_clients import packet, text

FEWEST, WINDOW = 500, 8000
"""The numbers of messages that a broker sends without an acknowledgement: at least, and at most."""


def test_unacknowledged_messages_come_again_in_their_order(members: Members) -> None:
    """Messages that a manager had not acknowledged, and later ones, are delivered when it is back."""
    threats, own = members.topic(THREATS), members.join("own")
    manager = members.join("manager", "m", clean=False, manual_ack=True)
    manager.subscribe(THREATS.filter)
    for number in range(4):
        own.publish(threats, str(number))
    assert manager.texts(4) == ["0", "1", "2", "3"]
    manager.paho.ack(1, 1)
    manager.close()
    for number in range(4, 7):
        own.publish(threats, str(number))
    again = members.join("manager", "m", clean=False, manual_ack=True)
    assert again.session_present
    messages = [again.next() for _ in range(6)]
    assert [message.payload.decode() for message in messages] == ["1", "2", "3", "4", "5", "6"]
    assert all(message.dup for message in messages[:3])
    assert not any(message.retain for message in messages)


def test_no_more_than_a_window_is_in_flight(members: Members) -> None:
    """A manager that acknowledges nothing gets many messages and not all; then the rest, in order."""
    own, manager = members.join("own"), members.join("manager", manual_ack=True)
    for row in (THREATS, HEARTBEAT):
        manager.subscribe(row.filter)
    for number in range(WINDOW + 100):
        sent = own.paho.publish(members.topic(THREATS), str(number), 1)
    sent.wait_for_publish(60)
    own.publish(members.topic(HEARTBEAT), "end", qos=0)  # passes a full window
    seen = manager.until("end")
    assert FEWEST < len(seen) <= WINDOW
    for message in seen:
        manager.paho.ack(message.mid, 1)
    while len(seen) < WINDOW + 100:
        seen.append(manager.next())
        manager.paho.ack(seen[-1].mid, 1)
    assert [int(message.payload) for message in seen] == list(range(WINDOW + 100))


def test_each_publishers_order_is_kept(members: Members) -> None:
    """Two agents at once: the messages of each arrive complete and in its own order."""
    manager = members.join("manager")
    manager.subscribe(THREATS.filter)
    publishers = {who: members.join(who) for who in ("own", "foreign")}
    for number in range(300):
        for who, publisher in publishers.items():
            publisher.paho.publish(members.topic(THREATS, who), str(number), 1)
    arrived = [manager.next() for _ in range(600)]
    for who in publishers:
        said = [int(message.payload) for message in arrived if message.topic == members.topic(THREATS, who)]
        assert said == list(range(300))


def test_quality_0_does_not_wait_for_an_absent_manager(members: Members) -> None:
    """A heartbeat from while it was away says nothing, and is not delivered later."""
    own = members.join("own")
    manager = members.join("manager", "m", clean=False)
    for row in (HEARTBEAT, THREATS):
        manager.subscribe(row.filter)
    manager.close()
    own.publish(members.topic(HEARTBEAT), "stale", qos=0)
    own.publish(members.topic(THREATS), "end")
    assert members.join("manager", "m", clean=False).until("end") == []


def test_quality_is_the_lower_of_publication_and_subscription(members: Members) -> None:
    """A heartbeat stays QoS 0 on a QoS 1 subscription; a threat is QoS 0 for an observer that asked for that."""
    own, observer = members.join("own"), members.join("observer")
    observer.subscribe(HEARTBEAT.filter, 1)
    observer.subscribe(THREATS.filter, 0)
    own.publish(members.topic(HEARTBEAT), "beat", qos=0)
    assert observer.next().qos == 0
    own.publish(members.topic(THREATS), "threat")
    assert observer.next().qos == 0


def test_the_largest_messages_of_the_contract_arrive_whole(members: Members) -> None:
    """A threat of 256 KiB goes up, a blocklist of 2 MiB comes down, live and retained."""
    own, manager = members.join("own"), members.join("manager")
    manager.subscribe(THREATS.filter)
    own.publish(members.topic(THREATS), "t" * THREAT_LIMIT)
    assert manager.next().payload == b"t" * THREAT_LIMIT
    own.subscribe(members.topic(BLOCKLIST))
    manager.publish(members.topic(BLOCKLIST), "b" * BLOCKLIST_LIMIT, retain=True)
    assert own.next().payload == b"b" * BLOCKLIST_LIMIT
    late = members.join("mate")
    late.subscribe(members.topic(BLOCKLIST, "mate"))
    assert late.next().payload == b"b" * BLOCKLIST_LIMIT


def test_larger_messages_end_their_sender(members: Members) -> None:
    """A message of 3 MiB is not delivered and ends its sender's connection; other clients are not affected."""
    mate, manager = members.join("mate"), members.join("manager")
    manager.subscribe(THREATS.filter)
    greedy = members.raw("own", "greedy")
    body = text(members.topic(THREATS)) + b"\x00\x01" + b"x" * (3 * MIB)
    with suppress(ConnectionError):  # it may be cut while it is sending
        greedy.send(packet(0x32, body))
    assert greedy.is_closed_by_peer()
    mate.publish(members.topic(THREATS, "mate"), "end")
    assert manager.until("end") == []


BOUND = 4 * MIB
SIZE = 200 * KIB


@pytest.fixture(params=[HARDENED, MOSQUITTO])
def narrow(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Members]:
    """Give a fleet at a broker as the product runs it, but that less may wait for a client."""
    if request.param == MOSQUITTO:
        request.getfixturevalue("has_mosquitto")
    with fleet_at(request.param, tmp_path_factory.mktemp("narrow"), BOUND) as fleet, ExitStack() as stack:
        yield Members(fleet, stack)


def test_what_waits_for_an_absent_client_is_bounded_in_bytes(narrow: Members) -> None:
    """Of 10 MiB the bound is kept, in order and without a gap: amqtt keeps the newest, Mosquitto the oldest."""
    own = narrow.join("own")
    manager = narrow.join("manager", "m", clean=False)
    manager.subscribe(THREATS.filter)
    manager.close()
    for number in range(50):
        own.publish(narrow.topic(THREATS), f"{number:02}" + "x" * SIZE)
    back = narrow.join("manager", "m", clean=False)
    back.subscribe(HEARTBEAT.filter)
    own.publish(narrow.topic(HEARTBEAT), "end")
    kept = [int(message.payload[:2]) for message in back.until("end")]
    assert BOUND - 2 * SIZE <= len(kept) * SIZE <= BOUND + SIZE
    first = 0 if narrow.fleet.kind == MOSQUITTO else 50 - len(kept)
    assert kept == list(range(first, first + len(kept)))
