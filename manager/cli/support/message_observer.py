"""MQTT observer: receives all messages of the fleet, decodes them, and verifies signatures."""

import json
import secrets
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from manager.cli.support.failures import CommandFailed, ExitCode
from manager.cli.support.tls_trust import certificate_failure, handshake_failed
from manager.errors import SetupError
from manager.mqtt.broker_address import BrokerAddress
from manager.mqtt.paho_client import ClosingClient
from schemas import message_codes, topics
from schemas.decoding import DecodeError, decode
from schemas.errors import KeyMaterialError, TopicError
from schemas.keys import public_sign_key
from schemas.presence import ManagerKeys
from schemas.protocol_mismatch import no_answer, no_tls
from schemas.succession import TrustedKeys
from schemas.topics import MANAGER_KEYS, PREFIX, Topic, resolve

_CODES = ("mac", "proof", "signature")
_NO_ROW = "unknown"
_SUMMARIZED = 3
"""The maximum number of reports of one message in its summary."""


@dataclass(frozen=True, slots=True)
class ObservedMessage:
    """One decoded message.

    `name` is its row in the topic table; `verified` is None if an observer cannot verify it (only agent and manager
    have the key of a message code); `members` is None if the payload is not a JSON object; then `text` contains it.
    """

    topic: str
    name: str
    identifier: str | None
    verified: bool | None
    members: Mapping[str, Any] | None
    text: str

    @property
    def agent_id(self) -> str | None:
        """The agent that sent, receives or is named in the message."""
        if self.topic.startswith(f"{PREFIX}agents/"):
            return self.identifier
        found = (self.members or {}).get("agentId")
        return found if isinstance(found, str) else None

    def record(self, at: str) -> dict[str, Any]:
        """Return the message as JSON output: time, topic, verification, payload."""
        return {
            "at": at,
            "topic": self.topic,
            "name": self.name,
            "id": self.identifier,
            "verified": self.verified,
            "payload": self.text if self.members is None else dict(self.members),
        }


class MessageDecoder:
    """Decodes and verifies messages; learns the manager's signing key from `manager/keys`.

    Args:
        sign_key: the manager's public signing key, if an enrollment token names it. Without it the first correctly
            signed `manager/keys` is trusted, and after it only its successors.
        wall: the wall clock, seconds since 1970.
    """

    def __init__(self, sign_key: str | None = None, wall: Callable[[], float] = time.time) -> None:
        self._trusted = None if sign_key is None else TrustedKeys(sign_key)
        self._wall = wall
        self._last_keys: bytes | None = None

    def decode(self, topic: str, payload: bytes) -> ObservedMessage | None:
        """Return the decoded message; None for an unchanged repetition of the keys."""
        try:
            row, identifier = resolve(topic)
        except TopicError:
            return ObservedMessage(topic, _NO_ROW, None, None, *_read(payload))
        if row is MANAGER_KEYS:
            if payload == self._last_keys:
                return None
            self._last_keys = payload
            self._learn_key(payload)
        return ObservedMessage(topic, row.name, identifier, self._verify(row, identifier, payload), *_read(payload))

    def _learn_key(self, payload: bytes) -> None:
        try:
            keys = decode(ManagerKeys, payload, MANAGER_KEYS.limit)
            if self._trusted is not None:
                self._trusted = self._trusted.followed(keys.successions or (), self._wall())
            elif message_codes.has_signature(public_sign_key(keys.sign_key), MANAGER_KEYS.below_root(), payload):
                self._trusted = TrustedKeys(keys.sign_key)
        except (DecodeError, KeyMaterialError):
            return

    def _verify(self, row: Topic, identifier: str | None, payload: bytes) -> bool | None:
        if row.code != "signature" or self._trusted is None or not payload:
            return None
        return self._trusted.signer(row.below_root(identifier), payload, self._wall()) is not None


def observable_topics() -> list[str]:
    """Return the names of the topics that an observer may read."""
    return [row.name for row in topics.TABLE if topics.Role.OBSERVER in row.readers]


def summary(message: ObservedMessage) -> str:
    """Summarize a message in one line."""
    members = message.members
    if members is None:
        return message.text or "(cleared)"
    summarize = _SUMMARIES.get(message.name)
    try:
        return summarize(members) if summarize else _compact(members)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):  # the payload is unverified
        return _compact(members)


def _read(payload: bytes) -> tuple[Mapping[str, Any] | None, str]:
    text = payload.decode("utf-8", "backslashreplace")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None, text
    if not isinstance(found, dict):
        return None, text
    return {name: value for name, value in found.items() if name not in _CODES}, text


def _compact(members: Mapping[str, Any]) -> str:
    return " ".join(
        f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in members.items()
    )


