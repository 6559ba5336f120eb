"""Sentences for errors of connections: their own texts may repeat an address that holds a secret."""

import socket
import ssl

_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (ssl.SSLCertVerificationError, "the receiver's certificate is not trusted"),
    (ssl.SSLError, "no TLS connection to the receiver"),
    (TimeoutError, "the receiver does not answer in time"),
    (ConnectionRefusedError, "the receiver refuses connections"),
    (ConnectionError, "the receiver closed the connection"),
    (socket.gaierror, "the receiver's name is not resolved"),
    (OSError, "the receiver cannot be reached"),
)


def reason_of(error: Exception) -> str:
    """Return a sentence for an error of a connection."""
    return next(
        (reason for kind, reason in _REASONS if isinstance(error, kind)), "the receiver speaks another protocol"
    )


def disconnect(connected: socket.socket | None) -> None:
    """Wake up a thread that waits for a socket; closing alone would not."""
    if connected is not None:
        connected.shutdown(socket.SHUT_RDWR)
