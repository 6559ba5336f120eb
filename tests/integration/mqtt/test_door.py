"""BrokerLink at a real Mosquitto: nothing is lost before it is acknowledged, whatever happens to the connection."""

import threading
from functools import partial

import pytest

from manager.engine.batch import Publication
from manager.mqtt.broker_link import LinkSettings
from schemas import topics
from tests.integration.mqtt.door_bench import AGENT, HEARTBEAT, PRESENCE, THREATS, DoorBench, door_bench, peer
from tests.support.mosquitto import Mosquitto
from tests.support.tcp_proxy import TcpProxy

SMALL_ROOM = LinkSettings(backoff=0.01, backoff_cap=0.05, inbox_messages=10)
POLICY = topics.POLICY.address(AGENT)


def cut(proxy: TcpProxy, bench: DoorBench) -> None:
    """Cut the door's connection and wait until it stands again."""
    resumed = bench.notes.said.count("resumed")
    proxy.cut()
    bench.until(lambda: bench.notes.said.count("resumed") > resumed)


def test_messages_come_as_they_were_sent(mosquitto: Mosquitto) -> None:
    """Topic, id and payload of a message reach the inbox unchanged; only QoS 1 has a handle."""
    with door_bench(mosquitto.port) as bench, peer(mosquitto.port) as agent:
        agent.publish(THREATS, b'{"id":"t-1"}')
        agent.publish(HEARTBEAT, b"{}", qos=0)
        threat, heartbeat = sorted(bench.take(2), key=lambda message: message.row.name, reverse=True)
    assert (threat.row, threat.identifier, threat.topic) == (topics.THREATS, AGENT, topics.THREATS.below_root(AGENT))
    assert threat.payload == b'{"id":"t-1"}'
    assert heartbeat.row is topics.HEARTBEAT
    assert threat.handle is not None
    assert heartbeat.handle is None


def test_a_pause_is_not_ended_by_what_arrives(mosquitto: Mosquitto) -> None:
    """What is queued is sent, and messages of the meantime are read after the pause, which `wake` ends."""
    with door_bench(mosquitto.port) as bench, peer(mosquitto.port) as agent:
        agent.subscribe(POLICY)
        bench.door.publish(Publication(POLICY, b"queued"))
        heard: list[bytes] = []

        def publish() -> None:
            heard.append(agent.hears())
            for number in range(20):
                agent.publish(THREATS, str(number).encode())
            heard.append(b"all sent")
            bench.door.wake()

        publishing = threading.Thread(target=publish)
        publishing.start()
        bench.door.pause(60.0)
        assert heard == [b"queued", b"all sent"]
        assert len(bench.inbox) == 0
        publishing.join()
        assert bench.payloads(20) == [str(number).encode() for number in range(20)]


def test_unacknowledged_messages_come_again(mosquitto: Mosquitto) -> None:
    """After a reconnect the broker sends what was not acknowledged again, and nothing else."""
    with TcpProxy(mosquitto.port) as proxy, door_bench(proxy.port) as bench, peer(mosquitto.port) as agent:
        for payload in (b"one", b"two", b"three"):
            agent.publish(THREATS, payload)
        messages = bench.take(3)
        bench.door.acknowledge([messages[1].handle])
        bench.confirmed(Publication(PRESENCE, b"behind the acknowledgement"))
        cut(proxy, bench)
        assert bench.payloads(2) == [b"one", b"three"]


def test_acknowledgements_of_an_older_connection_are_not_sent(mosquitto: Mosquitto) -> None:
    """A packet id means another message on another connection: the handle of the older one acknowledges nothing."""
    with TcpProxy(mosquitto.port) as proxy, door_bench(proxy.port) as bench, peer(mosquitto.port) as agent:
        agent.publish(THREATS, b"one")
        old = [message.handle for message in bench.take(1)]
        cut(proxy, bench)
        bench.take(1)
        bench.door.acknowledge(old)
        bench.confirmed(Publication(PRESENCE, b"behind the acknowledgement"))
        cut(proxy, bench)
        again = bench.take(1)
        assert [message.payload for message in again] == [b"one"]
        bench.door.acknowledge([message.handle for message in again])
        bench.confirmed(Publication(PRESENCE, b"behind the acknowledgement"))
        cut(proxy, bench)
        agent.publish(THREATS, b"two")
        assert bench.payloads(1) == [b"two"]


