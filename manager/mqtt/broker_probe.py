"""Probe of an external broker before the manager opens its session: finds reasons not to connect.

- Another manager is online there. If the retained presence is another instance's, the probe publishes the manager's
  as offline, not retained; an online manager answers with its presence. A presence left by a crash gets no answer.
- The broker delivers no retained message for a wildcard subscription. Where nothing is retained the probe leaves the
  manager's own presence, offline, as a test message.

Before it ends, the probe clears what registering clients left on their topics while no manager was connected: the
manager's own subscriptions would fill its queue at the broker with it, and other messages would be dropped.
"""

import contextlib
import queue
import secrets
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import structlog
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from manager.domain.ingest.topics import WORKER_LIFE, shared_probe
from manager.engine.batch import Publication
from manager.mqtt.broker_address import BrokerAddress
from manager.mqtt.paho_client import ClosingClient
from manager.mqtt.rival_managers import RivalManagers
from schemas.topics import MANAGER_PRESENCE

log = structlog.get_logger(__name__)

_FAILURE = 128
_SHARED_TRIES = 5
_ASKED_AGAIN = 1.25
"""Seconds after which a manager is asked again whether it is online: it answers once a second at most."""

_TOPIC = MANAGER_PRESENCE.address()
_WILDCARD = f"{_TOPIC.rpartition('/')[0]}/+"
_NO_WILDCARDS = (
    "this broker delivers no retained message for a wildcard subscription, as RabbitMQ does not: the agents' presence"
    " would stay unknown; use Mosquitto or NATS (docs/brokers.md says what a broker must do)"
)


@dataclass(frozen=True, slots=True)
class ProbeSettings:
    """Timeouts in seconds."""

    connect: float = 5.0
    """Seconds to wait for each answer of the broker."""

    grace: float = 0.2
    """Seconds to wait for a retained message that a broker sends after its other answers."""

    answer: float = 5.0
    """Seconds to wait for the answer of a manager that is online."""

    wildcard: float = 5.0
    """Seconds to wait for the retained message of a wildcard subscription."""

    shared: float = 3.0
    """Seconds to wait for a message by a shared subscription."""

    clearing: float = 60.0
    """Most seconds for clearing retained registrations; what is left then is cleared at the next connect."""


def find_obstacle(
    managers: RivalManagers,
    address: BrokerAddress,
    username: str,
    password: str | None,
    tls: ssl.SSLContext | None,
    *,
    cleared_filter: str | None = None,
    settings: ProbeSettings | None = None,
) -> str | None:
    """Return the reason why the manager must not connect; None without one. Blocks.

    Without one it also clears the retained messages that match `cleared_filter`.

    A broker that refuses the login or the subscription is no obstacle: the manager's own connection reports that.

    Raises:
        OSError: the broker cannot be reached, does not answer, or ends the connection: nothing is known of it.
    """
    with _probing(address, username, password, tls, settings or ProbeSettings()) as probe:
        if not probe.is_admitted():
            return None
        obstacle = probe.run(managers)
        if obstacle is None and cleared_filter is not None:
            cleared = probe.clear(cleared_filter)
            if cleared:
                log.warning("registrations_cleared", broker=str(address), messages=cleared)
        return obstacle


def delivers_shared(
    address: BrokerAddress,
    username: str,
    password: str | None,
    tls: ssl.SSLContext | None,
    *,
    group: str,
    settings: ProbeSettings | None = None,
) -> bool | None:
    """Return whether the broker delivers messages to a group's shared subscription, by a real one. Blocks.

    A broker may grant such a subscription and deliver nothing to it. None if the broker refuses the login: the
    process's own connection reports that.

    Raises:
        OSError: the broker cannot be reached, does not answer, or ends the connection: nothing is known of it.
    """
    with _probing(address, username, password, tls, settings or ProbeSettings()) as probe:
        return probe.receives_shared(group) if probe.is_admitted() else None


@contextlib.contextmanager
def _probing(
    address: BrokerAddress, username: str, password: str | None, tls: ssl.SSLContext | None, settings: ProbeSettings
) -> Iterator["_Probe"]:
    client = ClosingClient(CallbackAPIVersion.VERSION2, f"{username}-presence-{secrets.token_hex(8)}")
    client.username_pw_set(username, password)
    client.connect_timeout = settings.connect
    if tls is not None:
        client.tls_set_context(tls)
    client.connect(address.host, address.port, keepalive=30)
    try:
        yield _Probe(client, settings)
    finally:
        client.disconnect()
        client.loop(0.0)
        client.close_sockets()


