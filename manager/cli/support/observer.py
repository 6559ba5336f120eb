"""What someone who watches the broker sees: each message decoded, and verified as far as an observer can."""

import json
import secrets
import ssl
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from manager.cli.support.failures import CommandFailed, ExitCode
from manager.cli.support.tls_trust import untrusted
from manager.errors import SetupError
from manager.mqtt.broker_address import BrokerAddress
from schemas import codes, topics
from schemas.decoding import DecodeError, decode
from schemas.errors import KeyMaterialError, TopicError
from schemas.keys import public_sign_key
from schemas.presence import ManagerKeys
from schemas.topics import MANAGER_KEYS, PREFIX, Topic, resolve

_CODES = ("mac", "proof", "signature")
_NO_ROW = "unknown"


@dataclass(frozen=True, slots=True)
class Sighting:
    """One message as it was seen.

    `name` is its row in the topic table; `verified` is None where an observer cannot tell (only agent and manager
    have the key of a message code); `members` are None where the payload is no JSON object, and then `text` is it.
    """

    topic: str
    name: str
    identifier: str | None
    verified: bool | None
    members: Mapping[str, Any] | None
    text: str

    @property
    def agent_id(self) -> str | None:
        """The agent that the message is from, for or about."""
        if self.topic.startswith(f"{PREFIX}agents/"):
            return self.identifier
        found = (self.members or {}).get("agentId")
        return found if isinstance(found, str) else None

    def record(self, at: str) -> dict[str, Any]:
        """Return what programs get: when it was seen, what it is, and the message itself."""
        return {
            "at": at,
            "topic": self.topic,
            "name": self.name,
            "id": self.identifier,
            "verified": self.verified,
            "payload": self.text if self.members is None else dict(self.members),
        }


class Watcher:
    """Turns messages into sightings; learns the manager's signing key from what it sees.

    Args:
        sign_key: the manager's public signing key where it is known beforehand (an enrollment token names it). Else
            the first rightly signed `manager/keys` is believed, and every other key after it is not.
    """

    def __init__(self, sign_key: str | None = None) -> None:
        self._sign_key = sign_key
        self._newest_keys: bytes | None = None

    def see(self, topic: str, payload: bytes) -> Sighting | None:
        """Return what was seen; None if it is the keys once more."""
        try:
            row, identifier = resolve(topic)
        except TopicError:
            return Sighting(topic, _NO_ROW, None, None, *_read(payload))
        if row is MANAGER_KEYS:
            if payload == self._newest_keys:
                return None
            self._newest_keys = payload
            self._learn(payload)
        return Sighting(topic, row.name, identifier, self._verify(row, identifier, payload), *_read(payload))

    def _learn(self, payload: bytes) -> None:
        if self._sign_key is not None:
            return
        try:
            keys = decode(ManagerKeys, payload, MANAGER_KEYS.limit)
            if codes.has_signature(public_sign_key(keys.sign_key), MANAGER_KEYS.below_root(), payload):
                self._sign_key = keys.sign_key
        except (DecodeError, KeyMaterialError):
            return

    def _verify(self, row: Topic, identifier: str | None, payload: bytes) -> bool | None:
        if row.code != "signature" or self._sign_key is None or not payload:
            return None
        return codes.has_signature(public_sign_key(self._sign_key), row.below_root(identifier), payload)


def names() -> list[str]:
    """Return the names of the topics that an observer may see."""
    return [row.name for row in topics.TABLE if topics.Role.OBSERVER in row.readers]


def summary(sighting: Sighting) -> str:
    """Return what a message says, in a line."""
    members = sighting.members
    if members is None:
        return sighting.text or "(cleared)"
    tell = _TELLERS.get(sighting.name)
    try:
        return tell(members) if tell else _compact(members)
    except (
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        OverflowError,
    ):  # nothing vouches for what stands on a broker
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
    return f"{threat.get('severity', 'medium')} {threat['type']}{about}, {threat['confidence']:.0f} % sure"


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


_TELLERS = {
    "heartbeat": _heartbeat,
    "presence": lambda presence: f"{presence['state']}, session {presence['session']}",
    "manager_presence": lambda presence: f"{presence['state']}, version {presence['version']}",
    "threats": _threat,
    "receipts": _receipt,
    "policy": _policy,
    "policy_applied": _applied,
    "fleet": _fleet,
}


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
