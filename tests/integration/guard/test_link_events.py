"""The events of a link over MQTT, between paho's thread and the guard's loop; with a real Mosquitto."""

import threading
from collections.abc import Iterator

import pytest

from agent.link.address import ManagerAddress
from agent.link.link import Account, Delivered, Event, Link, Opened
from agent.link.mqtt import MqttDialer, MqttLink
from agent.loop import LinkEventQueue
from schemas import topics
from tests.integration.guard.scripted_manager import eventually
from tests.support.mosquitto import Mosquitto

_ACCOUNT = Account("link", "u", "p", {"agentId": "ag-00000000000000aa"})
_CAPACITY, _MORE_THAN_IT_HOLDS = 256, 300


class _Counted(LinkEventQueue):
    """Counts what is posted, before it may have to wait for room."""

    def __init__(self) -> None:
        super().__init__()
        self.delivered = 0

    def post(self, link: Link, event: Event) -> None:
        self.delivered += isinstance(event, Delivered)
        super().post(link, event)


@pytest.fixture
def events() -> _Counted:
    return _Counted()


@pytest.fixture
def link(broker: Mosquitto, events: _Counted) -> Iterator[MqttLink]:
    """A link that is open."""
    opened = MqttDialer(ManagerAddress.parse(broker.url), 30)(_ACCOUNT, None, events.post)
    assert eventually(lambda: list(events.take(1.0)), "an event") == [(opened, Opened("127.0.0.1"))]
    yield opened
    opened.close(1.0)


def test_acknowledgements_beyond_the_queue_do_not_lock_the_loop_out_of_publish(
    link: MqttLink, events: _Counted
) -> None:
    """With more acknowledgements posted than the queue holds, and nothing taken, publish still returns."""

    def publish() -> None:
        for _ in range(_MORE_THAN_IT_HOLDS):
            link.publish(topics.THREATS, b"{}")
        eventually(lambda: events.delivered > _CAPACITY, "acknowledgements", 20)
        link.publish(topics.THREATS, b"{}")

    publishing = threading.Thread(target=publish, daemon=True)
    publishing.start()
    eventually(lambda: not publishing.is_alive(), "the publish to return", 50)
    eventually(lambda: events.delivered == _MORE_THAN_IT_HOLDS + 1, "all acknowledgements", 50)
