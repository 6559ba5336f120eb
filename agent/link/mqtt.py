"""A link over MQTT 3.1.1: one paho client for one connection.

After a reconnect paho sends unacknowledged messages again, with their old payload. So a client never reconnects here:
it ends with its connection, and reports wait in the outbox.
"""

import queue
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any, cast

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from agent.errors import GuardError
from agent.link.address import ManagerAddress
from agent.link.link import Account, Closed, Delivered, Event, MessageReceived, Opened, Post, Subscribed, Will
from agent.link.tls import Trust
from agent.logs import EventLog
from schemas import topics
from schemas.errors import TopicError
from schemas.protocol_mismatch import no_answer
from schemas.topics import Topic

_log = EventLog("link")

_REFUSED = 128
_UNAUTHORIZED = ("Bad user name or password", "Not authorized")


class _Client(Client):
    """Paho's client, whose thread has a pair of Unix sockets to be woken by, alone writes, and says when it has ended.

    Paho wakes its thread by a pair of TCP sockets, for which it listens on loopback a moment: whoever connects first
    has one end, and a publish fails. And it ends the thread without a callback where `select` fails. Afterwards its
    `publish` would write itself, and call back in the guard's loop, which would wait for room that it alone makes.
    """

    on_end: Callable[[], None]

    def loop_start(self) -> MQTTErrorCode:
        """Start the thread."""
        self._sockpairR, self._sockpairW = socket.socketpair()
        for end in (self._sockpairR, self._sockpairW):
            end.setblocking(False)
        self._thread_terminate = False
        self._thread = threading.Thread(target=self._thread_main, name="link-mqtt", daemon=True)
        self._thread.start()
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _ssl_wrap_socket(self, tcp_sock: socket.socket) -> ssl.SSLSocket:
        """Return the socket after its handshake; one that fails closes it: paho leaves it to the garbage collector."""
        return cast("ssl.SSLContext", self._ssl_context).wrap_socket(tcp_sock, server_hostname=self._host)

    def _thread_main(self) -> None:
        try:
            super()._thread_main()
        finally:
            self.on_end()


class MqttDialer:
    """Dials one broker.

    Args:
        address: The broker's address.
        keep_alive: MQTT keep-alive in seconds.
        trust: Verifies the broker's certificate; None without TLS.
    """

    def __init__(self, address: ManagerAddress, keep_alive: int, trust: Trust | None = None) -> None:
        self._address = address
        self._keep_alive = keep_alive
        self._trust = trust

    def __call__(self, account: Account, will: Will | None, post: Post) -> "MqttLink":
        """Start connecting; see `agent.link.link.Dialer`."""
        client = _Client(
            CallbackAPIVersion.VERSION2,
            client_id=account.client_id,
            clean_session=True,
            protocol=MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
        )
        client.on_socket_register_write = _nothing  # while there is one, no call writes to the socket by itself
        client.username_pw_set(account.username, account.password)
        client.max_inflight_messages_set(0)  # unlimited: the outbox has its own window
        if self._trust is not None:
            client.tls_set_context(self._trust.context)
        link = MqttLink(client, account, post, self._address)
        if will is not None:
            client.will_set(link.topic(will.row), will.payload, will.row.qos, will.row.retained)
        link.dial(self._keep_alive, self._trust)
        return link


