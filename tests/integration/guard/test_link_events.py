"""The events of a link over MQTT, between paho's thread and the guard's loop; with a real Mosquitto."""

import os
import resource
import threading
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from agent.link.address import ManagerAddress
from agent.link.link import Account, Closed, Delivered, Event, Link, Opened
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
        eventually(lambda: events.delivered > _CAPACITY, "acknowledgements", 60)
        link.publish(topics.THREATS, b"{}")

    publishing = threading.Thread(target=publish, daemon=True)
    publishing.start()
    eventually(lambda: not publishing.is_alive(), "the publish to return", 90)
    eventually(lambda: events.delivered == _MORE_THAN_IT_HOLDS + 1, "all acknowledgements", 60)


def test_a_publish_after_the_end_of_the_thread_calls_nothing_back(
    broker: Mosquitto, link: MqttLink, events: _Counted
) -> None:
    """The thread has ended, the queue is full, and the broker is gone: publish returns, and does not wait for room."""
    for _ in range(_CAPACITY):
        events.post(link, Opened(None))
    client = link._client
    thread, client._thread_terminate = client._thread, True
    assert thread is not None
    client._sockpairW.send(b"x")  # type: ignore[union-attr]
    eventually(lambda: client._thread is None, "the end of paho's thread")
    broker.stop()

    def publish() -> None:
        for _ in range(10):
            link.publish(topics.THREATS, b"{}")

    publishing = threading.Thread(target=publish, daemon=True)
    publishing.start()
    eventually(lambda: not publishing.is_alive(), "the publish to return", 60)
    link.close()
    eventually(lambda: not thread.is_alive(), "the end of the waiting for room", 60)


def test_a_link_has_no_tcp_socket_but_the_brokers(broker: Mosquitto, events: _Counted) -> None:
    """A socket that another user of the host can connect to could be taken by them."""
    before = set(_tcp_sockets())
    link = MqttDialer(ManagerAddress.parse(broker.url), 30)(_ACCOUNT, None, events.post)
    eventually(lambda: list(events.take(1.0)), "the opening")
    assert [remote for _, remote in set(_tcp_sockets()) - before] == [("127.0.0.1", broker.port)]
    link.close(1.0)


def test_a_link_whose_thread_ends_by_itself_is_closed(broker: Mosquitto, events: _Counted) -> None:
    """The kernel's `select` takes no file above 1,023: without a word the guard would wait for ever."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 1_200 if hard == resource.RLIM_INFINITY else min(hard, 1_200)
    if wanted < 1_200:
        pytest.skip("this user may not open 1,200 files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1_100)]
    try:
        link = MqttDialer(ManagerAddress.parse(broker.url), 30)(_ACCOUNT, None, events.post)
        told = eventually(lambda: list(events.take(1.0)), "an event")
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert told == [(link, Closed("the connection's thread has ended: too many files may be open"))]


def _tcp_sockets() -> list[tuple[Any, Any]]:
    return [(each.laddr, tuple(each.raddr)) for each in psutil.Process().net_connections(kind="tcp")]
