"""A paho client that reads and writes messages in large chunks; paho handles connecting, subscribing and pings.

For each message paho makes three system calls, builds an object, writes two log lines, and takes four locks; for each
PUBACK it scans all messages in flight. Framing messages and acknowledgements here removes nine tenths of that cost
(measured in docs/performance.md). paho sees only complete packets of other types. Four private methods are
overridden, so paho is pinned to its minor release; `tests/integration/mqtt` fails if bytes no longer pass through them.
"""

import contextlib
import select
import socket
import ssl
from collections import deque
from collections.abc import Callable
from typing import cast

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion

from manager import mqtt_packets as packets

_CHUNK = 256 * 1024
_INFLIGHT = 2000
"""The maximum number of QoS 1 messages sent and not confirmed; further ones are queued."""

_IDLE_MILLISECONDS = 2
"""Milliseconds without a byte that end the reading of a burst."""

_FIRST_MID, _LAST_MID = 0x100, packets.MAX_PACKET_ID
"""The packet ids of messages; paho uses lower ones for subscriptions."""

Deliver = Callable[[bytes, bytes, int, bool], None]
"""Called with topic, payload, packet id (0 with QoS 0) and retain flag of a message."""

Confirm = Callable[[], None]

NOT_LEADING = "this manager does not lead: it publishes nothing, and connects once it leads"


class ClosingClient(Client):
    """paho's client, which closes its sockets: where a TLS handshake fails, and when its connection is of no more use.

    paho leaves them to the garbage collector.
    """

    def _ssl_wrap_socket(self, tcp_sock: socket.socket) -> ssl.SSLSocket:
        """Return the socket after its handshake; `wrap_socket` closes it if that fails."""
        return cast("ssl.SSLContext", self._ssl_context).wrap_socket(tcp_sock, server_hostname=self._host)

    def close_sockets(self) -> None:
        """Close the connection's socket, and the pair of sockets by which paho wakes `loop` and its thread."""
        self._reset_sockets()