class MqttLink:
    """One connection; see `agent.link.link.Link`."""

    def __init__(self, client: _Client, account: Account, post: Post, address: ManagerAddress) -> None:
        self._client = client
        self._address = address
        self._answered = False
        self._identifiers = account.identifiers
        self._post = post
        self._over = threading.Event()
        self._gone = threading.Event()
        self._subscribing: dict[int, tuple[Topic, ...]] = {}
        self._numbering = threading.Lock()  # the answer to a subscribe may arrive before its number is stored
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        client.on_end = self._on_end

    def topic(self, row: Topic) -> str:
        """Return the topic of a row with this link's own ids."""
        return row.address(self._identifiers.get(row.placeholder or ""))

    def dial(self, keep_alive: int, trust: Trust | None) -> None:
        """Connect in a separate thread; `Opened` or `Closed` is posted."""

        def connect() -> None:
            try:
                if trust is not None:
                    trust.fetch_wanted_ca()
                self._client.connect(self._address.host, self._address.port, keep_alive)
                self._client.loop_start()  # in paho's thread
            except (OSError, ValueError, GuardError) as error:
                self._tell(Closed(trust.reason(error) if trust else str(error) or type(error).__name__))
                self._let_go()

        threading.Thread(target=connect, name="link-dial", daemon=True).start()

    def subscribe(self, *rows: Topic) -> None:
        """Subscribe in one packet."""
        # By name, never by a wildcard: RabbitMQ delivers no retained message for a wildcard.
        filters = [(self.topic(row), int(row.qos)) for row in rows]
        with self._numbering:
            code, number = self._client.subscribe(filters)
            if code is MQTTErrorCode.MQTT_ERR_SUCCESS and number is not None:
                self._subscribing[number] = rows

    def unsubscribe(self, row: Topic) -> None:
        """Unsubscribe from one row."""
        self._client.unsubscribe(self.topic(row))

    def publish(self, row: Topic, payload: bytes) -> int | None:
        """Send one message."""
        sent = self._client.publish(self.topic(row), payload, row.qos, row.retained)
        return sent.mid if sent.rc is MQTTErrorCode.MQTT_ERR_SUCCESS else None

    def close(self, patience: float = 0.0) -> None:
        """Send DISCONNECT, which ends paho's thread."""
        self._over.set()
        if self._client.disconnect() is MQTTErrorCode.MQTT_ERR_SUCCESS and patience > 0:
            self._gone.wait(patience)

    def _tell(self, event: Event) -> None:
        """Post an event; wait while the queue is full, for back pressure on the broker instead of memory growth."""
        while not self._over.is_set():
            try:
                self._post(self, event)
            except queue.Full:
                continue
            break

    def _let_go(self) -> None:
        """Break the reference cycle of client and link, so that the client's sockets close without the cyclic GC."""
        self._client.on_connect = self._client.on_disconnect = self._client.on_subscribe = None
        self._client.on_publish = self._client.on_message = None
        self._client.on_end = _nothing

    def _on_connect(
        self, _client: Client, _data: Any, _flags: ConnectFlags, code: ReasonCode, _properties: Properties | None
    ) -> None:
        self._answered = True
        if self._over.is_set():
            self._client.disconnect()  # the link was closed while it was connecting
        elif code.is_failure:
            self._tell(Closed(f"the broker said: {code}", unauthorized=str(code) in _UNAUTHORIZED))
        else:
            self._tell(Opened(_peer(self._client)))

    def _on_disconnect(
        self, _client: Client, _data: Any, _flags: DisconnectFlags, code: ReasonCode, _properties: Properties | None
    ) -> None:
        self._gone.set()
        self._tell(Closed(str(code) if self._answered else no_answer(str(self._address))))
        self._let_go()

    def _on_end(self) -> None:
        """Close a connection whose thread has ended without a disconnect."""
        if not self._gone.is_set():
            self._gone.set()
            self._tell(Closed("the connection's thread has ended: too many files may be open"))
            self._let_go()

    def _on_subscribe(
        self, _client: Client, _data: Any, number: int, codes: list[ReasonCode], _properties: Properties | None
    ) -> None:
        with self._numbering:
            rows = self._subscribing.pop(number, ())
        refused = tuple(row for row, code in zip(rows, codes, strict=False) if code.value >= _REFUSED)
        self._tell(Subscribed(rows, refused))

    def _on_publish(
        self, _client: Client, _data: Any, number: int, _code: ReasonCode, _properties: Properties | None
    ) -> None:
        self._tell(Delivered(number))

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        try:
            row, identifier = topics.resolve(message.topic)
        except (TopicError, UnicodeDecodeError):
            return
        if row.placeholder and self._identifiers.get(row.placeholder) != identifier:
            return
        if len(message.payload) > row.limit:
            _log.warning("message_too_large", row=row.name, bytes=len(message.payload), limit=row.limit)
            return
        self._tell(MessageReceived(row, bytes(message.payload)))


def _nothing(*_arguments: object) -> None:
    pass


def _peer(client: Client) -> str | None:
    connection = client.socket()
    try:
        # paho's socket type lacks the methods of socket.socket; TLS sockets are subclasses of it.
        return str(connection.getpeername()[0]) if isinstance(connection, socket.socket) else None
    except OSError:
        return None
