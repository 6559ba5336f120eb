"""The MQTT door: receives agents' messages and publishes for the engine, all in the engine's own thread."""

import contextlib
import select
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import structlog
from paho.mqtt.client import ConnectFlags
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from manager.backoff import Backoff
from manager.domain.ingest.topics import ALL, OF_THE_LEADER, Filters, ReceivedTopics, unwanted
from manager.domain.instant import Instant
from manager.engine.batch import Publication
from manager.engine.inbox import Inbound, Inbox
from manager.engine.ports import ConnectionListener
from manager.mqtt.broker_address import BrokerAddress
from manager.mqtt.connect_attempt import ConnectAttempt, certificate_end
from manager.mqtt.paho_client import NOT_LEADING, BufferedClient
from manager.mqtt.retained_cleanup import REGISTRATIONS, RetainedCleanup
from schemas.limits import MIB
from schemas.topics import REGISTRATION

log = structlog.get_logger(__name__)

_FAILURE = 128
_MAX_MID = 0x10000

_CHUNKS = 256
"""The maximum number of chunks read from the socket between two batches: 64 MiB."""

_STEP = 0.5
"""Seconds between two polls that count as waiting for the broker's answer to CONNECT and SUBSCRIBE."""

_LARGE_BACKLOG = 4 * MIB
"""The maximum number of bytes in the inbox, which only large messages reach: eight thousand ordinary ones are less."""


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """Timeouts in seconds, and the inbox size at which reading stops."""

    keepalive: int = 30
    connect_timeout: float = 5.0
    answer_timeout: float = 10.0
    clear_every: float = 600.0
    backoff: float = 0.2
    backoff_cap: float = 5.0
    inbox_messages: int = 8000
    inbox_bytes: int = 32 * 1024 * 1024


