"""Webhooks: CloudEvents over HTTP, signed as the Standard Webhooks specification has it."""

import base64
import binascii
import hashlib
import hmac
import http.client
import ssl
import time
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path

from manager.domain.notifications.message import Message
from manager.errors import SetupError
from manager.notifications.channels.address import ReceiverAddress
from manager.notifications.channels.channel import TIMEOUT, Channel, ChannelError, Deadline
from manager.notifications.channels.connection_errors import disconnect, reason_of
from manager.notifications.rendering.cloud_event import CONTENT_TYPE, cloud_event
from manager.notifications.rendering.identity import ChannelIdentity
from manager.notifications.rendering.json_values import encoded
from manager.tls.certificates import CertificateError
from manager.tls.client_context import client_context
from schemas.loopback import is_loopback

KEY_PREFIX = "whsec_"
PORTS = {"https": 443, "http": 80}
"""The schemes of webhooks, with their default ports."""

_SHORTEST_KEY = 16
_REFUSED_FOR_GOOD = frozenset(
    {
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.GONE,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        HTTPStatus.UNPROCESSABLE_ENTITY,
    }
)


def read_key(text: str) -> bytes:
    """Return the key of a secret file: the bytes of its text, or what `whsec_` and base64 stand for.

    Raises:
        SetupError: it is too short, or not base64.
    """
    text = text.strip()
    key = text.encode()
    if text.startswith(KEY_PREFIX):
        try:
            key = base64.b64decode(text.removeprefix(KEY_PREFIX), validate=True)
        except binascii.Error:
            raise SetupError(f"the webhook's secret begins with {KEY_PREFIX} and is not base64 after it") from None
    if len(key) < _SHORTEST_KEY:
        raise SetupError(f"the webhook's secret is shorter than {_SHORTEST_KEY} bytes: make a random one")
    return key


def signature(key: bytes, message_id: str, sent_at: int, body: bytes) -> str:
    """Return the value of `webhook-signature`: HMAC-SHA256 over id, time of sending and body."""
    signed = f"{message_id}.{sent_at}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


class WebhookChannel(Channel):
    """Posts each message as a CloudEvent; redirects are not followed, and no proxy is used.

    Args:
        url: ``https://…``; user and password in it are sent as basic authentication.
        key: The key of the signatures.
        identity: The sender.
        ca_file: PEM of the authorities that sign the receiver's certificate; None for the system's.
        plain_http: Allow ``http://`` beyond loopback.
        timeout: Seconds for one delivery.
        clock: Seconds since 1970.

    Raises:
        SetupError: the URL or the file cannot be used.
    """

    def __init__(
        self,
        url: str,
        key: bytes,
        identity: ChannelIdentity,
        *,
        ca_file: Path | None = None,
        plain_http: bool = False,
        timeout: float = TIMEOUT,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._address = ReceiverAddress.parse(url, PORTS)
        if self._address.scheme == "http" and not (plain_http or is_loopback(self._address.host)):
            raise SetupError("a webhook beyond this machine needs https://, or `plain_http = true` in its table")
        self._context = _context(ca_file) if self._address.scheme == "https" else None
        self._key = key
        self._identity = identity
        self._clock = clock
        self._deadline = Deadline(timeout)

    def deliver(self, message: Message) -> None:
        """Post a message; any status of success confirms it."""
        body = encoded(cloud_event(message, self._identity))
        sent_at = int(self._clock())
        headers = {
            "Content-Type": CONTENT_TYPE,
            "User-Agent": f"panguard/{self._identity.version}",
            "Connection": "close",
            "webhook-id": message.id,
            "webhook-timestamp": str(sent_at),
            "webhook-signature": signature(self._key, message.id, sent_at, body),
        }
        if self._address.user_info:
            headers["Authorization"] = f"Basic {base64.b64encode(self._address.user_info.encode()).decode()}"
        connection = self._connection()

        def post() -> int:
            try:
                connection.request("POST", self._address.target, body, headers)
                return connection.getresponse().status
            finally:
                connection.close()

        try:
            status = self._deadline.run(post, lambda: disconnect(connection.sock))
        except (OSError, http.client.HTTPException) as error:
            raise ChannelError(reason_of(error), retry=True) from error
        _check(status)

    def _connection(self) -> http.client.HTTPConnection:
        address, timeout = self._address, self._deadline.seconds
        if self._context is not None:
            return http.client.HTTPSConnection(address.host, address.port, timeout=timeout, context=self._context)
        return http.client.HTTPConnection(address.host, address.port, timeout=timeout)


def _context(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return client_context(ca_file)
    except CertificateError as error:
        raise SetupError(str(error)) from error


def _check(status: int) -> None:
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        reason = f"the receiver redirects ({status}), which is not followed: name its new URL"
        raise ChannelError(reason, retry=True, answered=True)
    raise ChannelError(f"the receiver answers {status}", retry=status not in _REFUSED_FOR_GOOD, answered=True)
