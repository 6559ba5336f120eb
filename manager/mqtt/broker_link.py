"""The MQTT door: hears what agents publish, and publishes for the engine, all in the engine's own thread."""

import contextlib
import random
import select
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast

import structlog
from paho.mqtt.client import ConnectFlags
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from manager.domain.instant import Instant
from manager.engine.batch import Publication
from manager.engine.inbox import Inbound, Inbox
from manager.mqtt.address import BrokerAddress
from manager.mqtt.paho_client import Attempt, BufferedClient
from schemas.errors import TopicError
from schemas.limits import MIB
from schemas.topics import PREFIX, REGISTRATION, TABLE, Role, Topic, resolve

log = structlog.get_logger(__name__)

_FAILURE = 128
_MAX_MID = 0x10000
_TOPICS_KNOWN = 65_536
_REGISTRATIONS = REGISTRATION.filter.removesuffix("+").encode()
_PIECES = 256
"""Pieces of the socket's bytes between two batches at most: 64 MiB."""

_HEAVY = 2 * MIB
"""What waits in the inbox only where messages are large: five thousand ordinary ones are less."""

_PAUSE = 2
"""Milliseconds without a byte that count as the end of what comes."""

FILTERS = [(row.filter, row.qos) for row in TABLE if Role.MANAGER in row.readers and row.publisher is not Role.MANAGER]
"""What the manager subscribes to: every topic that others publish for it."""


@dataclass(frozen=True, slots=True)
class LinkSettings:
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


