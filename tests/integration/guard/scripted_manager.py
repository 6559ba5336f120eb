"""A small manager for the guard's tests: made of the contract's own functions, it does what a test's script says."""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from paho.mqtt.client import Client, MQTTMessage, MQTTMessageInfo
from paho.mqtt.enums import CallbackAPIVersion

from schemas import message_codes, topics
from schemas.blocklist import BlocklistChange, BlocklistSnapshot
from schemas.decoding import decode
from schemas.generations import StoreGeneration
from schemas.keys import AgentKeys, EnrollmentToken, ManagerKeyring, version_statement
from schemas.model import WireModel, utc
from schemas.policy import PolicyApplied, default_sections, digest_of
from schemas.presence import Heartbeat, ManagerKeys, Presence
from schemas.registration import Registration, RegistrationReply, Rejection
from schemas.report_batches import is_batch
from schemas.succession import Succession, signed_link
from schemas.threats import Receipt, ThreatReport, ThreatReportBatch
from schemas.topics import Topic
from tests.support import waiting
from tests.support.mqtt_client import MqttClient

PATIENCE = 120.0


def eventually(condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """Return the first true result of `condition`, polled until a deadline."""
    return waiting.eventually(condition, patience, what, pause=0.01)


def store_all(report: ThreatReport) -> Receipt | None:
    return Receipt(stored=[report.id])


@dataclass
class Heard:
    """What reached the manager from its agents, codes checked, in order."""

    row: Topic
    message: Any
    payload: bytes
    retained: bool


@dataclass
class ScriptedManager:
    port: int
    keyring: ManagerKeyring = field(default_factory=lambda: ManagerKeyring(bytes(range(32))))
    on_report: Callable[[ThreatReport], Receipt | None] = store_all
    on_registration: Callable[["ScriptedManager", Registration], WireModel | None] | None = None
    known_session: int = 0
    agent_id: str = "ag-00000000000000aa"
    heard: list[Heard] = field(default_factory=list)
    registrations: list[bytes] = field(default_factory=list)
    keys: AgentKeys | None = None
    accepts: list[str] = field(default_factory=list)
    successions: list[Succession] = field(default_factory=list)
    generation: StoreGeneration | None = None

    def __post_init__(self) -> None:
        self.token = EnrollmentToken.new(self.keyring.sign_public)
        self._client = MqttClient(CallbackAPIVersion.VERSION2, client_id="scripted-manager", clean_session=False)
        self._client.on_message = self._on_message
        self._listening = threading.Event()
        self._client.on_connect = lambda *_: self._subscribe()
        self._client.on_subscribe = lambda *_: self._listening.set()
        self._client.reconnect_delay_set(1, 1)

    def start(self) -> "ScriptedManager":
        self._client.connect("127.0.0.1", self.port)
        self._client.loop_start()
        assert self._listening.wait(PATIENCE)
        return self

    def stop(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _subscribe(self) -> None:
        self.announce()
        rows = [row for row in topics.TABLE if topics.Role.MANAGER in row.readers and row.placeholder != "event"]
        self._client.subscribe([(row.filter, int(row.qos)) for row in rows])

    def rotate(self, keyring: ManagerKeyring, *, compromised: bool = False, ago: float = 0.0) -> None:
        """Sign with another key, since so many seconds ago, and publish the keys with the link to it."""
        pair, number = (self.keyring.sign_key, keyring.sign_key), len(self.successions) + 1
        self.successions.append(signed_link(*pair, number=number, now=time.time() - ago, compromised=compromised))
        self.keyring = keyring
        self.announce().wait_for_publish(PATIENCE)

    def announce(self) -> MQTTMessageInfo:
        """Publish the keys; whoever waits for the returned one knows that the broker has them."""
        keys = ManagerKeys(
            sign_key=self.keyring.sign_public,
            seal_key=self.keyring.seal_public,
            accepts=self.accepts,
            successions=self.successions or None,
            generation=self.generation,
        )
        return self.say(topics.MANAGER_KEYS, None, keys)

    def say(self, row: Topic, identifier: str | None, message: WireModel) -> MQTTMessageInfo:
        """Publish a message with the code that its row asks for."""
        below = row.below_root(identifier)
        if row.code == "signature":
            return self.say_raw(
                row, identifier, message_codes.with_signature(self.keyring.sign_key, below, message.body())
            )
        assert self.keys is not None
        return self.say_raw(row, identifier, message_codes.with_mac(self.keys.mac_key, below, message.body()))

    def say_raw(self, row: Topic, identifier: str | None, payload: bytes) -> MQTTMessageInfo:
        return self._client.publish(row.address(identifier), payload, row.qos, row.retained)

    def policy(
        self,
        version: int,
        keyring: ManagerKeyring | None = None,
        organization_id: str | None = None,
        **sections: Any,
    ) -> bytes:
        """Return a rightly signed policy with these sections over the defaults."""
        document = default_sections() | sections
        digest = digest_of(document)
        key = (keyring or self.keyring).sign_key
        head = {
            "version": version,
            "digest": digest,
            "updatedAt": "2026-01-01T00:00:00Z",
            "scope": "agent",
            "agentId": self.agent_id,
            "versionProof": message_codes.to_base64url(key.sign(version_statement(self.agent_id, version, digest))),
        } | ({} if organization_id is None else {"organizationId": organization_id})
        body = json.dumps(head | document, separators=(",", ":")).encode()
        return message_codes.with_signature(key, topics.POLICY.below_root(self.agent_id), body)

    def push_policy(
        self,
        version: int,
        keyring: ManagerKeyring | None = None,
        organization_id: str | None = None,
        **sections: Any,
    ) -> None:
        self.say_raw(topics.POLICY, self.agent_id, self.policy(version, keyring, organization_id, **sections))

    def say_snapshot(self, snapshot: BlocklistSnapshot) -> None:
        self.say(topics.BLOCKLIST, snapshot.organization_id, snapshot)

    def say_change(self, change: BlocklistChange) -> None:
        self.say(topics.BLOCKLIST_CHANGES, change.organization_id, change)

    # What it heard.

    def presences(self) -> list[Presence]:
        return self._of(topics.PRESENCE)

    def heartbeats(self) -> list[Heartbeat]:
        return self._of(topics.HEARTBEAT)

    def reports(self) -> list[ThreatReport]:
        said = self._of(topics.THREATS)
        return [report for each in said for report in (each.reports if isinstance(each, ThreatReportBatch) else [each])]

    def applied(self) -> list[PolicyApplied]:
        return self._of(topics.POLICY_APPLIED)

    def _of(self, row: Topic) -> list[Any]:
        return [heard.message for heard in list(self.heard) if heard.row is row]

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        row, identifier = topics.resolve(message.topic)
        payload = bytes(message.payload)
        if row is topics.REGISTRATION:
            self._registration(payload, identifier or "")
        elif identifier == self.agent_id and self.keys is not None and payload:
            if not message_codes.has_mac(self.keys.mac_key, row.below_root(identifier), payload):
                return  # a test forged it itself
            is_several = row is topics.THREATS and is_batch(payload)
            read = decode(row.models[is_several], payload, row.limit)
            self.heard.append(Heard(row, read, payload, bool(message.retain)))
            for report in read.reports if isinstance(read, ThreatReportBatch) else [read]:
                if isinstance(report, ThreatReport):
                    self._report(report)

    def _report(self, report: ThreatReport) -> None:
        receipt = self.on_report(report)
        if receipt is not None:
            self.say(topics.RECEIPTS, self.agent_id, receipt)

    def _registration(self, payload: bytes, client_id: str) -> None:
        self.registrations.append(payload)
        assert message_codes.has_proof(self.token.proof_key, topics.REGISTRATION.below_root(client_id), payload)
        registration = decode(Registration, payload, topics.REGISTRATION.limit)
        assert registration.client_id == client_id
        answer = self.on_registration or ScriptedManager.accept
        reply = answer(self, registration)
        if reply is not None:
            self.say(topics.REGISTRATION_REPLY, client_id, reply)

    def accept(self, registration: Registration) -> RegistrationReply:
        self.keys = AgentKeys.derive(self.keyring.unseal(registration.sealed_secret, registration.client_id))
        return RegistrationReply(
            client_id=registration.client_id,
            agent_id=self.agent_id,
            organization_id=registration.organization_id or "default",
            session=self.known_session,
        )

    def reject(self, registration: Registration, error: Any) -> Rejection:
        digest = message_codes.payload_digest(self.registrations[-1])
        return Rejection(client_id=registration.client_id, digest=digest, error=error, reason="the test said so")

    def coded_presence(self, session: int, state: Any = "lost") -> bytes:
        assert self.keys is not None
        presence = Presence(state=state, session=session, sent_at=utc(time.time()), uptime=1.0)
        return message_codes.with_mac(self.keys.mac_key, topics.PRESENCE.below_root(self.agent_id), presence.body())
