"""The MQTT door: hears what agents publish, and publishes for the engine, all in the engine's own thread."""

import random
import select
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, cast

import structlog
from paho.mqtt.client import ConnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from manager.domain.instant import Instant
from manager.engine.batch import Publication
from manager.engine.inbox import Inbound, Inbox
from manager.mqtt.address import BrokerAddress
from manager.mqtt.buffered import BufferedClient
from schemas.errors import TopicError
from schemas.topics import PREFIX, TABLE, Role, resolve

log = structlog.get_logger(__name__)

_INFLIGHT = 2000
_FAILURE = 128
_MAX_MID = 0x10000
FILTERS = [(row.filter, row.qos) for row in TABLE if Role.MANAGER in row.readers and row.publisher is not Role.MANAGER]
"""What the manager subscribes to: every topic that others publish for it."""


@dataclass(frozen=True, slots=True)
class DoorSettings:
    """Seconds, and how much may wait in the inbox before the broker is made to wait."""

    keepalive: int = 30
    connect_timeout: float = 5.0
    backoff: float = 0.2
    backoff_cap: float = 5.0
    inbox_messages: int = 5000
    inbox_bytes: int = 32 * 1024 * 1024


class Listener(Protocol):
    """Who is told of the connection: the engine."""

    def connected(self, now: Instant, *, fresh: bool) -> None:
        """The broker is there; `fresh` if it kept nothing of this manager's session."""
        ...

    def disconnected(self) -> None:
        """The broker is gone."""
        ...