def test_messages_wait_while_the_manager_is_away(mosquitto: Mosquitto) -> None:
    """Messages that agents publish between two runs of the manager are delivered to the second."""
    with peer(mosquitto.port) as agent:
        with door_bench(mosquitto.port) as bench:
            assert bench.notes.said == ["fresh"]
        agent.publish(THREATS, b"meanwhile")
        with door_bench(mosquitto.port) as bench:
            assert bench.payloads(1) == [b"meanwhile"]
            assert bench.notes.said == ["resumed"]


def test_wake_ends_the_wait(mosquitto: Mosquitto) -> None:
    """`wake`, from another thread, ends a poll that would wait for an hour."""
    with door_bench(mosquitto.port) as bench:
        threading.Timer(0.05, bench.door.wake).start()
        bench.door.poll(3600)


def test_the_will_follows_a_cut_connection(mosquitto: Mosquitto) -> None:
    """The broker publishes the manager's last will when its connection ends without a goodbye."""
    with TcpProxy(mosquitto.port) as proxy, door_bench(proxy.port) as bench, peer(mosquitto.port) as observer:
        bench.confirmed(Publication(PRESENCE, b"online", retained=True))
        observer.subscribe(PRESENCE)
        assert observer.hears() == b"online"
        proxy.cut()
        assert observer.hears() == b"will"


def test_a_goodbye_takes_the_place_of_the_will(mosquitto: Mosquitto) -> None:
    """A clean stop publishes the farewell, and no will follows."""
    with peer(mosquitto.port) as observer:
        with door_bench(mosquitto.port) as bench:
            bench.confirmed(Publication(PRESENCE, b"online", retained=True))
            observer.subscribe(PRESENCE)
            assert observer.hears() == b"online"
        assert observer.hears() == b"offline"
        observer.publish(PRESENCE, b"marker")
        assert observer.hears() == b"marker"


@pytest.mark.parametrize("mosquitto", [{"persistent": True}], indirect=True)
def test_a_broker_that_comes_back_is_found_again(mosquitto: Mosquitto) -> None:
    """The door notices that the broker is gone, and resumes its session when it is back."""
    with door_bench(mosquitto.port) as bench:
        mosquitto.stop()
        bench.until(lambda: not bench.door.ready)
        assert bench.notes.said == ["fresh", "gone"]
        bench.door.publish(Publication(PRESENCE, b"into the void"))
        mosquitto.start()
        bench.connect()
        assert bench.notes.said == ["fresh", "gone", "resumed"]
        with peer(mosquitto.port) as agent:
            agent.publish(THREATS, b"after")
        assert bench.payloads(1) == [b"after"]


def test_a_broker_without_memory_is_told_from_one_with(mosquitto: Mosquitto) -> None:
    """A broker that lost its sessions makes a fresh connection: all retained messages have to be published again."""
    with door_bench(mosquitto.port) as bench:
        mosquitto.kill()
        bench.until(lambda: not bench.door.ready)
        mosquitto.start()
        bench.connect()
        assert bench.notes.said == ["fresh", "gone", "fresh"]


@pytest.mark.parametrize("mosquitto", [{"anonymous": False}], indirect=True)
def test_a_refusal_is_named(mosquitto: Mosquitto) -> None:
    """A broker that refuses the manager is no broker to wait for silently: the reason is kept."""
    bench = DoorBench(mosquitto.port)
    bench.until(lambda: bench.door.last_error is not None)
    bench.door.close(Publication(PRESENCE, b"offline"))
    assert "refuses the manager" in str(bench.door.last_error)
    assert not bench.door.ready


def test_packets_split_at_every_byte_are_read(mosquitto: Mosquitto) -> None:
    """A broker's bytes may come one by one: every message, of every length, arrives whole."""
    payloads = [bytes([65 + size % 26]) * size for size in (0, 1, 60, 78, 79, 80, 81, 127, 128, 300, 16_400)]
    with TcpProxy(mosquitto.port, piece=1) as proxy, door_bench(proxy.port) as bench, peer(mosquitto.port) as agent:
        for payload in payloads:
            agent.publish(THREATS, payload)
        assert bench.payloads(len(payloads)) == payloads


