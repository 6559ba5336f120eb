"""A fleet of simulated guards in one process, made from the contract and connected to a real broker."""

import asyncio
import json
import random
import secrets
import struct
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from benchmarks import packets
from manager.mqtt_packets import puback_packets, publish_packet, read_publish, remaining_length
from schemas import message_codes, topics
from schemas.blocklist import BlocklistChange
from schemas.decoding import decode
from schemas.identifiers import DEFAULT_ORGANIZATION
from schemas.keys import EnrollmentToken, has_version_proof, public_sign_key
from schemas.model import utc
from schemas.policy import PolicyApplied, digest_of
from schemas.presence import Enforced, ManagerKeys, PolicyState
from schemas.registration import RegistrationReply
from schemas.threats import Receipt
from tests.support.processes import ManagerProcess
from tests.support.simulated import SimulatedAgent
from tests.support.waiting import eventually

_BEAT_EVERY = 30.0
WORD_WITHIN = 0.3
"""Seconds until a heartbeat reports a changed blocklist, as in a real guard."""

_AT_ONCE = 8
"""Guards that register, or connect, at the same time."""

PATIENCE = 90.0
"""Timeout of each step in seconds; a regular heartbeat repeats what the manager may have missed."""

_IN_FORCE = ("policy_version", "policy_digest", "policy_state", "version_proof")
_REFUSED = 0x80
_DISCONNECT = b"\xe0\x00"


class Ledger:
    """Counts guards that reached a state, with the times on this process's monotonic clock."""

    def __init__(self) -> None:
        self._error: Exception | None = None
        self._moments: defaultdict[str, list[float]] = defaultdict(list)
        self._news = asyncio.Event()

    def note(self, fact: str) -> None:
        """Record one more guard now."""
        self._moments[fact].append(time.monotonic())
        self._news.set()

    def fail(self, error: Exception) -> None:
        """Raise this error in every present and future `wait`."""
        self._error = self._error or error
        self._news.set()

    async def reach(self, fact: str, count: int) -> list[float]:
        """Wait until `count` guards are recorded, and return the times; RuntimeError after the timeout."""
        moments = self._moments[fact]
        try:
            async with asyncio.timeout(PATIENCE):
                while len(moments) < count and self._error is None:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError as error:
            raise RuntimeError(f"{fact}: {len(moments):,} of {count:,} within {PATIENCE:.0f} s") from error
        if self._error is not None:
            raise self._error
        return moments[:count]


