"""A paho client that reads and writes its socket in large pieces.

paho makes three system calls to read a message and one to write each packet. Serving both from memory takes most of
them away (measured in docs/performance.md). Two private methods are overridden, so paho is pinned to its minor
release, and `tests/integration/mqtt` notices if they are no longer where all bytes pass.
"""

import contextlib

from paho.mqtt.client import Client

_CHUNK = 256 * 1024


class BufferedClient(Client):
    """As paho's client, driven by `loop_read`, `loop_misc` and `flush` from one thread."""

    _inbound = b""
    _taken = 0
    _outbound = bytearray()

    @property
    def buffered(self) -> bool:
        """Whether bytes were received that are not read yet."""
        return self._taken < len(self._inbound)

    @property
    def wants_flush(self) -> bool:
        """Whether bytes wait to be sent."""
        return bool(self._outbound) or self.want_write()

    def flush(self) -> None:
        """Send what waits, as far as the socket takes it now.

        Raises:
            OSError: the connection is gone.
        """
        if self.want_write():
            self.loop_write()
        while self._outbound:
            try:
                sent = super()._sock_send(bytes(self._outbound[:_CHUNK]))
            except BlockingIOError:
                return
            del self._outbound[:sent]

    def _sock_recv(self, bufsize: int) -> bytes:
        if self._taken >= len(self._inbound):
            self._inbound = super()._sock_recv(_CHUNK)
            self._taken = 0
        start = self._taken
        self._taken = min(start + bufsize, len(self._inbound))
        return self._inbound[start : self._taken]

    def _sock_send(self, buf: bytes | bytearray) -> int:
        if not self._outbound:
            self._outbound = bytearray()
        self._outbound += buf
        return len(buf)

    def _sock_close(self) -> None:
        with contextlib.suppress(OSError, ConnectionError):
            if self._sock is not None:
                self.flush_packets()
        super()._sock_close()

    def flush_packets(self) -> None:
        """Send what was written already, without asking paho for more: the DISCONNECT closes the socket behind it."""
        while self._outbound:
            sent = super()._sock_send(bytes(self._outbound))
            del self._outbound[:sent]