class MqttDoor:
    """One persistent session at one broker. Not thread-safe, but for `wake`.

    Args:
        address: where the broker is.
        client_id: the manager's own, kept: its session holds what came while it was away.
        username: who the manager is to the broker.
        password: None where the broker asks for none.
        will: the manager's last will, as a publication; its topic's live message is `presence`.
        presence: what is published at each connect.
        clock: reads both clocks.
        tls: how to check the broker, where the address says so.
    """

    def __init__(
        self,
        address: BrokerAddress,
        client_id: str,
        username: str,
        password: str | None,
        *,
        will: Publication,
        presence: Callable[[], Publication],
        clock: Callable[[], Instant],
        settings: DoorSettings | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.address = address
        self._identity = (client_id, username, password)
        self._will = will
        self._presence = presence
        self._clock = clock
        self._settings = settings or DoorSettings()
        self._tls = tls
        self._client: BufferedClient | None = None
        self._connecting: threading.Thread | None = None
        self._generation = 0
        self._heard = False
        self._fresh = True
        self._failures = 0
        self._next_attempt = 0.0
        self._next_misc = 0.0
        self._confirmations: dict[int, Callable[[], None]] = {}
        self._inbox: Inbox | None = None
        self._listener: Listener | None = None
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)
        self.unknown_topics = 0
        self.last_error: str | None = None

    def attach(self, inbox: Inbox, listener: Listener) -> None:
        """Say where messages go and who is told of the connection; before the first `poll`."""
        self._inbox, self._listener = inbox, listener

    @property
    def ready(self) -> bool:
        """Whether the broker is connected and the subscriptions stand."""
        return self._heard

    @property
    def backlog(self) -> int:
        """How many publications the broker has not confirmed yet."""
        return len(self._confirmations)

    def wake(self) -> None:
        """End the wait of `poll`; from any thread."""
        try:
            self._wake_writer.send(b"\0")
        except BlockingIOError:
            return  # it is awake already

    def poll(self, timeout: float) -> None:
        """Wait at most `timeout` seconds for something, and take in what is there, as far as the inbox has room."""
        now = self._clock()
        client = self._client if self._connecting is None else None
        if client is None:
            self._attempt(now)
        sock = cast("socket.socket | None", client.socket()) if client is not None else None
        self._wait(client, sock, timeout)
        if client is None:
            return
        if sock is None:
            self._lost(client, "the connection was closed")
            return
        try:
            self._read(client)
            if now.monotonic >= self._next_misc:
                self._next_misc = now.monotonic + 1.0
                client.loop_misc()
            client.flush()
        except OSError as error:
            self._lost(client, str(error))

    def publish(self, publication: Publication) -> None:
        """Hand a message to the broker; while it is not connected, it is lost."""
        client = self._client
        if client is None or self._connecting is not None:
            return
        info = client.publish(publication.topic, publication.payload, publication.qos, publication.retained)
        if info.rc == MQTTErrorCode.MQTT_ERR_SUCCESS and publication.confirm is not None:
            self._confirmations[info.mid] = publication.confirm

    def acknowledge(self, handles: list[int]) -> None:
        """Let the broker forget messages; those of an earlier connection it will send again."""
        client, generation = self._client, self._generation
        if client is None or self._connecting is not None:
            return
        for handle in handles:
            if handle // _MAX_MID == generation:
                client.ack(handle % _MAX_MID, 1)

    def close(self, farewell: Publication) -> None:
        """Say goodbye and disconnect; nothing is heard after."""
        client = self._client
        if client is not None and self._connecting is None and client.socket() is not None:
            try:
                self.publish(farewell)
                client.flush()
                client.disconnect()
                client.flush()
            except OSError as error:
                log.debug("farewell_failed", reason=str(error))
        self._heard = False
        self._wake_reader.close()
        self._wake_writer.close()

    def _attempt(self, now: Instant) -> None:
        if self._connecting is not None:
            if self._connecting.is_alive():
                return
            self._connecting = None
            if self._client is not None:
                return
        if now.monotonic < self._next_attempt:
            return
        client = self._new_client()
        self._connecting = threading.Thread(target=self._connect, args=(client,), name="mqtt-connect", daemon=True)
        self._connecting.start()

    def _new_client(self) -> BufferedClient:
        client_id, username, password = self._identity
        self._generation += 1
        self._confirmations.clear()
        client = BufferedClient(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=False,
            protocol=MQTTProtocolVersion.MQTTv311,
            manual_ack=True,
        )
        client.username_pw_set(username, password)
        client.will_set(self._will.topic, self._will.payload, self._will.qos, self._will.retained)
        client.max_inflight_messages_set(_INFLIGHT)
        client.connect_timeout = self._settings.connect_timeout
        if self._tls is not None:
            client.tls_set_context(self._tls)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        return client

    def _connect(self, client: BufferedClient) -> None:
        """Open the connection; in a thread of its own, because looking a host up and reaching it may take long."""
        try:
            client.connect(self.address.host, self.address.port, self._settings.keepalive)
            sock = cast("socket.socket | None", client.socket())
            if sock is not None:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._client = client
        except (OSError, ValueError) as error:
            self._fail(str(error))
        self.wake()

    def _fail(self, reason: str) -> None:
        settings = self._settings
        self._client = None
        cap = min(settings.backoff_cap, settings.backoff * 2 ** min(self._failures, 16))
        self._next_attempt = self._clock().monotonic + random.uniform(0, cap)  # noqa: S311 -- jitter, no secret
        self._failures += 1
        if reason != self.last_error:
            log.warning("broker_unreachable", broker=str(self.address), reason=reason)
        self.last_error = reason

    def _lost(self, client: BufferedClient, reason: str) -> None:
        if client is not self._client:
            return
        was_heard, self._heard = self._heard, False
        self._fail(reason)
        if was_heard and self._listener is not None:
            self._listener.disconnected()

    def _wait(self, client: BufferedClient | None, sock: socket.socket | None, timeout: float) -> None:
        poller = select.poll()
        poller.register(self._wake_reader, select.POLLIN)
        if client is not None and sock is not None:
            if client.buffered:
                timeout = 0.0
            interest = (select.POLLIN if self._has_room() else 0) | (select.POLLOUT if client.wants_flush else 0)
            poller.register(sock, interest)
        for descriptor, _ in poller.poll(timeout * 1000):
            if descriptor == self._wake_reader.fileno():
                self._wake_reader.recv(4096)

    def _has_room(self) -> bool:
        inbox, settings = self._inbox, self._settings
        return inbox is not None and len(inbox) < settings.inbox_messages and inbox.bytes < settings.inbox_bytes

    def _read(self, client: BufferedClient) -> None:
        while self._has_room():
            code = client.loop_read()
            if code != MQTTErrorCode.MQTT_ERR_SUCCESS or client.socket() is None:
                self._lost(client, str(code.name))
                return
            if not client.buffered:
                return

    def _on_connect(
        self, client: Any, _data: Any, flags: ConnectFlags, code: ReasonCode, _properties: Properties | None
    ) -> None:
        if code.value >= _FAILURE:
            self._lost(client, f"the broker refuses the manager: {code}")
            return
        self._fresh = not flags.session_present
        client.subscribe(FILTERS)

    def _on_subscribe(self, _client: Any, _data: Any, _mid: int, codes: list[ReasonCode], _properties: Any) -> None:
        refused = [topic for (topic, _), code in zip(FILTERS, codes, strict=False) if code.value >= _FAILURE]
        if refused:
            log.error("subscription_refused", filters=refused)
        self._heard = True
        self._failures, self.last_error = 0, None
        log.info("broker_connected", broker=str(self.address), fresh=self._fresh)
        self.publish(self._presence())
        if self._listener is not None:
            self._listener.connected(self._clock(), fresh=self._fresh)

    def _on_message(self, client: Any, _data: Any, message: MQTTMessage) -> None:
        handle = self._generation * _MAX_MID + message.mid if message.qos else None
        try:
            topic = message.topic
            row, identifier = resolve(topic)
        except (TopicError, UnicodeDecodeError):
            self.unknown_topics += 1
            if handle is not None:
                client.ack(message.mid, 1)
            return
        if self._inbox is not None and identifier is not None:
            inbound = Inbound(row, identifier, topic[len(PREFIX) :], bytes(message.payload), handle)
            self._inbox.put(inbound, self._clock().monotonic)

    def _on_publish(self, _client: Any, _data: Any, mid: int, _code: Any, _properties: Any) -> None:
        confirm = self._confirmations.pop(mid, None)
        if confirm is not None:
            confirm()