class Guard(asyncio.Protocol):
    """One simulated guard. Any violation of the contract breaks the connection and ends the run."""

    def __init__(self, agent: SimulatedAgent, ledger: Ledger) -> None:
        self.agent = agent
        self._key = public_sign_key(agent.token.sign_key)
        self._ledger = ledger
        self._transport: asyncio.Transport | None = None
        self._unread = b""
        self._mid = self._granted = self._sequence = 0
        self._timer: asyncio.TimerHandle | None = None
        self._in_force: dict[str, Any] = {}
        self._blocked: set[str] = set()
        organization, changes = DEFAULT_ORGANIZATION, topics.BLOCKLIST_CHANGES
        self._takes: dict[str, Callable[[bytes], None]] = {
            topics.PRESENCE.address(agent.agent_id): lambda _its_own: None,
            topics.RECEIPTS.address(agent.agent_id): self._take_receipt,
            topics.POLICY.address(agent.agent_id): self._take_policy,
            changes.address(organization): partial(self._take_blocklist, changes),
            topics.BLOCKLIST.address(organization): partial(self._take_blocklist, topics.BLOCKLIST),
        }

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connect with a last will, and subscribe."""
        if isinstance(transport, asyncio.Transport):
            self._transport = transport
            transport.write(_connect(self.agent))
            for topic in self._takes:
                self._mid += 1
                transport.write(packets.subscribe(self._mid, topic, 1))

    def connection_lost(self, exc: Exception | None) -> None:
        """End the run, unless the guard disconnected itself."""
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._ledger.fail(exc or ConnectionError(f"the broker hung up on {self.agent.hostname}"))

    def data_received(self, data: bytes) -> None:
        """Handle packets from the broker, and acknowledge its messages."""
        buffer, end, mids = self._unread + data, 0, []
        for first, body, end in packets.split(buffer):
            if packets.is_kind(first, packets.PUBLISH):
                topic, payload, mid = read_publish(buffer, first, body, end)
                self._takes[topic.decode()](payload)
                mids += [mid] if mid else []
            elif first in {packets.CONNACK, packets.SUBACK}:
                self._let_in(first, buffer[end - 1])
        self._unread = buffer[end:]
        self._write(puback_packets(mids))

    def report(self, address: str) -> float:
        """Report an attacker; return the time."""
        now = time.monotonic()
        self._publish(topics.THREATS, self.agent.threat(time.time(), sourceIp=address, user="root"))
        return now

    def settle(self) -> None:
        """Unsubscribe from the snapshot, as a real guard does after 15 s without a gap; changes stay subscribed."""
        topic = topics.BLOCKLIST.address(DEFAULT_ORGANIZATION).encode()
        self._write(b"\xa2" + remaining_length(4 + len(topic)) + struct.pack(">HH", 1, len(topic)) + topic)

    def leave(self) -> None:
        """Disconnect, so that no last will is published."""
        self._write(_DISCONNECT)
        if self._transport is not None:
            self._transport.close()
        self._transport = None

    def _let_in(self, first: int, answer: int) -> None:
        if answer >= _REFUSED or (answer and first == packets.CONNACK):
            raise ConnectionError(f"the broker refuses {self.agent.hostname}: {answer}")
        self._granted += first == packets.SUBACK
        if first == packets.SUBACK and self._granted == len(self._takes):
            self._publish(topics.PRESENCE, self.agent.presence("online", time.time()))
            self._beat()
            self._beat_within(random.uniform(0, _BEAT_EVERY))  # noqa: S311 -- spreads the fleet, no secret
            self._ledger.note("connected")

    def _beat(self) -> None:
        heartbeat = self.agent.heartbeat(
            time.time(),
            blocklist_sequence=self._sequence,
            outbox_size=0,
            outbox_dropped=0,
            health="ok",
            enforcement="nftables",
            enforced=self._enforced(),
            **self._in_force,
        )
        self._publish(topics.HEARTBEAT, heartbeat)
        self._timer = None
        self._beat_within(_BEAT_EVERY)

    def _enforced(self) -> Enforced:
        """Return the word of a simulated kernel: it has every block that the guard has accepted."""
        version = self._in_force.get("policy_version")
        return Enforced(policy_version=version, blocklist_sequence=self._sequence, set=len(self._blocked))

    def _beat_within(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        if self._timer is None or self._timer.when() > loop.time() + seconds:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = loop.call_later(seconds, self._beat)

    def _take_receipt(self, payload: bytes) -> None:
        if not message_codes.has_mac(self.agent.keys.mac_key, topics.RECEIPTS.below_root(self.agent.agent_id), payload):
            raise RuntimeError("a receipt is forged")
        receipt = decode(Receipt, payload, topics.RECEIPTS.limit)
        if not receipt.stored:
            raise RuntimeError(f"the report of {self.agent.hostname} is not stored: {receipt}")
        self._ledger.note(f"receipt of {self.agent.hostname}")

    def _take_policy(self, payload: bytes) -> None:
        policy = self._signed(topics.POLICY, self.agent.agent_id, payload)
        version, digest, proof = policy.version, policy.digest, policy.version_proof
        is_proven = has_version_proof(self._key, self.agent.agent_id, version, digest, proof)
        if not is_proven or digest_of(json.loads(payload)) != digest:
            raise RuntimeError("a policy is not what its version and digest say")
        if version <= self._in_force.get("policy_version", 0):
            return
        state = PolicyState.APPLIED
        self._in_force = dict(zip(_IN_FORCE, (version, digest, state, proof), strict=True))
        self._block("policy", (entry if isinstance(entry, str) else entry.value for entry in policy.blocklist.ips))
        applied = PolicyApplied(
            version=version, digest=digest, state=state, sent_at=utc(time.time()), enforced=self._enforced()
        )
        self._publish(topics.POLICY_APPLIED, self.agent.coded(topics.POLICY_APPLIED, applied.body()))
        self._ledger.note("a policy in force")

    def _take_blocklist(self, row: topics.Topic, payload: bytes) -> None:
        news = self._signed(row, DEFAULT_ORGANIZATION, payload)
        is_change = isinstance(news, BlocklistChange)
        if is_change and news.from_sequence > self._sequence:
            raise RuntimeError(f"{self.agent.hostname} missed a change of the blocklist")
        if news.sequence > self._sequence:
            self._sequence = news.sequence
            self._block("blocklist", (entry.value for entry in (news.added if is_change else news.entries)))
            self._beat_within(random.uniform(0, WORD_WITHIN))  # noqa: S311 -- spreads a fleet's answers, no secret

    def _block(self, medium: str, addresses: Iterable[str]) -> None:
        for fact in {f"{address} blocked by {medium}" for address in addresses} - self._blocked:
            self._blocked.add(fact)
            self._ledger.note(fact)

    def _signed(self, row: topics.Topic, identifier: str, payload: bytes) -> Any:
        if not message_codes.has_signature(self._key, row.below_root(identifier), payload):
            raise RuntimeError(f"{row.name} is forged")
        return decode(row.models[0], payload, row.limit)

    def _publish(self, row: topics.Topic, payload: bytes) -> None:
        self._mid = self._mid % 0xFFFF + 1
        topic, mid = row.address(self.agent.agent_id), self._mid if row.qos else 0
        self._write(publish_packet(topic, payload, mid, retained=row.retained))

    def _write(self, raw: bytes) -> None:
        if self._transport is not None:
            self._transport.write(raw)


def _connect(agent: SimulatedAgent) -> bytes:
    """Return a CONNECT of an enrolled agent with its last will, at QoS 1 and retained."""
    will = agent.presence("lost", time.time())
    client_id = f"{agent.agent_id}-{secrets.token_hex(16)}"
    topic, password = topics.PRESENCE.address(agent.agent_id), agent.keys.mqtt_password
    parts = [client_id.encode(), topic.encode(), will, agent.agent_id.encode(), password.encode()]
    body = b"\x00\x04MQTT\x04\xee\x00\x00" + b"".join(struct.pack(">H", len(part)) + part for part in parts)
    return b"\x10" + remaining_length(len(body)) + body


async def _ask(port: int, client_id: str, topic: str, *question: bytes) -> bytes:
    """Send a registering client's packets, and return the first message on a topic."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        hello = packets.connect(client_id, "registration", "registration")
        writer.writelines([hello, packets.subscribe(1, topic, 1), *question])
        buffer = b""
        while chunk := await reader.read(65536):
            buffer += chunk
            for first, body, end in packets.split(buffer):
                if packets.is_kind(first, packets.PUBLISH):
                    writer.write(_DISCONNECT)
                    await reader.read()  # until the broker has hung up: it counts registering clients
                    return read_publish(buffer, first, body, end)[1]
    finally:
        writer.close()
    raise ConnectionError("the broker hung up on a client that registers")


