"""BrokerLink of a manager that leads no more, or stands by: what of it reaches the broker."""

import pytest

from manager.engine.batch import Publication
from tests.integration.mqtt.door_bench import DoorBench, peer
from tests.support.mosquitto import Mosquitto

pytestmark = pytest.mark.mosquitto

LIFE = f"panguard/v1/ingest/{'0' * 32}/life"
TOPIC = "panguard/v1/agents/ag-0123456789abcdef/policy"


def test_a_manager_that_leads_no_more_sends_nothing_of_what_it_has_queued() -> None:
    """A hundred publications wait when the leadership ends: none arrives, now or later, and it does not connect."""
    with Mosquitto() as broker, peer(broker.port) as observer:
        bench = DoorBench(broker.port)
        bench.connect()
        observer.subscribe("panguard/v1/agents/#")
        for number in range(100):
            bench.door.publish(Publication(TOPIC, b"old %d" % number, retained=True))
        bench.leads = False
        for _ in range(20):
            bench.door.poll(0.02)
        assert not bench.door.ready
        assert bench.notes.said[-1] == "gone"
        bench.door.publish(Publication(TOPIC, b"later", retained=True))
        bench.leads = True
        bench.connect()
        bench.confirmed(Publication(TOPIC, b"new", retained=True))
        assert observer.hears() == b"new"
        bench.door.close(Publication("panguard/v1/manager/presence", b"offline", retained=True))


def test_a_leadership_that_ends_between_two_pieces_ends_the_sending() -> None:
    """A process that stands still within one sending finds out before the next piece."""
    asked = 0

    def leads_for_a_while() -> bool:
        nonlocal asked
        asked += 1
        return asked == 1

    with Mosquitto() as broker, peer(broker.port) as observer:
        observer.subscribe(TOPIC)
        bench = DoorBench(broker.port)
        bench.connect()
        client = bench.door._client
        assert client is not None
        for number in range(100):
            bench.door.publish(Publication(TOPIC, b"%d " % number + b"x" * 100_000))
        client.may_send = leads_for_a_while
        bench.door.flush()
        assert asked >= 2
        assert not bench.door.ready
        assert "does not lead" in str(bench.door.last_error)
        bench.leads = False
        bench.door.poll(0.02)
        observer.publish(TOPIC, b"the end")
        heard = 0
        while observer.hears() != b"the end":
            heard += 1
        assert heard < 100
        bench.door.close(Publication("panguard/v1/manager/presence", b"offline", retained=True))


def test_a_manager_without_subscriptions_publishes_and_hears_nothing() -> None:
    """One that stands by hands heartbeats over through the broker, and leaves the agents' messages to others."""
    with Mosquitto() as broker, peer(broker.port) as observer:
        observer.subscribe(LIFE)
        bench = DoorBench(broker.port, filters=[])
        bench.connect()
        assert bench.notes.said == ["fresh"]
        observer.publish("panguard/v1/agents/ag-0123456789abcdef/heartbeat", b"for others")
        for number in range(3):
            bench.confirmed(Publication(LIFE, b"life %d" % number))
            assert observer.hears() == b"life %d" % number
        assert bench.inbox.take(10) == []
        broker.restart()
        bench.until(lambda: bench.notes.said == ["fresh", "gone", "fresh"])
        bench.door.close(None)
