"""A paho client that moves messages in large pieces and leaves to paho what is rare: connecting, subscribing, pings.

For each message paho makes three system calls, builds an object, writes two log lines, and takes four locks; for each
PUBACK that it gets, it looks at everything in flight. Framing messages and acknowledgements here takes nine tenths of
that away (measured in docs/performance.md). paho only ever sees whole packets of other kinds. Three private methods
are overridden, so paho is pinned to its minor release, and `tests/integration/mqtt` notices if they are no longer
where all bytes pass.
"""

import contextlib
import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable
from typing import cast

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion

from manager.mqtt import packets
from manager.mqtt.address import BrokerAddress
from schemas.certificates import refusal

_CHUNK = 256 * 1024
_INFLIGHT = 2000
"""Messages sent with QoS 1 and not confirmed yet; what is published beyond them waits its turn."""

_FIRST_MID, _LAST_MID = 0x100, 0xFFFF
"""Packet ids of messages; paho takes those of subscriptions from below."""

Deliver = Callable[[bytes, bytes, int, bool], bool]
"""Is given topic, payload and packet id (0 with QoS 0) of a message, and whether it was retained before this client
subscribed; returns whether there is room for another."""

Confirm = Callable[[], None]


class BufferedClient(Client):
    """One connection with a persistent session, driven by `receive`, `take`, `flush` and `loop_misc` from one thread.

    paho's own `publish`, `ack` and `on_message` are not used.

    Args:
        client_id: whose session it is.
    """

    def __init__(self, client_id: str) -> None:
        self._inbound = b""
        self._taken = 0
        self._pieces: list[bytes] = []
        self._missing = 0
        self._for_paho = b""
        self._outbound = bytearray()
        self._mid = _FIRST_MID
        self._in_flight: dict[int, Confirm | None] = {}
        self._waiting: deque[tuple[str, bytes, bool, Confirm | None]] = deque()
        self.unconfirmed = 0
        self.pending = False
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=False,
            protocol=MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
        )

    @property
    def wants_flush(self) -> bool:
        """Whether bytes wait to be sent."""
        return bool(self._outbound) or self.want_write()

    def receive(self) -> bool:
        """Take the bytes that the socket has, as far as one piece goes; return whether there may be more.

        Raises:
            OSError: the connection is gone.
        """
        try:
            chunk = super()._sock_recv(_CHUNK)
        except BlockingIOError:
            return False
        if not chunk:
            raise ConnectionResetError("the broker closed the connection")
        self._pieces.append(chunk)
        self._missing -= len(chunk)
        if self._missing <= 0:
            self._inbound = b"".join((self._inbound[self._taken :], *self._pieces))
            self._taken = 0
            self._pieces.clear()
        return len(chunk) == _CHUNK

    def take(self, deliver: Deliver) -> None:
        """Deliver the whole messages among the bytes received, until there is no room; `pending` says if some wait.

        Raises:
            OSError: the connection is gone, or of no use.
        """
        buffer, at = self._inbound, self._taken
        self.pending = False
        try:
            while found := packets.frame(buffer, at):
                if self.pending:
                    return
                first, (body, end) = buffer[at], found
                start, at = at, end
                if first & packets.KIND == packets.PUBLISH:
                    retained = bool(first & packets.RETAIN)
                    self.pending = not deliver(*packets.read_message(buffer, first, body, end), retained)
                elif first & packets.KIND == packets.PUBACK:
                    self._confirmed(int.from_bytes(buffer[body:end]))
                else:
                    self._hand_over(buffer[start:end])
            self.pending = False
        finally:
            self._taken = at
        self._missing = _missing(buffer, at) - sum(map(len, self._pieces))

    def send(
        self, topic: str, payload: bytes, qos: int, *, retained: bool = False, confirm: Confirm | None = None
    ) -> None:
        """Publish a message; `confirm` is called when the broker has it (QoS 1). It is lost if the connection ends."""
        if not qos:
            self._outbound += packets.message(topic, payload, retained=retained)
            return
        self.unconfirmed += confirm is not None
        if len(self._in_flight) < _INFLIGHT:
            self._dispatch(topic, payload, retained, confirm)
        else:
            self._waiting.append((topic, payload, retained, confirm))

    def acknowledge(self, mids: list[int]) -> None:
        """Let the broker forget messages."""
        self._outbound += packets.acknowledgements(mids)

    def flush(self) -> None:
        """Send what waits, as far as the socket takes it now.

        Raises:
            OSError: the connection is gone.
        """
        if self.want_write():
            self.loop_write()
        with contextlib.suppress(BlockingIOError):
            while self._outbound:
                del self._outbound[: super()._sock_send(bytes(self._outbound[:_CHUNK]))]

    def hang_up(self) -> None:
        """Close the socket."""
        self._sock_close()

    def _dispatch(self, topic: str, payload: bytes, retained: bool, confirm: Confirm | None) -> None:
        mid = self._mid
        while mid in self._in_flight:
            mid = mid + 1 if mid < _LAST_MID else _FIRST_MID
        self._mid = mid + 1 if mid < _LAST_MID else _FIRST_MID
        self._in_flight[mid] = confirm
        self._outbound += packets.message(topic, payload, mid, retained=retained)

    def _confirmed(self, mid: int) -> None:
        if mid not in self._in_flight:
            return
        confirm = self._in_flight.pop(mid)
        if self._waiting:
            self._dispatch(*self._waiting.popleft())
        if confirm is not None:
            self.unconfirmed -= 1
            confirm()

    def _hand_over(self, packet: bytes) -> None:
        """Let paho read one whole packet."""
        self._for_paho = packet
        code = self.loop_read()
        if code != MQTTErrorCode.MQTT_ERR_SUCCESS or self._sock is None:
            raise ConnectionAbortedError(f"the connection is of no use: {code.name}")

    def _sock_recv(self, bufsize: int) -> bytes:
        if not self._for_paho:
            raise BlockingIOError
        taken, self._for_paho = self._for_paho[:bufsize], self._for_paho[bufsize:]
        return taken

    def _sock_send(self, buf: bytes | bytearray) -> int:
        self._outbound += buf
        return len(buf)

    def _sock_close(self) -> None:
        """Send what was written already: paho closes the socket right behind its DISCONNECT."""
        if self._sock is not None:
            with contextlib.suppress(OSError):
                while self._outbound:
                    del self._outbound[: super()._sock_send(bytes(self._outbound))]
        super()._sock_close()


