"""One MQTT session of an enrolled agent: last will, subscriptions, birth, heartbeats, reports and receipts."""

import asyncio
import secrets
import time
from typing import cast

from schemas import message_codes, topics
from schemas.decoding import DecodeError, decode
from schemas.presence import ManagerKeys, Presence
from schemas.report_batches import FEATURE, PATIENCE, batch_body, fitting
from schemas.threats import Receipt
from simulate.agent import Agent
from simulate.doors import packets
from simulate.doors.door import DoorError
from simulate.doors.packets import Packet
from simulate.verifier import Verifier

KEEP_ALIVE = 30
"""Seconds without received bytes after which a PINGREQ is sent."""

ANSWERS_WITHIN = 15.0
"""Seconds to wait for the PINGRESP."""

_SNAPSHOT_FOR = 15.0
_OWN_TOPICS = 4
"""The number of the first subscriptions without which there is no session: presence, keys, receipts and policy."""

_NOT_AUTHORIZED = frozenset({4, 5})


class LoginRefusedError(DoorError):
    """The broker refuses this agent's login."""


class MqttSession(asyncio.Protocol):
    """One connection of an enrolled agent.

    Attributes:
        opened: Done when the subscriptions are granted and the birth is sent.
        over: Done when the connection has ended.
    """

    def __init__(self, agent: Agent, verifier: Verifier, heartbeat_interval: float | None) -> None:
        loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[None] = loop.create_future()
        self.over: asyncio.Future[None] = loop.create_future()
        self._agent = agent
        self._verifier = verifier
        self._interval = heartbeat_interval
        self._transport: asyncio.Transport | None = None
        self._framer = packets.Framer()
        self._packet_id = 0
        self._farewell = 0
        self._batch_waits_from = float("inf")
        self._snapshot_until: float | None = None
        self._has_own_birth = False
        self._heard_at = self._asked_at = 0.0
        self._next_heartbeat = float("inf")
        agent_id, organization_id = agent.identity.agent_id, agent.identity.organization_id
        self._presence = topics.PRESENCE.address(agent_id)
        self._receipts = topics.RECEIPTS.address(agent_id)
        self._policy = topics.POLICY.address(agent_id)
        self._changes = topics.BLOCKLIST_CHANGES.address(organization_id)
        self._snapshot = topics.BLOCKLIST.address(organization_id)
        self._keys = topics.MANAGER_KEYS.address()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the CONNECT."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own class
        identity = self._agent.identity
        self._heard_at = time.monotonic()
        client_id = f"{identity.agent_id}-{secrets.token_hex(16)}"
        will = self._presence, self._agent.presence("lost")
        self._write(packets.connect(client_id, identity.agent_id, identity.keys.mqtt_password, KEEP_ALIVE, will))

    def connection_lost(self, exc: Exception | None) -> None:
        """End the session."""
        self._end(exc or DoorError("the broker ended the connection"))

    def data_received(self, data: bytes) -> None:
        """Process the bytes that the broker sends."""
        self._heard_at = time.monotonic()
        try:
            for packet in self._framer.feed(data):
                self._take(packet)
        except ConnectionError as error:
            self._end(error)
            self._abort()

    def pump(self) -> None:
        """Send the outbox's due reports."""
        if self._agent.session is not self or self._transport is None:
            return
        agent = self._agent
        topic, row, now = topics.THREATS.address(agent.identity.agent_id), topics.THREATS, time.monotonic()
        if now - self._batch_waits_from >= PATIENCE:
            agent.sends_batches = False
        reports = [agent.signed_by_agent(body) for _, body in agent.outbox.take(now)]
        sent = []
        while reports:
            count = fitting([len(report) for report in reports]) if agent.sends_batches else 1
            body = reports[0] if count == 1 else batch_body(reports[:count])
            sent.append(packets.publish(topic, agent.coded(row, body), self._next_id()))
            if count > 1:
                self._batch_waits_from = min(now, self._batch_waits_from)
            reports = reports[count:]
        if sent:
            self._transport.write(b"".join(sent))

    def tick(self, now: float) -> None:
        """Send heartbeats and reports that are due, and close a connection whose broker does not answer."""
        if now >= self._next_heartbeat and self._interval is not None:
            self._next_heartbeat = now + self._interval
            self._publish(topics.HEARTBEAT, self._agent.heartbeat())
        if self._snapshot_until is not None and now >= self._snapshot_until:
            self._snapshot_until = None
            self._write(packets.unsubscribe(self._next_id(), self._snapshot))
        if self._agent.outbox:
            self.pump()
        again = self._agent.kept.take(now)
        if again:
            reports = [self._agent.signed_by_agent(body) for _, body in again]
            self._publish(topics.THREATS, batch_body(reports, resent=True))
        if now - self._heard_at < KEEP_ALIVE:
            return
        if self._asked_at <= self._heard_at:
            self._asked_at = now
            self._write(packets.PINGREQ)
        elif now - self._asked_at > ANSWERS_WITHIN:
            self._end(DoorError("the broker does not answer any more"))
            self._abort()

    def cut(self) -> None:
        """Close the connection without a sign-off, so that the broker publishes the last will."""
        self._end(DoorError("the connection was cut"))
        self._abort()

    def sign_off(self) -> None:
        """Publish `offline`, and disconnect when the broker has acknowledged it."""
        if not self._farewell:
            self._farewell = self._next_id()
            payload = self._agent.presence("offline")
            self._write(packets.publish(self._presence, payload, self._farewell, retained=True))

    def _take(self, packet: Packet) -> None:
        if packet.kind == packets.PUBLISH:
            message = packets.message(packet)
            if message.packet_id:
                self._write(packets.acknowledge(message.packet_id))
            self._heard(message.topic, message.payload)
        elif packet.kind == packets.PUBACK:
            if self._farewell and int.from_bytes(packet.body) == self._farewell and self._transport is not None:
                self._transport.write(packets.DISCONNECT)
                self._transport.close()
        elif packet.kind == packets.CONNACK:
            self._let_in(packets.return_code(packet))
        elif packet.kind == packets.SUBACK and not self.opened.done():
            self._subscribed(*packets.grants(packet))

    def _let_in(self, code: int) -> None:
        if code in _NOT_AUTHORIZED:
            raise LoginRefusedError(f"the broker refuses the login of {self._agent.identity.hostname}")
        if code:
            raise DoorError(f"the broker refuses {self._agent.identity.hostname}: code {code}")
        wanted = (self._presence, self._keys, self._receipts, self._policy, self._changes)
        self._write(packets.subscribe(self._next_id(), wanted))

    def _subscribed(self, *granted: bool) -> None:
        """Open the session, with the agent's own topics at least.

        The broker refuses the blocklist of an organization that the agent was moved out of while it was not connected;
        its policy, which is retained, names the new one.
        """
        agent = self._agent
        if not granted or not all(granted[:_OWN_TOPICS]):
            raise DoorError(f"the broker refuses the subscriptions of {agent.identity.hostname}")
        if not all(granted):
            agent.tally.last_error = f"the broker refuses {agent.identity.hostname} its organization's blocklist"
        self._publish(topics.PRESENCE, agent.presence("online"), is_coded=True)
        self._publish(topics.HEARTBEAT, agent.heartbeat())
        if self._interval is not None:  # agents spread over the interval
            self._next_heartbeat = time.monotonic() + self._interval * secrets.randbelow(1000) / 1000
        agent.session = self
        agent.tally.connected += 1
        agent.outbox.begin()
        agent.kept.begin(time.monotonic())
        self.pump()
        self._take_snapshot()
        self.opened.set_result(None)

    def _heard(self, topic: str, payload: bytes) -> None:
        agent = self._agent
        if topic == self._receipts:
            self._take_receipt(payload)
        elif topic == self._keys:
            self._take_keys(payload)
        elif topic == self._policy:
            self._take_policy(payload)
        elif topic == self._changes:
            if not agent.take_blocklist(topics.BLOCKLIST_CHANGES, payload, self._verifier):
                self._take_snapshot()
        elif topic == self._snapshot:
            agent.take_blocklist(topics.BLOCKLIST, payload, self._verifier)
        elif topic == self._presence:
            self._take_presence(payload)
        else:
            agent.tally.ignored += 1

    def _take_keys(self, payload: bytes) -> None:
        """Learn whether the manager takes several reports in one message, and the generation of its store."""
        keys = self._verifier.shared(topics.MANAGER_KEYS, None, payload)
        if isinstance(keys, ManagerKeys):
            self._agent.sends_batches, self._batch_waits_from = FEATURE in keys.accepts, float("inf")
            if keys.generation is not None:
                self._agent.kept.hear(keys.generation, time.monotonic())
        else:
            self._agent.tally.ignored += 1

    def _take_policy(self, payload: bytes) -> None:
        """Apply a policy; end the session if it names another organization, whose topics need a new one."""
        agent = self._agent
        former = agent.identity.organization_id
        applied = agent.take_policy(payload, self._verifier)
        if applied is not None:
            self._publish(topics.POLICY_APPLIED, applied)
        if agent.identity.organization_id != former:
            raise DoorError(f"{agent.identity.hostname} was moved to organization {agent.identity.organization_id}")

    def _take_receipt(self, payload: bytes) -> None:
        agent, row = self._agent, topics.RECEIPTS
        if not message_codes.has_mac(agent.identity.keys.mac_key, row.below_root(agent.identity.agent_id), payload):
            agent.tally.ignored += 1
            return
        try:
            receipt = decode(Receipt, payload, row.limit)
        except DecodeError:
            agent.tally.ignored += 1
            return
        self._batch_waits_from = float("inf")
        agent.take_receipt(receipt, time.monotonic())
        self.pump()

    def _take_presence(self, payload: bytes) -> None:
        """Overwrite the presence of an older session; begin a higher session if this session was reported as ended."""
        agent = self._agent
        if not payload or not message_codes.has_mac(
            agent.identity.keys.mac_key, topics.PRESENCE.below_root(agent.identity.agent_id), payload
        ):
            return
        try:
            presence = decode(Presence, payload, topics.PRESENCE.limit)
        except DecodeError:
            return
        mine = agent.identity.session
        if presence.session > mine or (presence.session == mine and presence.state != "online" and not self._farewell):
            agent.identity.session = presence.session
            raise DoorError("a newer session of this agent is known")
        if presence.session == mine:
            self._has_own_birth = True
        elif self._has_own_birth:
            self._publish(topics.PRESENCE, agent.presence("online"), is_coded=True)

    def _take_snapshot(self) -> None:
        """Subscribe to the blocklist's snapshot until no change has been missing for a while."""
        self._snapshot_until = time.monotonic() + _SNAPSHOT_FOR
        self._write(packets.subscribe(self._next_id(), [self._snapshot]))

    def _publish(self, row: topics.Topic, body: bytes, *, is_coded: bool = False) -> None:
        payload = body if is_coded else self._agent.coded(row, body)
        packet_id = self._next_id() if row.qos else 0
        topic = row.address(self._agent.identity.agent_id)
        self._write(packets.publish(topic, payload, packet_id, retained=row.retained))

    def _next_id(self) -> int:
        self._packet_id = self._packet_id % 0xFFFF + 1
        return self._packet_id

    def _write(self, raw: bytes) -> None:
        if self._transport is not None:
            self._transport.write(raw)

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    def _end(self, error: Exception) -> None:
        if self._agent.session is self:
            self._agent.session = None
            self._agent.tally.connected -= 1
        if not self.opened.done():
            self.opened.set_exception(error)
            self.opened.exception()  # retrieved, so that asyncio does not warn
            self.over.cancel()
        elif not self.over.done():
            self.over.set_result(None)
            if not self._farewell:
                self._agent.tally.last_error = str(error)