class BufferedClient(ClosingClient):
    """One connection; one thread calls `receive`, `process`, `flush` and `loop_misc`.

    paho's own `publish`, `ack` and `on_message` are not used.

    Args:
        client_id: identifies the session.
        clean_session: whether the session ends with the connection.
    """

    def __init__(self, client_id: str, *, clean_session: bool = False) -> None:
        self._inbound = b""
        self._taken = 0
        self._chunks: list[bytes] = []
        self._missing = 0
        self._for_paho = b""
        self._outbound = bytearray()
        self._mid = _FIRST_MID
        self._in_flight: dict[int, Confirm | None] = {}
        self._waiting: deque[tuple[str, bytes, bool, Confirm | None]] = deque()
        self.unconfirmed = 0
        self.pending = False
        self._has_received = False
        self.may_send: Callable[[], bool] = lambda: True
        """Asked before each piece that is sent; where it says no, what is buffered is dropped with the connection."""
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=clean_session,
            protocol=MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
        )

    @property
    def wants_flush(self) -> bool:
        """Whether there are bytes to send."""
        return bool(self._outbound) or self.want_write()

    def receive(self) -> bool:
        """Read one chunk from the socket; return whether there may be more.

        Raises:
            OSError: the connection is closed.
        """
        self._require_socket()
        try:
            chunk = super()._sock_recv(_CHUNK)
        except BlockingIOError:
            return False
        if not chunk:
            raise ConnectionResetError("the broker closed the connection")
        self._has_received = True
        self._chunks.append(chunk)
        self._missing -= len(chunk)
        if self._missing <= 0:
            self._inbound = b"".join((self._inbound[self._taken :], *self._chunks))
            self._taken = 0
            self._chunks.clear()
        return len(chunk) == _CHUNK

    def process(self, deliver: Deliver, most: int) -> None:
        """Handle the complete packets received; `pending` is true if some are left.

        Args:
            deliver: called with each message.
            most: the maximum number of messages; packets behind the last one stay.

        Raises:
            OSError: the connection is closed, or the broker broke the protocol.
        """
        buffer, at, delivered = self._inbound, self._taken, 0
        self.pending = False
        try:
            while found := packets.find_packet(buffer, at):
                if delivered >= most:
                    self.pending = True
                    return
                first, (body, end) = buffer[at], found
                start, at = at, end
                if first & packets.TYPE_MASK == packets.PUBLISH:
                    retained = bool(first & packets.RETAIN)
                    if first & packets.QOS_MASK > packets.QOS_1:
                        raise packets.MalformedPacketError("a message has QoS 2")
                    deliver(*packets.read_publish(buffer, first, body, end), retained)
                    delivered += 1
                elif first & packets.TYPE_MASK == packets.PUBACK:
                    self._confirmed(int.from_bytes(buffer[body:end]))
                else:
                    self._read_with_paho(buffer[start:end])
        finally:
            self._taken = at
        self._missing = packets.missing_bytes(buffer, at) - sum(map(len, self._chunks))

    def send(
        self, topic: str, payload: bytes, qos: int, *, retained: bool = False, confirm: Confirm | None = None
    ) -> None:
        """Publish a message; `confirm` is called when the broker acknowledges it (QoS 1).

        It is lost if the connection ends.
        """
        if not qos:
            self._outbound += packets.publish_packet(topic, payload, retained=retained)
            return
        self.unconfirmed += confirm is not None
        if len(self._in_flight) < _INFLIGHT:
            self._dispatch(topic, payload, retained, confirm)
        else:
            self._waiting.append((topic, payload, retained, confirm))

    def acknowledge(self, mids: list[int]) -> None:
        """Send the acknowledgements of messages."""
        self._outbound += packets.puback_packets(mids)

    def flush(self) -> None:
        """Send buffered bytes, as far as the socket accepts them now.

        Raises:
            OSError: the connection is closed, or nothing may be sent any more.
        """
        self._require_socket()
        if self.want_write():
            self.loop_write()
        with contextlib.suppress(BlockingIOError):
            while self._outbound:
                if not self.may_send():  # before each piece: a process can stand still for a minute between two
                    raise ConnectionAbortedError(NOT_LEADING)
                del self._outbound[: super()._sock_send(bytes(self._outbound[:_CHUNK]))]

    def check_keep_alive(self, *, reading: bool) -> None:
        """Send a ping when it is due, and check that the broker has answered the one before.

        Whatever arrives is a sign of life: under load the answer to a ping is behind a queue of messages.

        Args:
            reading: whether the socket was read; an unread answer does not count as missing.

        Raises:
            OSError: the broker does not answer.
        """
        if self._has_received or not reading:
            self._ping_t = 0.0
        self._has_received = False
        self.loop_misc()
        if self._sock is None:
            raise TimeoutError(f"the broker has not answered for {self.keepalive} s")

    def has_more(self) -> bool:
        """Return whether the socket has more bytes within `_IDLE_MILLISECONDS`."""
        poller = select.poll()
        poller.register(self._require_socket(), select.POLLIN)
        return bool(poller.poll(_IDLE_MILLISECONDS))

    @property
    def peer_expires_at(self) -> float | None:
        """The expiry of the peer's certificate, in seconds since 1970; None without TLS."""
        certificate = self._sock.getpeercert() if isinstance(self._sock, ssl.SSLSocket) else None
        return float(ssl.cert_time_to_seconds(str(certificate["notAfter"]))) if certificate else None

    def _require_socket(self) -> socket.socket:
        if self._sock is None:
            raise ConnectionResetError("the connection to the broker is closed")
        return cast("socket.socket", self._sock)

    def _dispatch(self, topic: str, payload: bytes, retained: bool, confirm: Confirm | None) -> None:
        mid = self._mid
        while mid in self._in_flight:
            mid = mid + 1 if mid < _LAST_MID else _FIRST_MID
        self._mid = mid + 1 if mid < _LAST_MID else _FIRST_MID
        self._in_flight[mid] = confirm
        self._outbound += packets.publish_packet(topic, payload, mid, retained=retained)

    def _confirmed(self, mid: int) -> None:
        if mid not in self._in_flight:
            return
        confirm = self._in_flight.pop(mid)
        if self._waiting:
            self._dispatch(*self._waiting.popleft())
        if confirm is not None:
            self.unconfirmed -= 1
            confirm()

    def _read_with_paho(self, packet: bytes) -> None:
        """Pass one complete packet to paho."""
        self._for_paho = packet
        code = self.loop_read()
        if code != MQTTErrorCode.MQTT_ERR_SUCCESS or self._sock is None:
            raise ConnectionAbortedError(f"the broker broke the protocol: {code.name}")

    def _sock_recv(self, bufsize: int) -> bytes:
        if not self._for_paho:
            raise BlockingIOError
        taken, self._for_paho = self._for_paho[:bufsize], self._for_paho[bufsize:]
        return taken

    def _sock_send(self, buf: bytes | bytearray) -> int:
        self._outbound += buf
        return len(buf)

    def _sock_close(self) -> None:
        """Send buffered bytes before paho closes the socket, which it does right after its DISCONNECT."""
        if self._sock is not None:
            with contextlib.suppress(OSError):
                while self._outbound and self.may_send():
                    del self._outbound[: super()._sock_send(bytes(self._outbound))]
        super()._sock_close()
