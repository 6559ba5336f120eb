"""A client that publishes without end at the embedded broker is read no faster than its budget, and it alone waits."""

from collections.abc import Callable

import pytest

from tests.integration.broker.broker_clients import PahoClient
from tests.integration.broker.broker_threads import BrokerThread

Connect = Callable[..., PahoClient]

SLOW = pytest.mark.limits(publish_messages=1.0, publish_bytes=1e9, publish_burst=10.0)
BRISK = pytest.mark.limits(publish_messages=40.0, publish_bytes=1e9, publish_burst=0.5)


def arrived(client: PahoClient, count: int) -> list[str]:
    return [client.arrived.get(timeout=60).topic for _ in range(count)]


@SLOW
def test_one_beyond_its_budget_waits_and_nobody_else_does(connect: Connect) -> None:
    """A hundred messages of one who does not pay come through while most of the spender's forty are not read yet."""
    watcher, spender, guest = connect("watcher"), connect("one", username="spender"), connect("two")
    watcher.subscribe("flood/#", 1)
    watcher.subscribe("word", 1)
    for number in range(40):
        spender.paho.publish(f"flood/{number}", b"x", 1)
    for _ in range(100):
        guest.paho.publish("word", b"y", 1)
    seen = []
    while seen.count("word") < 100:
        seen += arrived(watcher, 1)
    assert len(seen) - 100 < 40


@SLOW
def test_connections_of_one_user_pay_together(connect: Connect) -> None:
    """A second connection of a user shares the first one's budget."""
    watcher, first, second = connect("watcher"), connect("one", username="spender"), connect("two", username="spender")
    guest = connect("three")
    watcher.subscribe("flood/#", 1)
    watcher.subscribe("word", 1)
    for number in range(30):
        first.paho.publish(f"flood/first/{number}", b"x", 1)
    early = arrived(watcher, 10)
    for number in range(30):
        second.paho.publish(f"flood/second/{number}", b"x", 1)
    guest.paho.publish("word", b"y", 1)
    while early[-1] != "word":
        early += arrived(watcher, 1)
    assert len([topic for topic in early if topic.startswith("flood/second")]) < 10


@BRISK
def test_nothing_of_one_that_waits_is_lost(connect: Connect) -> None:
    """All that it published arrives, in its order, on the one connection that it has opened."""
    watcher, spender = connect("watcher"), connect("one", username="spender")
    watcher.subscribe("flood/#", 1)
    topics = [f"flood/{number}" for number in range(80)]
    for topic in topics:
        spender.paho.publish(topic, b"x" * 1000, 1)
    assert arrived(watcher, 80) == topics
    assert spender.paho.is_connected()


@SLOW
def test_one_that_waits_can_be_cut_off(connect: Connect, broker: BrokerThread) -> None:
    """A connection that is not read ends at once when its user's connections are ended."""
    spender = connect("one", username="spender")
    for number in range(40):
        spender.paho.publish(f"flood/{number}", b"x", 1)

    async def disconnect(running: object) -> int:
        return running.disconnect("spender")  # type: ignore[attr-defined,no-any-return]

    assert broker.call(disconnect) == 1
    broker.await_end_of("one")