class _Probe:
    """A separate connection with a clean session, driven by `_run`."""

    def __init__(self, client: Client, settings: ProbeSettings) -> None:
        self._client = client
        self._settings = settings
        self._answers: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._messages: deque[MQTTMessage] = deque()
        client.on_connect = lambda _client, _data, _flags, code, _: self._answers.put(int(code.value))
        client.on_subscribe = lambda _client, _data, _mid, codes, _: self._answers.put(int(codes[0].value))
        client.on_unsubscribe = lambda *_: self._answers.put(0)
        client.on_message = lambda _client, _data, message: self._messages.append(message)

    def is_admitted(self) -> bool:
        """Return whether the broker takes the login."""
        return self._answer() == 0

    def run(self, managers: RivalManagers) -> str | None:
        if not self._subscribe(_TOPIC):
            return None
        retained = self._retained()
        if retained is None:
            self._publish(managers.publication("offline"))
        if not self._delivers_by_wildcard():
            return _NO_WILDCARDS
        if retained is None or managers.conflict(retained) is None:
            return None
        return self._conflict(managers)

    def receives_shared(self, group: str) -> bool:
        """Return whether a message arrives by the shared subscription: one's own, or one of another probe."""
        if not self._subscribe(shared_probe(group)):
            return False
        topic = WORKER_LIFE.address(secrets.token_hex(16))
        for _ in range(_SHARED_TRIES):  # another probe may get the message
            self._publish(Publication(topic, b"{}", qos=1))
            self._round_trip()  # the broker has the message: a slow one is no broker that does not share
            if self._message(self._settings.shared / _SHARED_TRIES) is not None:
                return True
        return False

    def clear(self, topic_filter: str) -> int:
        """Clear all retained messages that match a filter; return their number.

        The broker drops what exceeds its queue for this connection, so the subscription is repeated until none is left.
        """
        deadline = time.monotonic() + self._settings.clearing
        cleared = 0
        while time.monotonic() < deadline:
            self._messages.clear()
            if not self._subscribe(topic_filter):
                return cleared
            found = 0
            while (message := self._message(self._settings.grace)) is not None and time.monotonic() < deadline:
                if message.retain and message.payload:
                    found += 1
                    with contextlib.suppress(UnicodeDecodeError):
                        self._client.publish(message.topic, b"", qos=1, retain=True)
            self._client.unsubscribe(topic_filter)
            self._answer()
            if not found:
                return cleared
            cleared += found
        return cleared

    def _retained(self) -> bytes | None:
        """Return the retained presence; None if none arrives within the grace time after the next answer."""
        self._round_trip()
        message = self._message(self._settings.grace)
        return bytes(message.payload) if message is not None else None

    def _delivers_by_wildcard(self) -> bool:
        """Return whether a retained message is delivered for a wildcard; True if the wildcard is refused."""
        self._messages.clear()
        if not self._subscribe(_WILDCARD):
            return True
        deadline = time.monotonic() + self._settings.wildcard
        while (message := self._message(deadline - time.monotonic())) is not None:
            if message.retain:
                return True
        return False

    def _conflict(self, managers: RivalManagers) -> str | None:
        """Return the conflict with a manager that answers; one that has just answered another probe is asked again."""
        deadline = time.monotonic() + self._settings.answer
        self._messages.clear()
        while (left := deadline - time.monotonic()) > 0:
            self._publish(managers.publication("offline", retained=False))
            again = time.monotonic() + min(left, _ASKED_AGAIN)
            while (message := self._message(again - time.monotonic())) is not None:
                conflict = managers.conflict(bytes(message.payload))
                if conflict is not None:
                    return conflict
        return None

    def _subscribe(self, topic_filter: str) -> bool:
        self._client.subscribe(topic_filter, 1)
        return self._answer() < _FAILURE

    def _round_trip(self) -> None:
        """Wait until the broker has handled what was sent before."""
        self._client.unsubscribe(f"{_TOPIC}/none")
        self._answer()

    def _publish(self, publication: Publication) -> None:
        self._client.publish(publication.topic, publication.payload, qos=1, retain=publication.retained)

    def _answer(self) -> int:
        """Return the code of the broker's next answer.

        Raises:
            TimeoutError: there is none in time.
        """
        self._run(self._settings.connect, lambda: not self._answers.empty())
        if self._answers.empty():
            raise TimeoutError(f"the broker does not answer within {self._settings.connect:g} s")
        return self._answers.get()

    def _message(self, seconds: float) -> MQTTMessage | None:
        """Return the next message; None without one in time."""
        self._run(seconds, lambda: bool(self._messages))
        return self._messages.popleft() if self._messages else None

    def _run(self, seconds: float, done: Callable[[], bool]) -> None:
        """Drive the connection until a result arrives, or the time is over.

        Raises:
            ConnectionError: the connection ends before that.
        """
        deadline = time.monotonic() + seconds
        while not done() and (left := deadline - time.monotonic()) > 0:
            if self._client.loop(min(0.1, left)) != MQTTErrorCode.MQTT_ERR_SUCCESS and not done():
                raise ConnectionError("the broker ended the connection while it was checked")
