"""Detection of another manager at the same broker, by its presence.

Two managers at one broker answer the same agents: two fleets, or a data directory that was copied. Before a manager
opens its session it reads the retained presence. If another instance is online there, it publishes its own presence as
offline, not retained; an online manager answers that by its presence, and a retained message that a crash left behind
has nobody who answers. The one that came later does not connect.
"""

import queue
import secrets
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from manager.engine.batch import Publication
from manager.mqtt.broker_address import BrokerAddress
from schemas.decoding import decode
from schemas.errors import SchemaError
from schemas.model import iso
from schemas.presence import ManagerPresence
from schemas.topics import MANAGER_PRESENCE

_FAILURE = 128
_TOPIC = MANAGER_PRESENCE.address()


@dataclass(frozen=True, slots=True)
class RivalSettings:
    """Seconds."""

    connect: float = 5.0
    """For connecting and subscribing."""

    grace: float = 0.2
    """For a retained message that a broker sends after its other answers."""

    answer: float = 5.0
    """For the answer of a manager that is online."""

    between_answers: float = 1.0
    """Least time between two answers to other managers."""


class RivalManagers:
    """Compares the presence of other managers with this one's.

    Args:
        presence: returns this manager's own presence, by state.
        clock: the monotonic clock.
        settings: timeouts.
    """

    def __init__(
        self,
        presence: Callable[[str], ManagerPresence],
        clock: Callable[[], float] = time.monotonic,
        settings: RivalSettings | None = None,
    ) -> None:
        self._presence = presence
        self._own = presence("offline")
        self._clock = clock
        self._settings = settings or RivalSettings()
        self._next_answer = 0.0

    def publication(self, state: str, *, retained: bool = True) -> Publication:
        """Return this manager's presence as a message."""
        return Publication(_TOPIC, self._presence(state).body(), retained=retained)

    def conflict(self, payload: bytes, *, with_earlier_only: bool = False) -> str | None:
        """Return the conflict with another manager that a presence message shows; None if it shows none.

        Args:
            payload: the message.
            with_earlier_only: whether managers that started after this one are left out: they withdraw.
        """
        other = _read(payload)
        if other is None or other.state != "online" or other.instance in (None, self._own.instance):
            return None
        if with_earlier_only and _order(other) > _order(self._own):
            return None
        return self._sentence(other)

    def wants_answer(self, payload: bytes) -> bool:
        """Return whether this manager, online, has to publish its presence again: the message is not its own."""
        presence = _read(payload)
        if presence is None or (presence.instance == self._own.instance and presence.state == "online"):
            return False
        now = self._clock()
        if now < self._next_answer:
            return False
        self._next_answer = now + self._settings.between_answers
        return True

    def search(
        self, address: BrokerAddress, username: str, password: str | None, tls: ssl.SSLContext | None
    ) -> str | None:
        """Return the conflict with a manager that is online at the broker; None if there is none. Blocks.

        A broker that refuses the connection or the subscription is the caller's to report.

        Raises:
            OSError: the broker cannot be reached.
        """
        client = Client(CallbackAPIVersion.VERSION2, f"{username}-presence-{secrets.token_hex(8)}")
        client.username_pw_set(username, password)
        client.connect_timeout = self._settings.connect
        if tls is not None:
            client.tls_set_context(tls)
        client.connect(address.host, address.port, keepalive=30)
        try:
            return _Probe(client, self._settings).run(self)
        finally:
            client.disconnect()
            client.loop(0.0)

    def _sentence(self, other: ManagerPresence) -> str:
        since = iso(other.since.timestamp()) if other.since is not None else "an unknown time"
        if other.store_id == self._own.store_id:
            return (
                f"another manager with a copy of this store ({other.store_id}) has been online at this broker"
                f" since {since}: stop one of the two"
            )
        return (
            f"a manager of another store ({other.store_id}) has been online at this broker since {since}:"
            " give each manager a broker of its own, or stop one of the two"
        )


class _Probe:
    """One look at the broker, with a connection of its own."""

    def __init__(self, client: Client, settings: RivalSettings) -> None:
        self._client = client
        self._settings = settings
        self._events: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        client.on_connect = lambda _client, _data, _flags, code, _properties: self._events.put(
            ("connected", code.value)
        )
        client.on_subscribe = lambda _client, _data, _mid, codes, _p: self._events.put(("subscribed", codes[0].value))
        client.on_unsubscribe = lambda *_: self._events.put(("unsubscribed", 0))
        client.on_message = lambda _client, _data, message: self._events.put(("message", message))

    def run(self, managers: RivalManagers) -> str | None:
        if self._wait("connected", self._settings.connect) != 0:
            return None
        self._client.subscribe(_TOPIC, 1)
        code = self._wait("subscribed", self._settings.connect)
        if code is None or code >= _FAILURE:
            return None
        retained = self._retained()
        conflict = managers.conflict(retained) if retained is not None else None
        if conflict is None:
            return None
        question = managers.publication("offline", retained=False)
        self._client.publish(question.topic, question.payload, qos=1)
        return self._answer(managers)

    def _retained(self) -> bytes | None:
        """Return the retained presence; the answer to a further request says that none is to be expected."""
        self._client.unsubscribe(f"{_TOPIC}/none")
        message = self._wait("message", self._settings.connect, until="unsubscribed")
        if message is None:
            message = self._wait("message", self._settings.grace)
        return bytes(message.payload) if isinstance(message, MQTTMessage) else None

    def _answer(self, managers: RivalManagers) -> str | None:
        deadline = time.monotonic() + self._settings.answer
        while (left := deadline - time.monotonic()) > 0:
            message = self._wait("message", left)
            if isinstance(message, MQTTMessage) and (conflict := managers.conflict(bytes(message.payload))):
                return conflict
        return None

    def _wait(self, event: str, seconds: float, until: str | None = None) -> Any:
        """Drive the connection until an event of one kind; return its value, None without it or after another kind."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            while not self._events.empty():
                kind, value = self._events.get()
                if kind == event:
                    return value
                if kind == until:
                    return None
            if self._client.loop(min(0.1, max(0.0, deadline - time.monotonic()))) != MQTTErrorCode.MQTT_ERR_SUCCESS:
                return None
        return None


def _order(presence: ManagerPresence) -> tuple[float, str]:
    """Return the key by which managers agree on the one that came first, whatever their clocks say."""
    since = presence.since.timestamp() if presence.since is not None else 0.0
    return since, presence.instance or ""


def _read(payload: bytes) -> ManagerPresence | None:
    try:
        return decode(ManagerPresence, payload, MANAGER_PRESENCE.limit)
    except SchemaError:
        return None
