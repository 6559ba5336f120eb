"""One attempt to reach the broker, in a thread of its own: looking up a host and reaching it may take long."""

import socket
import ssl
import threading
from collections.abc import Callable
from typing import cast

from manager.mqtt.address import BrokerAddress
from manager.mqtt.buffered import BufferedClient
from schemas.certificates import refusal


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
