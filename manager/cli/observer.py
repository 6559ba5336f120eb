"""Listens to a broker as the observer: everything but registrations, live, until interrupted."""

import secrets
import ssl
from collections import deque
from collections.abc import Iterator
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from manager.cli.failures import CommandFailed, ExitCode
from manager.cli.trust import untrusted
from manager.errors import SetupError
from manager.mqtt.address import BrokerAddress
from schemas.topics import PREFIX

_KEEP_ALIVE = 30
_FILTERS = [(f"{PREFIX}manager/+", 0), (f"{PREFIX}#", 0)]
"""The keys come first, so that what is signed can be verified from the first policy on."""


class Observer:
    """A connection that only reads.

    Args:
        url: the broker's.
        username: the observer's.
        password: the observer's.
        tls: what the broker's certificate is verified with; None only for plain text.
    """

    def __init__(self, url: str, username: str, password: str, tls: ssl.SSLContext | None = None) -> None:
        try:
            self._address = BrokerAddress.parse(url)
        except SetupError as error:
            raise CommandFailed(ExitCode.USAGE, str(error)) from error
        self._seen: deque[tuple[str, bytes]] = deque()
        self._refusal: str | None = None
        self._client = Client(CallbackAPIVersion.VERSION2, f"observer-{secrets.token_hex(8)}")
        self._client.username_pw_set(username, password)
        if self._address.tls:
            self._client.tls_set_context(tls)
        self._client.on_connect = self._on_connect
        self._client.on_message = self._on_message

    def messages(self) -> Iterator[tuple[str, bytes]]:
        """Yield topic and payload of each message, until the broker is gone.

        Raises:
            CommandFailed: the broker cannot be reached, refuses the credential, or ended the connection.
        """
        try:
            self._client.connect(self._address.host, self._address.port, _KEEP_ALIVE)
        except OSError as error:
            if (failure := untrusted(str(self._address), error)) is not None:
                raise failure from error
            raise CommandFailed(
                ExitCode.UNREACHABLE, f"no broker answers at {self._address}: {error.strerror or error}"
            ) from error
        try:
            while self._client.loop(1.0) is MQTTErrorCode.MQTT_ERR_SUCCESS:
                while self._seen:
                    yield self._seen.popleft()
        finally:
            self._client.disconnect()
        if self._refusal is not None:
            raise CommandFailed(
                ExitCode.UNAUTHORIZED, f"the broker {self._address} refuses the credential: {self._refusal}"
            )
        raise CommandFailed(ExitCode.UNREACHABLE, f"the broker {self._address} ended the connection")

    def _on_connect(self, client: Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            self._refusal = str(reason)
        else:
            client.subscribe(_FILTERS)

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        self._seen.append((message.topic, bytes(message.payload)))