class BrokerLink:
    """One persistent session at one broker. Not thread-safe, except `wake`.

    Args:
        address: the broker's address.
        client_id: the manager's id; its session stores messages that arrive while it is disconnected.
        username: the manager's login at the broker.
        password: returns the password as it is now, None if the broker requires none; called before each connection and
            before `before_connect`, in the same thread.
        will: the manager's last will; `presence` is published on the same topic. None where it has no presence.
        presence: returns the publication for each connect.
        clock: reads both clocks.
        settings: timeouts and bounds.
        tls: verifies the broker, if the address uses TLS.
        other_topics: handlers for further topics; called at once, without the inbox.
        cleared_filter: retained messages that match it are cleared at each connect, and at intervals.
        before_connect: called before each connection, in a thread; returns a reason not to connect, or None.
        filters: returns the subscriptions, which may be shared; called at each connect.
        possible_filters: all that `filters` may return, and those of before, which the session may still have.
        clean_session: whether the session ends with the connection.
        may_publish: returns whether this manager leads; one that does not drops what is buffered, and does not connect.
    """

    def __init__(
        self,
        address: BrokerAddress,
        client_id: str,
        username: str,
        password: Callable[[], str | None],
        *,
        will: Publication | None,
        presence: Callable[[], Publication] | None,
        clock: Callable[[], Instant],
        settings: LinkSettings | None = None,
        tls: ssl.SSLContext | None = None,
        other_topics: Mapping[str, Callable[[bytes], None]] | None = None,
        cleared_filter: str | None = None,
        before_connect: Callable[[], str | None] | None = None,
        filters: Callable[[], Filters] = lambda: ALL,
        possible_filters: Filters = (*ALL, *OF_THE_LEADER),
        clean_session: bool = False,
        may_publish: Callable[[], bool] = lambda: True,
    ) -> None:
        self._may_publish = may_publish
        self._filters = filters
        self._possible_filters = possible_filters
        self._asked: Filters = ()
        self._clean_session = clean_session
        self.address = address
        self._client_id, self._username, self._password = client_id, username, password
        self._will = will
        self._presence = presence
        self._clock = clock
        self._settings = settings or LinkSettings()
        self._backoff = Backoff(self._settings.backoff, self._settings.backoff_cap)
        self._tls = tls
        self._other_topics = {topic.encode(): handler for topic, handler in (other_topics or {}).items()}
        self._before_connect = before_connect
        self.cleanup = RetainedCleanup(cleared_filter, self._settings.clear_every)
        self._client: BufferedClient | None = None
        self._attempt: ConnectAttempt | None = None
        self._generation = 0
        self._ready = False
        self._fresh = True
        self._next_attempt = self._next_misc = self._answer_due = self._polled_at = 0.0
        self._now = clock()
        self._topics = ReceivedTopics()
        self._inbox: Inbox | None = None
        self._listener: ConnectionListener | None = None
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)
        self.unknown_topics = 0
        self.last_error: str | None = None
        self.peer_expires_at: float | None = None
        """The expiry of the broker's certificate, in seconds since 1970; None before the first TLS connection."""

    def attach(self, inbox: Inbox, listener: ConnectionListener) -> None:
        """Set the inbox for messages and the listener for the connection; before the first `poll`."""
        self._inbox, self._listener = inbox, listener

    @property
    def ready(self) -> bool:
        """Whether the broker is connected and the subscriptions are in force."""
        return self._ready

    @property
    def backlog(self) -> int:
        """The number of publications with a `confirm` that the broker has not acknowledged yet."""
        return self._client.unconfirmed if self._client is not None else 0

    def wake(self) -> None:
        """End the wait of `poll`; callable from any thread."""
        with contextlib.suppress(OSError):  # already awake, or closed
            self._wake_writer.send(b"\0")

    def begin_connecting(self) -> None:
        """Begin to connect, in a thread; the first `poll` goes on with it."""
        if self._may_publish():
            self._connect()

    def poll(self, timeout: float) -> None:
        """Wait at most `timeout` seconds for an event, and read messages as far as the inbox has room."""
        if self._client is not None and not self._may_publish():
            self._lost(self._client, NOT_LEADING)
        if self._client is None and self._may_publish():
            self._connect()
        client = self._client
        if client is None:
            self._wait(timeout)
            return
        try:
            client.flush()
            if not self._ready:  # a long step of the engine since the last poll is no silence of the broker
                self._answer_due += max(0.0, self._clock().monotonic - self._polled_at - _STEP)
            self._wait(timeout, client)
            self._now = self._clock()
            self._read(client)
            self._polled_at = self._clock().monotonic
            if not self._has_room():  # the answer may be behind messages that wait in the broker's session
                self._answer_due = self._polled_at + self._settings.answer_timeout
            if self._now.monotonic >= self._next_misc:
                self._next_misc = self._now.monotonic + 1.0
                client.check_keep_alive(reading=self._has_room())
                if self._ready:
                    self.cleanup.tick(client, self._now.monotonic)
                if not self._ready and self._now.monotonic >= self._answer_due:
                    self._lost(client, "the broker does not answer the manager's CONNECT or SUBSCRIBE")
        except OSError as error:
            self._lost(client, str(error))

    def pause(self, timeout: float) -> None:
        """Wait at most `timeout` seconds without reading; `wake` ends the wait.

        What arrives meanwhile is read in one go: a wake-up of the process for each message costs more than the message.
        """
        self.flush()
        if self._client is not None:
            self._wait(timeout, self._client, reads=False)

    def flush(self) -> None:
        """Send publications, as far as the socket accepts them now."""
        if self._client is not None:
            try:
                self._client.flush()
            except OSError as error:
                self._lost(self._client, str(error))

    def publish(self, publication: Publication) -> None:
        """Publish a message; without a connection it is lost."""
        if self._client is not None and self._may_publish():
            self._client.send(
                publication.topic,
                publication.payload,
                publication.qos,
                retained=publication.retained,
                confirm=publication.confirm,
            )

    def acknowledge(self, handles: list[int]) -> None:
        """Acknowledge messages; handles of an earlier connection are ignored: the broker resends those messages."""
        if self._client is not None:
            first = self._generation * _MAX_MID
            self._client.acknowledge([handle - first for handle in handles if handle >= first])

    def withdraw(self, reason: str) -> None:
        """Disconnect, and reconnect with backoff.

        Args:
            reason: shown as `last_error`.
        """
        if self._client is not None:
            self._lost(self._client, reason)

    def close(self, farewell: Publication | None) -> None:
        """Publish a sign-off instead of the will, if one is given, disconnect, and release the sockets."""
        if self._attempt is not None:
            self._attempt.abandon()
        if self._client is not None:
            try:
                if farewell is not None:
                    self.publish(farewell)
                self._client.flush()
                self._client.disconnect()
            except OSError as error:
                log.debug("farewell_failed", reason=str(error))
            self._client.close_sockets()
        self._client, self._ready = None, False
        self._wake_reader.close()
        self._wake_writer.close()

    def _connect(self) -> None:
        """Use the connection that an attempt has opened, or start an attempt that is due."""
        attempt, self._now = self._attempt, self._clock()
        if attempt is None:
            if self._now.monotonic >= self._next_attempt:
                client = self._new_client()
                self._attempt = ConnectAttempt(
                    client, self.address, self._settings.keepalive, self.wake, lambda: self._prepare(client)
                )
        elif attempt.finished:
            self._attempt = None
            if attempt.error is None:
                self._generation += 1
                self._client = attempt.client
                self._polled_at = self._now.monotonic
                self._answer_due = self._polled_at + self._settings.answer_timeout
                self.peer_expires_at = certificate_end(attempt.client.socket())
            else:
                self._failed(attempt.error)

    def _new_client(self) -> BufferedClient:
        client = BufferedClient(self._client_id, clean_session=self._clean_session)
        client.may_send = self._may_publish
        if self._will is not None:
            client.will_set(self._will.topic, self._will.payload, self._will.qos, self._will.retained)
        client.connect_timeout = self._settings.connect_timeout
        if self._tls is not None:
            client.tls_set_context(self._tls)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        return client

    def _prepare(self, client: BufferedClient) -> str | None:
        """Give a client its login, and return a reason not to connect, or None. Called in the attempt's thread."""
        client.username_pw_set(self._username, self._password())
        return None if self._before_connect is None else self._before_connect()

    def _failed(self, reason: str) -> None:
        self._next_attempt = self._now.monotonic + self._backoff.next_delay()
        if reason != self.last_error:
            log.warning("broker_unreachable", broker=str(self.address), reason=reason)
        self.last_error = reason

    def _lost(self, client: BufferedClient, reason: str) -> None:
        if client is not self._client:
            return
        self._client = None
        client.close_sockets()
        was_ready, self._ready = self._ready, False
        self._failed(reason)
        if was_ready and self._listener is not None:
            self._listener.disconnected()

    def _wait(self, timeout: float, client: BufferedClient | None = None, *, reads: bool = True) -> None:
        poller = select.poll()
        poller.register(self._wake_reader, select.POLLIN)
        sock = cast("socket.socket | None", client.socket()) if client is not None else None
        if client is not None and sock is not None:
            has_room = reads and self._has_room()
            if client.pending and has_room:
                timeout = 0.0
            events = (select.POLLIN if has_room else 0) | (select.POLLOUT if client.wants_flush else 0)
            if events:  # a lost connection ends every wait for its socket, and only reading or sending notices it
                poller.register(sock, events)
        for descriptor, _ in poller.poll(timeout * 1000):
            if descriptor == self._wake_reader.fileno():
                self._wake_reader.recv(4096)

    def _has_room(self) -> bool:
        inbox, settings = self._inbox, self._settings
        return inbox is not None and inbox.has_room(settings.inbox_messages, settings.inbox_bytes)

    def _read(self, client: BufferedClient) -> None:
        """Read from the socket, as far as the inbox has room.

        With more than a batch in the inbox, read everything that arrives without a pause: a commit in between would
        delay reading, and a flood must be detected before the broker's queue is long.
        """
        inbox = self._inbox
        for _ in range(_CHUNKS):
            if inbox is None or not self._has_room():
                return
            more = client.receive() if not client.pending else True
            client.process(self._deliver, self._settings.inbox_messages - len(inbox))
            if inbox.is_flooded or not (more or (inbox.bytes > _LARGE_BACKLOG and client.has_more())):
                return

    def _deliver(self, topic: bytes, payload: bytes, mid: int, retained: bool) -> None:
        """Add a message to the inbox."""
        known = self._topics[topic]
        if known is None or (known[0] is REGISTRATION and (retained or not payload)):
            self._handle_other(topic, payload, retained)
            if mid and self._client is not None:
                self._client.acknowledge([mid])
        elif self._inbox is not None:
            row, identifier, below_root = known
            handle = self._generation * _MAX_MID + mid if mid else None
            self._inbox.put(Inbound(row, identifier, below_root, payload, handle), self._now.monotonic)

    def _handle_other(self, topic: bytes, payload: bytes, retained: bool) -> None:
        """Handle a message that is not for the engine."""
        handler = self._other_topics.get(topic)
        if handler is not None:
            handler(payload)
        elif not topic.startswith(REGISTRATIONS):
            self.unknown_topics += 1
        elif (left_behind := self.cleanup.cleared_topic(topic, payload, retained)) is not None:
            self.publish(Publication(left_behind, b"", retained=True))

    def _on_connect(
        self, client: Any, _data: Any, flags: ConnectFlags, code: ReasonCode, _properties: Properties | None
    ) -> None:
        if code.value >= _FAILURE:
            self._lost(client, f"the broker refuses the manager: {code}")
            return
        self._fresh = not flags.session_present
        self._topics.clear()  # those of removed agents with it
        self._asked = filters = self._filters()
        if flags.session_present:
            client.unsubscribe(unwanted(filters, self._possible_filters))
        if topics := [*filters, *((topic.decode(), 0) for topic in self._other_topics)]:
            client.subscribe(topics)
        else:
            self._serve(client)

    def _on_subscribe(self, client: Any, _data: Any, mid: int, codes: list[ReasonCode], _properties: Any) -> None:
        if self.cleanup.subscribed(client, mid):
            return
        refused = [topic for (topic, _), code in zip(self._asked, codes, strict=False) if code.value >= _FAILURE]
        if refused:
            self._lost(  # without subscriptions the manager receives nothing, and every agent would seem silent
                client,
                f"the broker refuses the manager's subscription to {', '.join(refused)}:"
                f" grant its login {self._username} to read these topics",
            )
            return
        self._serve(client)

    def _serve(self, client: BufferedClient) -> None:
        """Begin: the broker is connected, and the subscriptions are in force."""
        self._ready = True
        self.cleanup.reset()
        self.cleanup.tick(client, self._now.monotonic)
        self._backoff.reset()
        self.last_error = None
        log.info("broker_connected", broker=str(self.address), fresh=self._fresh)
        if self._presence is not None:
            self.publish(self._presence())
        if self._listener is not None:
            self._listener.connected(self._clock(), fresh=self._fresh)