def _heartbeat(beat: Mapping[str, Any]) -> str:
    return (
        f"cpu {beat['cpu']:.0f} % · memory {beat['memory']:.0f} % · {beat['mode']} · {beat['eventsProcessed']} events"
        f" · policy {beat.get('policyVersion')} {beat.get('policyState') or ''}".rstrip()
    )


def _threat(report: Mapping[str, Any]) -> str:
    threat = report["threat"]
    source = (threat.get("evidence") or {}).get("sourceIp")
    about = f" from {source}" if source else ""
    return f"{threat.get('severity', 'medium')} {threat['type']}{about}, {threat['confidence']:.0f} % confidence"


def _threats(message: Mapping[str, Any]) -> str:
    """Summarize a report, or the first of several."""
    reports = message.get("reports")
    if not isinstance(reports, list) or not reports:
        return _threat(message)
    more = f", and {len(reports) - _SUMMARIZED} more" if len(reports) > _SUMMARIZED else ""
    return f"{len(reports)} reports: {'; '.join(map(_threat, reports[:_SUMMARIZED]))}{more}"


def _receipt(receipt: Mapping[str, Any]) -> str:
    parts = {name: len(receipt.get(name, ())) for name in ("stored", "refused", "deferred")}
    return ", ".join(f"{count} {name}" for name, count in parts.items() if count) or "nothing"


def _policy(policy: Mapping[str, Any]) -> str:
    ips = len(policy["blocklist"]["ips"])
    return f"version {policy['version']} ({policy['scope']}), {ips} addresses blocked, digest {policy['digest'][:12]}"


def _applied(applied: Mapping[str, Any]) -> str:
    error = applied.get("error")
    return f"version {applied['version']} {applied['state']}" + (f": {error}" if error else "")


def _fleet(event: Mapping[str, Any]) -> str:
    return f"{event['event']} {event.get('hostname') or ''} {_compact(event.get('data') or {})}"


_SUMMARIES = {
    "heartbeat": _heartbeat,
    "presence": lambda presence: f"{presence['state']}, session {presence['session']}",
    "manager_presence": lambda presence: f"{presence['state']}, version {presence['version']}",
    "threats": _threats,
    "receipts": _receipt,
    "policy": _policy,
    "policy_applied": _applied,
    "fleet": _fleet,
}


_KEEP_ALIVE = 30
_FILTERS = [(f"{PREFIX}manager/+", 0), (f"{PREFIX}#", 0)]
"""The order of subscriptions: the keys come first, so that signatures can be verified from the first policy on."""


class Observer:
    """Read-only connection to the broker.

    Args:
        url: URL of the broker.
        username: user of the observer.
        password: password of the observer.
        tls: TLS context that verifies the broker; None only for plain text.
    """

    def __init__(self, url: str, username: str, password: str, tls: ssl.SSLContext | None = None) -> None:
        try:
            self._address = BrokerAddress.parse(url)
        except SetupError as error:
            raise CommandFailed(ExitCode.USAGE, str(error)) from error
        self._received: deque[tuple[str, bytes]] = deque()
        self._refusal: str | None = None
        self._answered = False
        self._client = ClosingClient(CallbackAPIVersion.VERSION2, f"observer-{secrets.token_hex(8)}")
        self._client.username_pw_set(username, password)
        if self._address.tls:
            self._client.tls_set_context(tls)
        self._client.on_connect = self._on_connect
        self._client.on_message = self._on_message

    def messages(self) -> Iterator[tuple[str, bytes]]:
        """Yield topic and payload of each message, until the connection ends.

        Raises:
            CommandFailed: the broker cannot be reached, refuses the credential, or ended the connection.
        """
        try:
            self._client.connect(self._address.host, self._address.port, _KEEP_ALIVE)
        except OSError as error:
            if (failure := certificate_failure(str(self._address), error)) is not None:
                raise failure from error
            told = f"no broker answers at {self._address}: {error.strerror or error}"
            if handshake_failed(str(self._address), error):
                told = no_tls(str(self._address))
            raise CommandFailed(ExitCode.UNREACHABLE, told) from error
        try:
            while self._client.loop(1.0) is MQTTErrorCode.MQTT_ERR_SUCCESS:
                while self._received:
                    yield self._received.popleft()
        finally:
            self._client.disconnect()
        if self._refusal is not None:
            raise CommandFailed(
                ExitCode.UNAUTHORIZED, f"the broker {self._address} refuses the credential: {self._refusal}"
            )
        told = f"the broker {self._address} ended the connection" if self._answered else no_answer(str(self._address))
        raise CommandFailed(ExitCode.UNREACHABLE, told)

    def _on_connect(self, client: Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        self._answered = True
        if reason.is_failure:
            self._refusal = str(reason)
        else:
            client.subscribe(_FILTERS)

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        self._received.append((message.topic, bytes(message.payload)))