class BrokerLink:
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
        aside: topics outside the table, and who is given their messages at once, past the inbox.
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
        settings: LinkSettings | None = None,
        tls: ssl.SSLContext | None = None,
        aside: Mapping[str, Callable[[bytes], None]] | None = None,
    ) -> None:
        self.address = address
        self._identity = (client_id, username, password)
        self._will = will
        self._presence = presence
        self._clock = clock
        self._settings = settings or LinkSettings()
        self._tls = tls
        self._aside = {topic.encode(): heard for topic, heard in (aside or {}).items()}
        self._client: BufferedClient | None = None
        self._attempt: Attempt | None = None
        self._generation = 0
        self._heard = False
        self._fresh = True
        self._failures = 0
        self._next_attempt = 0.0
        self._next_misc = 0.0
        self._now = clock()
        self._topics: dict[bytes, tuple[Topic, str, str]] = {}
        self._inbox: Inbox | None = None
        self._listener: Listener | None = None
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)
        self.unknown_topics = 0
        self.cleared = 0
        """Messages that were left behind on registration topics."""
        self.last_error: str | None = None
        self.peer_expires_at: float | None = None
        """When the broker's certificate expires, in seconds since 1970; None until one was met."""

    def attach(self, inbox: Inbox, listener: Listener) -> None:
        """Say where messages go and who is told of the connection; before the first `poll`."""
        self._inbox, self._listener = inbox, listener

    @property
    def ready(self) -> bool:
        """Whether the broker is connected and the subscriptions stand."""
        return self._heard

    @property
    def backlog(self) -> int:
        """How many publications that ask for it the broker has not confirmed yet."""
        return self._client.unconfirmed if self._client is not None else 0

    def wake(self) -> None:
        """End the wait of `poll`; from any thread."""
        with contextlib.suppress(OSError):  # it is awake already, or closed
            self._wake_writer.send(b"\0")

    def poll(self, timeout: float) -> None:
        """Wait at most `timeout` seconds for something, and take in what is there, as far as the inbox has room."""
        if self._client is None:
            self._reach_out()
        client = self._client
        if client is None:
            self._wait(timeout)
            return
        try:
            client.flush()
            self._wait(timeout, client)
            self._now = self._clock()
            self._read(client)
            if self._now.monotonic >= self._next_misc:
                self._next_misc = self._now.monotonic + 1.0
                client.loop_misc()
        except OSError as error:
            self._lost(client, str(error))

    def push(self) -> None:
        """Send what was published, as far as the socket takes it now."""
        if self._client is not None:
            try:
                self._client.flush()
            except OSError as error:
                self._lost(self._client, str(error))

    def publish(self, publication: Publication) -> None:
        """Hand a message to the broker; while it is not connected, it is lost."""
        if self._client is not None:
            self._client.send(
                publication.topic,
                publication.payload,
                publication.qos,
                retained=publication.retained,
                confirm=publication.confirm,
            )

    def acknowledge(self, handles: list[int]) -> None:
        """Let the broker forget messages; those of an earlier connection it will send again."""
        if self._client is not None:
            first = self._generation * _MAX_MID
            self._client.acknowledge([handle - first for handle in handles if handle >= first])

    def close(self, farewell: Publication) -> None:
        """Say goodbye and disconnect; nothing is heard after."""
        if self._attempt is not None:
            self._attempt.abandon()
        if self._client is not None:
            try:
                self.publish(farewell)
                self._client.flush()
                self._client.disconnect()
            except OSError as error:
                log.debug("farewell_failed", reason=str(error))
            self._client.hang_up()
        self._client, self._heard = None, False
        self._wake_reader.close()
        self._wake_writer.close()

    def _reach_out(self) -> None:
        """Take over the connection that an attempt has opened, or begin an attempt when its time has come."""
        attempt, self._now = self._attempt, self._clock()
        if attempt is None:
            if self._now.monotonic >= self._next_attempt:
                self._attempt = Attempt(self._new_client(), self.address, self._settings.keepalive, self.wake)
        elif attempt.finished:
            self._attempt = None
            if attempt.error is None:
                self._generation += 1
                self._client = attempt.client
                self.peer_expires_at = _certificate_end(attempt.client.socket())
            else:
                self._failed(attempt.error)

    def _new_client(self) -> BufferedClient:
        client_id, username, password = self._identity
        client = BufferedClient(client_id)
        client.username_pw_set(username, password)
        client.will_set(self._will.topic, self._will.payload, self._will.qos, self._will.retained)
        client.connect_timeout = self._settings.connect_timeout
        if self._tls is not None:
            client.tls_set_context(self._tls)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        return client

    def _failed(self, reason: str) -> None:
        settings = self._settings
        cap = min(settings.backoff_cap, settings.backoff * 2 ** min(self._failures, 16))
        self._next_attempt = self._now.monotonic + random.uniform(0, cap)  # noqa: S311 -- jitter, no secret
        self._failures += 1
        if reason != self.last_error:
            log.warning("broker_unreachable", broker=str(self.address), reason=reason)
        self.last_error = reason

    def _lost(self, client: BufferedClient, reason: str) -> None:
        if client is not self._client:
            return
        self._client = None
        client.hang_up()
        was_heard, self._heard = self._heard, False
        self._failed(reason)
        if was_heard and self._listener is not None:
            self._listener.disconnected()

    def _wait(self, timeout: float, client: BufferedClient | None = None) -> None:
        poller = select.poll()
        poller.register(self._wake_reader, select.POLLIN)
        sock = cast("socket.socket | None", client.socket()) if client is not None else None
        if client is not None and sock is not None:
            has_room = self._has_room()
            if client.pending and has_room:
                timeout = 0.0
            poller.register(sock, (select.POLLIN if has_room else 0) | (select.POLLOUT if client.wants_flush else 0))
        for descriptor, _ in poller.poll(timeout * 1000):
            if descriptor == self._wake_reader.fileno():
                self._wake_reader.recv(4096)

    def _has_room(self) -> bool:
        inbox, settings = self._inbox, self._settings
        return inbox is not None and len(inbox) < settings.inbox_messages and inbox.bytes < settings.inbox_bytes

    def _read(self, client: BufferedClient) -> None:
        """Take in what the socket has, as far as there is room.

        Where more waits than a batch takes, a commit would only hold up the reading: a flood is to be noticed, and
        turned away, before the broker's queue is long. So then all is read that comes without a pause.
        """
        for _ in range(_PIECES):
            if not self._has_room():
                return
            more = client.receive() if not client.pending else True
            client.take(self._deliver)
            inbox = self._inbox
            if inbox is None or inbox.is_flooded or not (more or (inbox.bytes > _HEAVY and _comes_on(client))):
                return

    def _deliver(self, topic: bytes, payload: bytes, mid: int, retained: bool) -> bool:
        """Put a message into the inbox; return whether there is room for another."""
        known = self._topics.get(topic) or self._resolve(topic)
        if known is None or (known[0] is REGISTRATION and (retained or not payload)):
            self._put_aside(topic, payload)
            if mid and self._client is not None:
                self._client.acknowledge([mid])
        elif self._inbox is not None:
            row, identifier, below_root = known
            handle = self._generation * _MAX_MID + mid if mid else None
            self._inbox.put(Inbound(row, identifier, below_root, payload, handle), self._now.monotonic)
        return self._has_room()

    def _put_aside(self, topic: bytes, payload: bytes) -> None:
        """Take what is no message for the engine.

        Where the broker cannot forbid the retain flag, clients may leave messages on the registration topics. Whoever
        still waits for an answer sends again, so they are cleared unread; so is what no registration can be.
        """
        heard = self._aside.get(topic)
        if heard is not None:
            heard(payload)
        elif not topic.startswith(_REGISTRATIONS):
            self.unknown_topics += 1
        elif payload:  # an empty one is the echo of a clearing
            self.cleared += 1
            with contextlib.suppress(UnicodeDecodeError):
                self.publish(Publication(topic.decode(), b"", retained=True))

    def _resolve(self, topic: bytes) -> tuple[Topic, str, str] | None:
        """Look a topic up in the table, and remember it: agents publish to the same few again and again."""
        try:
            text = topic.decode()
            row, identifier = resolve(text)
        except (TopicError, UnicodeDecodeError):
            return None
        if identifier is None:
            return None
        if len(self._topics) >= _TOPICS_KNOWN:
            self._topics.clear()
        known = self._topics[topic] = (row, identifier, text[len(PREFIX) :])
        return known

    def _on_connect(
        self, client: Any, _data: Any, flags: ConnectFlags, code: ReasonCode, _properties: Properties | None
    ) -> None:
        if code.value >= _FAILURE:
            self._lost(client, f"the broker refuses the manager: {code}")
            return
        self._fresh = not flags.session_present
        client.subscribe([*FILTERS, *((topic.decode(), 0) for topic in self._aside)])

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


def _comes_on(client: BufferedClient) -> bool:
    """Return whether the socket has more at once."""
    poller = select.poll()
    poller.register(cast("socket.socket", client.socket()), select.POLLIN)
    return bool(poller.poll(_PAUSE))


def _certificate_end(sock: object) -> float | None:
    """Return when the certificate at the other end of a connection expires; None without TLS."""
    met = sock.getpeercert() if isinstance(sock, ssl.SSLSocket) else None
    return float(ssl.cert_time_to_seconds(str(met["notAfter"]))) if met else None
