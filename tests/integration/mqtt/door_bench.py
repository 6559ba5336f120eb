"""An MQTT door with an inbox and a listener that takes notes, and plain clients on the other side of the broker."""

import queue
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from paho.mqtt.enums import CallbackAPIVersion

from manager.domain.ingest.topics import ALL, Filters
from manager.domain.instant import Instant
from manager.engine.batch import Publication
from manager.engine.inbox import Budget, Inbound, Inbox
from manager.mqtt.broker_address import BrokerAddress
from manager.mqtt.broker_link import BrokerLink, LinkSettings
from manager.runtime import clock
from schemas import topics
from tests.support.mqtt_client import MqttClient

AGENT = "ag-0123456789abcdef"
THREATS = topics.THREATS.address(AGENT)
HEARTBEAT = topics.HEARTBEAT.address(AGENT)
PRESENCE = topics.MANAGER_PRESENCE.address()
_PATIENCE = 120.0


class Notes:
    """The listener: what the door said of its connection."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def connected(self, now: Instant, *, fresh: bool) -> None:
        del now
        self.said.append("fresh" if fresh else "resumed")

    def disconnected(self) -> None:
        self.said.append("gone")


class DoorBench:
    """A door that is polled by the test's own thread."""

    def __init__(
        self,
        port: int,
        settings: LinkSettings | None = None,
        address: BrokerAddress | None = None,
        tls: ssl.SSLContext | None = None,
        filters: Filters = ALL,
    ) -> None:
        self.inbox = Inbox(Budget(1e9, 1e12, 10))
        self.notes = Notes()
        self.leads = True
        self.door = BrokerLink(
            address or BrokerAddress("127.0.0.1", port),
            "manager-under-test",
            "manager",
            lambda: None,
            will=Publication(PRESENCE, b"will", retained=True),
            presence=lambda: Publication(PRESENCE, b"online", retained=True),
            clock=clock.read,
            settings=settings or LinkSettings(backoff=0.01, backoff_cap=0.05),
            tls=tls,
            filters=lambda: filters,
            may_publish=lambda: self.leads,
        )
        self.door.attach(self.inbox, self.notes)

    def until(self, done: Callable[[], Any], seconds: float = _PATIENCE) -> None:
        """Poll until something holds."""
        deadline = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < deadline, f"it did not happen; the door says {self.door.last_error}"
            self.door.poll(0.02)

    def connect(self) -> None:
        self.until(lambda: self.door.ready)

    def take(self, count: int) -> list[Inbound]:
        """Return that many messages, as they came."""
        taken: list[Inbound] = []

        def enough() -> bool:
            taken.extend(item for item in self.inbox.take(1000) if isinstance(item, Inbound))
            return len(taken) >= count

        self.until(enough)
        return taken

    def payloads(self, count: int) -> list[bytes]:
        return [message.payload for message in self.take(count)]

    def confirmed(self, publication: Publication) -> None:
        """Publish, and poll until the broker has it."""
        done: list[bool] = []
        self.door.publish(
            Publication(
                publication.topic,
                publication.payload,
                retained=publication.retained,
                confirm=lambda: done.append(True),
            )
        )
        self.until(lambda: done)


@contextmanager
def door_bench(port: int, settings: LinkSettings | None = None) -> Iterator[DoorBench]:
    """Give a door that is connected; it says goodbye at the end."""
    bench = DoorBench(port, settings)
    try:
        bench.connect()
        yield bench
    finally:
        bench.door.close(Publication(PRESENCE, b"offline", retained=True))


class Peer:
    """A plain client: publishes as agents do, and reads what it subscribed to."""

    def __init__(self, port: int) -> None:
        self.heard: queue.SimpleQueue[tuple[str, bytes]] = queue.SimpleQueue()
        self._subscribed: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._client = MqttClient(CallbackAPIVersion.VERSION2)
        self._client.on_message = lambda _client, _data, message: self.heard.put(
            (message.topic, bytes(message.payload))
        )
        self._client.on_subscribe = lambda _client, _data, mid, _codes, _properties: self._subscribed.put(mid)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def publish(self, topic: str, payload: bytes, qos: int = 1, *, retain: bool = False) -> None:
        """Publish, and wait until the broker has it."""
        self._client.publish(topic, payload, qos, retain).wait_for_publish(_PATIENCE)

    def subscribe(self, topic: str) -> None:
        self._client.subscribe(topic, 1)
        self._subscribed.get(timeout=_PATIENCE)

    def hears(self) -> bytes:
        """Return the payload of the next message."""
        return self.heard.get(timeout=_PATIENCE)[1]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@contextmanager
def peer(port: int) -> Iterator[Peer]:
    """Give a plain client that is connected."""
    client = Peer(port)
    try:
        yield client
    finally:
        client.close()