async def connected(manager: ManagerProcess, count: int, ledger: Ledger) -> list[Guard]:
    """Register and connect the fleet; return when all have their policy and are online at the manager."""
    port = int(urlsplit(manager.mqtt).port or 0)
    token = EnrollmentToken.parse((manager.data / "enroll.token").read_text())
    guards, gate = [], asyncio.Semaphore(_AT_ONCE)

    async def enter(number: int, seal_key: str) -> None:
        async with gate:
            agent = SimulatedAgent(f"guard-{number}", token, seal_key, session=1, uptime_from=time.time())
            client_id, payload = agent.registration(time.time())
            question = publish_packet(topics.REGISTRATION.address(client_id), payload, 2)
            reply = await _ask(port, client_id, topics.REGISTRATION_REPLY.address(client_id), question)
            agent.agent_id = decode(RegistrationReply, reply, topics.REGISTRATION_REPLY.limit).agent_id
            guard = Guard(agent, ledger)
            await asyncio.get_running_loop().create_connection(lambda: guard, "127.0.0.1", port)
            guards.append(guard)

    async with asyncio.timeout(PATIENCE):
        keys = await _ask(port, secrets.token_hex(16), topics.MANAGER_KEYS.address())
        seal_key = decode(ManagerKeys, keys, topics.MANAGER_KEYS.limit).seal_key
        await asyncio.gather(*(enter(number, seal_key) for number in range(count)))
    await ledger.reach("connected", count)
    await ledger.reach("a policy in force", count)
    await asyncio.to_thread(eventually, lambda: manager.get("/api/overview")["onlineAgents"] == count, PATIENCE)
    for guard in guards:
        guard.settle()
    return guards
