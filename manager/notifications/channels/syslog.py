"""Syslog (RFC 5424) over UDP, over TCP with octet counting, and over TLS; the text is an ECS document."""

import os
import socket
import ssl
from contextlib import suppress
from pathlib import Path
from typing import Any

from manager.domain.notifications.message import Message
from manager.errors import SetupError
from manager.notifications.channels.address import ReceiverAddress
from manager.notifications.channels.channel import TIMEOUT, Channel, ChannelError, Deadline
from manager.notifications.channels.connection_errors import disconnect, reason_of
from manager.notifications.rendering.ecs import document, without_nothing
from manager.notifications.rendering.identity import ChannelIdentity
from manager.notifications.rendering.json_values import encoded, rfc3339
from manager.tls.certificates import CertificateError
from manager.tls.client_context import client_context
from schemas.threats import Severity

_LOCAL = {f"local{number}": 16 + number for number in range(8)}
FACILITIES = {"user": 1, "daemon": 3, "auth": 4, "authpriv": 10} | _LOCAL

LONGEST_DATAGRAM = 2048
"""The maximum number of bytes over UDP: receivers should take as many (RFC 5426)."""

PORTS = {"udp": 514, "tcp": 601, "tls": 6514}
"""The transports, with their default ports."""

_SEVERITIES = {Severity.LOW: 6, Severity.MEDIUM: 4, Severity.HIGH: 3, Severity.CRITICAL: 2}
_LONGEST_HOSTNAME = 255
_LONGEST_NAME = 32
_PIECE = 4096
_SHORT_MESSAGE = 120


class SyslogChannel(Channel):
    """Sends each message as one syslog message.

    Over TCP and TLS each message has a connection of its own, which this end closes first and the receiver last: so
    a message counts as delivered when the receiver has read it, not when it is in a buffer. UDP confirms nothing.

    Args:
        url: ``udp://host:514``, ``tcp://host:601`` or ``tls://host:6514``.
        identity: The sender.
        ca_file: PEM of the authorities that sign the receiver's certificate; None for the system's.
        facility: One of `FACILITIES`.
        timeout: Seconds for one delivery.

    Raises:
        SetupError: the URL, the facility or the file cannot be used.
    """

    def __init__(
        self,
        url: str,
        identity: ChannelIdentity,
        *,
        ca_file: Path | None = None,
        facility: str = "auth",
        timeout: float = TIMEOUT,
    ) -> None:
        self._address = ReceiverAddress.parse(url, PORTS)
        if facility not in FACILITIES:
            raise SetupError(f"{facility!r} is no syslog facility: use one of {', '.join(FACILITIES)}")
        self._facility = FACILITIES[facility]
        self._context: ssl.SSLContext | None = None
        if self._address.scheme == "tls":
            try:
                self._context = client_context(ca_file)
            except CertificateError as error:
                raise SetupError(str(error)) from error
        self._identity = identity
        self._deadline = Deadline(timeout)

    def deliver(self, message: Message) -> None:
        """Send a message."""
        opened: list[socket.socket] = []

        def send() -> None:
            if self._address.scheme == "udp":
                self._send_datagram(message)
            else:
                self._send_stream(self._line(message, encoded(document(message, self._identity))), opened)

        try:
            self._deadline.run(send, lambda: disconnect(opened[-1] if opened else None))
        except OSError as error:
            raise ChannelError(reason_of(error), retry=True) from error

    def _line(self, message: Message, text: bytes) -> bytes:
        priority = 8 * self._facility + _SEVERITIES[message.severity]
        kind = "notification" if message.event is None else message.event.name
        sender = _printed(self._identity.hostname, _LONGEST_HOSTNAME)
        at = rfc3339(message.at if message.event is None else message.event.at)
        header = f"<{priority}>1 {at} {sender} panguard {os.getpid()} {_printed(kind, _LONGEST_NAME)} - "
        return header.encode("ascii") + text

    def _send_datagram(self, message: Message) -> None:
        shorter = _shortened(document(message, self._identity))
        lines = (self._line(message, encoded(fields)) for fields in shorter)
        line = next(each for each in lines if len(each) <= LONGEST_DATAGRAM)
        error: OSError | None = None
        for family, kind, protocol, _, address in socket.getaddrinfo(
            self._address.host, self._address.port, type=socket.SOCK_DGRAM
        ):
            try:
                with socket.socket(family, kind, protocol) as channel:
                    channel.sendto(line, address)
            except OSError as failed:
                error = failed
            else:
                return
        raise error or OSError("no address")

    def _send_stream(self, line: bytes, opened: list[socket.socket]) -> None:
        timeout = self._deadline.seconds
        with socket.create_connection((self._address.host, self._address.port), timeout) as plain:
            opened.append(plain)
            stream = plain
            if self._context is not None:
                stream = self._context.wrap_socket(plain, server_hostname=self._address.host)
                opened.append(stream)
            with stream:
                stream.sendall(b"%d %s" % (len(line), line))
                _finish(stream)


def _finish(stream: socket.socket) -> None:
    """Close this end, and wait until the receiver has read everything and closes its own."""
    if isinstance(stream, ssl.SSLSocket):
        with suppress(ssl.SSLEOFError):  # a receiver that closes without TLS's own farewell has read everything, too
            stream.unwrap()
        return
    stream.shutdown(socket.SHUT_WR)
    while stream.recv(_PIECE):
        pass


def _shortened(fields: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a document and shorter ones; the last is below `LONGEST_DATAGRAM` whatever the message holds."""
    without_data = {**fields, "panguard": {**fields["panguard"], "data": None}}
    one_line = {**without_data, "related": None, "message": fields["message"].partition("\n")[0]}
    least = {name: fields[name] for name in ("@timestamp", "ecs", "event", "log")}
    least["message"] = one_line["message"][:_SHORT_MESSAGE]
    return [without_nothing(each) for each in (fields, without_data, one_line, least)]


def _printed(text: str, longest: int) -> str:
    """Return a header field: printable ASCII without spaces."""
    return "".join(char if "!" <= char <= "~" else "_" for char in text)[:longest] or "-"