def _missing(buffer: bytes, at: int) -> int:
    """Return how many bytes at least are still to come until the packet at `at` is whole."""
    length, digits = 0, 0
    for digits, digit in enumerate(buffer[at + 1 : at + 5]):
        length |= (digit & 0x7F) << 7 * digits
        if not digit & 0x80:
            return at + 2 + digits + length - len(buffer)
    return 1


class Attempt:
    """Opens a client's connection. The client belongs to the attempt until it is `finished`.

    Args:
        client: whose connection is opened.
        address: where the broker is.
        keepalive: seconds; what the broker is promised.
        done: called at the end, from the attempt's thread.
    """

    def __init__(
        self, client: BufferedClient, address: BrokerAddress, keepalive: int, done: Callable[[], None]
    ) -> None:
        self.client = client
        self.error: str | None = None
        self.finished = False
        self._abandoned = False
        self._work = (address, keepalive, done)
        self._thread = threading.Thread(target=self._run, name="mqtt-connect", daemon=True)
        self._thread.start()

    def abandon(self) -> None:
        """Let a connection that still comes to be be closed at once."""
        self._abandoned = True

    def _run(self) -> None:
        address, keepalive, done = self._work
        try:
            self.client.connect(address.host, address.port, keepalive)
            sock = cast("socket.socket | None", self.client.socket())
            if sock is not None:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except ssl.SSLCertVerificationError as error:
            give = "its authority's certificate in PANGUARD_BROKER_CA_FILE"
            self.error = refusal(str(address), error.verify_code, error.verify_message, give)
        except (OSError, ValueError) as error:
            self.error = str(error)
        if self._abandoned:
            self.client.hang_up()
        self.finished = True
        done()
