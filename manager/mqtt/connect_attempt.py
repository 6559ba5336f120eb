"""Opens the client's connection in a thread, so that the engine's thread never waits for a socket."""

import socket
import ssl
import threading
from collections.abc import Callable
from typing import cast

import structlog

from manager.mqtt.broker_address import BrokerAddress
from manager.mqtt.paho_client import BufferedClient
from schemas.certificates import refusal

log = structlog.get_logger(__name__)


class ConnectAttempt:
    """One attempt to open a client's connection. The client belongs to the attempt until it is `finished`.

    Args:
        client: the client to connect.
        address: the broker's address.
        keepalive: seconds; announced to the broker.
        done: called at the end, from the attempt's thread.
        before: called first, in the attempt's thread; returns a reason not to connect, or None.
    """

    def __init__(
        self,
        client: BufferedClient,
        address: BrokerAddress,
        keepalive: int,
        done: Callable[[], None],
        before: Callable[[], str | None] | None = None,
    ) -> None:
        self.client = client
        self.error: str | None = None
        self.finished = False
        self._abandoned = False
        self._before = before
        self._arguments = (address, keepalive, done)
        self._thread = threading.Thread(target=self._run, name="mqtt-connect", daemon=True)
        self._thread.start()

    def abandon(self) -> None:
        """Close the connection at once if it still opens."""
        self._abandoned = True

    def _run(self) -> None:
        address, _, done = self._arguments
        try:
            self._open()
        except ssl.SSLCertVerificationError as error:
            remedy = "its authority's certificate in PANGUARD_BROKER_CA_FILE"
            self.error = refusal(str(address), error.verify_code, error.verify_message, remedy)
        except TimeoutError:
            seconds = f"{self.client.connect_timeout:g} s"
            self.error = f"it neither takes a connection nor answers its TLS handshake within {seconds}"
        except (OSError, ValueError) as error:
            self.error = str(error)
        except Exception:
            # The link waits for `finished`: without it the manager would never connect again.
            log.exception("connect_failed", broker=str(address))
            self.error = "connecting failed: the log says why"
        if self._abandoned:
            self.client.close_sockets()
        self.finished = True
        done()

    def _open(self) -> None:
        self.error = self._before() if self._before is not None else None
        if self.error is not None:
            return
        address, keepalive, _ = self._arguments
        self.client.connect(address.host, address.port, keepalive)
        sock = cast("socket.socket | None", self.client.socket())
        if sock is not None:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def certificate_end(sock: object) -> float | None:
    """Return the expiry of the peer's certificate, in seconds since 1970; None without TLS."""
    certificate = sock.getpeercert() if isinstance(sock, ssl.SSLSocket) else None
    return float(ssl.cert_time_to_seconds(str(certificate["notAfter"]))) if certificate else None