def test_the_largest_messages_pass_both_ways(mosquitto: Mosquitto) -> None:
    """Threats and policies of 256 KiB pass, several at once."""
    large = [bytes([65 + number]) * topics.THREATS.limit for number in range(6)]
    with door_bench(mosquitto.port) as bench, peer(mosquitto.port) as agent:
        agent.subscribe(POLICY)
        for payload in large:
            agent.publish(THREATS, payload)
        assert bench.payloads(len(large)) == large
        for payload in large:
            bench.door.publish(Publication(POLICY, payload))
        bench.confirmed(Publication(PRESENCE, b"behind them"))
        assert [agent.hears() for _ in large] == large


def test_a_full_inbox_makes_the_broker_wait(mosquitto: Mosquitto) -> None:
    """While the inbox is full the door takes nothing in; once there is room, everything comes, in order."""
    sent = [str(number).encode() for number in range(300)]
    with door_bench(mosquitto.port, SMALL_ROOM) as bench, peer(mosquitto.port) as agent:
        for payload in sent:
            agent.publish(THREATS, payload)
        bench.until(lambda: len(bench.inbox) >= SMALL_ROOM.inbox_messages)
        for _ in range(20):
            bench.door.poll(0)
            assert len(bench.inbox) == SMALL_ROOM.inbox_messages
        assert bench.payloads(len(sent)) == sent


def test_a_full_inbox_is_waited_for_without_spinning(mosquitto: Mosquitto) -> None:
    """With messages read but no room for them, a poll still waits until it is woken."""
    woken = threading.Event()
    with door_bench(mosquitto.port, SMALL_ROOM) as bench, peer(mosquitto.port) as agent:
        for number in range(50):
            agent.publish(THREATS, b"%d" % number)
        bench.until(lambda: len(bench.inbox) >= SMALL_ROOM.inbox_messages)
        bench.door.poll(0)

        def wake() -> None:
            woken.set()
            bench.door.wake()

        threading.Timer(0.05, wake).start()
        bench.door.poll(3600)
        assert woken.is_set()


def test_many_publications_are_all_confirmed(mosquitto: Mosquitto) -> None:
    """More publications than may be in flight wait their turn, and each is confirmed once."""
    confirmed: list[int] = []
    with door_bench(mosquitto.port) as bench:
        for number in range(5000):
            bench.door.publish(Publication(POLICY, b"x", confirm=partial(confirmed.append, number)))
        assert bench.door.backlog == 5000
        bench.until(lambda: bench.door.backlog == 0)
    assert confirmed == list(range(5000))


def test_what_was_left_on_registration_topics_is_cleared_unread(mosquitto: Mosquitto) -> None:
    """Retained before the manager came, or on a topic that is no client's: gone, once; a live one is delivered."""
    client_id, stray = "a" * 32, "panguard/v1/registration/not-an-id"
    with peer(mosquitto.port) as client:
        client.publish(topics.REGISTRATION.address(client_id), b"left behind", retain=True)
        client.publish(stray, b"left behind", retain=True)
        with door_bench(mosquitto.port) as bench:
            bench.until(lambda: bench.door.cleanup.cleared == 2)
            bench.confirmed(Publication(PRESENCE, b"behind the clearing"))
            client.publish(topics.REGISTRATION.address(client_id), b"now", retain=True)
            (live,) = bench.take(1)
            assert live.payload == b"now"
            bench.door.acknowledge([live.handle])
            bench.confirmed(Publication(PRESENCE, b"behind the acknowledgement"))
        with door_bench(mosquitto.port) as bench:
            bench.until(lambda: bench.door.cleanup.cleared == 1)  # the one that was answered, and is retained still
            client.publish(THREATS, b"behind them")
            assert bench.payloads(1) == [b"behind them"]
            assert bench.door.cleanup.cleared == 1


def test_topics_that_nobody_knows_are_passed_over(mosquitto: Mosquitto) -> None:
    """A message on a topic whose id is none is counted and acknowledged; it blocks nothing."""
    with TcpProxy(mosquitto.port) as proxy, door_bench(proxy.port) as bench, peer(mosquitto.port) as agent:
        agent.publish("panguard/v1/agents/not-an-id/threats", b"stray")
        bench.until(lambda: bench.door.unknown_topics == 1)
        bench.confirmed(Publication(PRESENCE, b"behind the acknowledgement"))
        cut(proxy, bench)
        agent.publish(THREATS, b"right")
        assert bench.payloads(1) == [b"right"]
        assert bench.door.unknown_topics == 1
