"""Load generator: a process that publishes prepared messages of many agents, each on its own socket.

Everything is encoded and authenticated before the clock starts, so that during the measurement the process only copies
bytes and counts answers.
"""

import json
import secrets
import select
import socket
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Literal, Protocol

from benchmarks import packets
from manager.mqtt_packets import puback_packets, publish_packet, read_publish
from schemas import message_codes, topics
from schemas.model import iso
from schemas.report_batches import batch_body
from tests.support.enrolled import Sender

_AT_ONCE = 8
"""Consecutive messages of one agent before the next agent's turn."""

_SENDS_BETWEEN_READS = 64
_ATTACKERS = 20
"""Source addresses of each agent, shared with no other; the technique is the same everywhere."""

_STILL = 30.0
"""Seconds without any answer after which a run fails."""

_HANDSHAKES = 100
_PACE = 25_000
"""Messages a second by which the times within the messages advance, independent of the sending rate."""

_BEGAN = time.time()
"""The time at which the times within all agents' messages begin; a generator is a process of its own. From the time at
which each agent's messages are encoded, ids and times of one batch would lie seconds apart, which those of a fleet that
reports at once do not."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The load: `count` reports or heartbeats in all, at most `window` of them not yet handled by the manager.

    `in_message` reports go in one message.
    """

    port: int
    kind: Literal["threats", "heartbeats"]
    senders: list[Sender]
    count: int
    window: int
    receipts: bool = True
    in_message: int = 1


@dataclass(slots=True)
class Sent:
    """The result; times are monotonic, which all processes of a machine share.

    `published` counts reports or heartbeats, `messages` those that carry them.
    """

    began: float = 0.0
    published: int = 0
    messages: int = 0
    pubacks: int = 0
    receipts: int = 0
    stored_ids: int = 0
    deferred_ids: int = 0
    last_receipt: float = 0.0
    payload_bytes: int = 0


class Counter(Protocol):
    """A number in shared memory: the messages that the manager has handled."""

    value: int


@dataclass(slots=True)
class _Agent:
    sender: Sender
    sock: socket.socket
    chunks: Iterator[list[bytes]]
    unread: bytes = b""


def generate(plan: Plan, handled: Counter, pipe: Connection) -> None:
    """Connect and encode, send ``ready``, wait for a message, publish, and send a `Sent` when all is answered."""
    each = plan.count // len(plan.senders)  # the counts of `ingest` divide evenly
    spacing = len(plan.senders) / _PACE
    encoded = [_chunks(plan.kind, sender, each, spacing, plan.in_message) for sender in plan.senders]
    crowd = _Crowd(plan, handled, _connect(plan, [iter(chunks) for chunks, _ in encoded]))
    crowd.sent.payload_bytes = encoded[0][1]
    pipe.send("ready")
    pipe.recv()
    crowd.publish()
    crowd.await_answers()
    pipe.send(crowd.sent)
    pipe.recv()
    crowd.close()


class _Crowd:
    """All agents of a plan, connected."""

    def __init__(self, plan: Plan, handled: Counter, agents: list[_Agent]) -> None:
        self.sent = Sent()
        self._plan = plan
        self._handled = handled
        self._agents = agents
        self._by_descriptor = {agent.sock.fileno(): agent for agent in agents}
        self._poller = select.epoll()
        for descriptor in self._by_descriptor:
            self._poller.register(descriptor, select.EPOLLIN)

    def publish(self) -> None:
        """Send everything, each agent in turn, never more than the window beyond the handled count."""
        waiting, sends, sent = list(self._agents), 0, self.sent
        sent.began = time.monotonic()
        while waiting:
            going = []
            for agent in waiting:
                chunk = next(agent.chunks, None)
                if chunk is None:
                    continue
                if sent.published - self._handled.value > self._plan.window:
                    self._until(lambda: sent.published - self._handled.value <= self._plan.window)
                agent.sock.sendall(b"".join(chunk))
                sent.published += len(chunk) * self._plan.in_message
                sent.messages += len(chunk)
                sends += 1
                if sends % _SENDS_BETWEEN_READS == 0:
                    self._read(0)
                going.append(agent)
            waiting = going

    def await_answers(self) -> None:
        """Read until everything is acknowledged and, where receipts are sent, receipted."""
        self._until(self._complete)

    def close(self) -> None:
        """Close the connections."""
        self._poller.close()
        for agent in self._agents:
            agent.sock.close()

    def _complete(self) -> bool:
        sent = self.sent
        if self._plan.kind == "heartbeats":
            return self._handled.value >= sent.published
        done = sent.stored_ids + sent.deferred_ids if self._plan.receipts else self._handled.value
        return sent.pubacks >= sent.messages and done >= sent.published

    def _until(self, done: Callable[[], bool]) -> None:
        before, heard = -1, time.monotonic()
        while not done():
            self._read(0.002)
            progress = self.sent.pubacks + self.sent.stored_ids + self._handled.value
            if progress != before:
                before, heard = progress, time.monotonic()
            elif time.monotonic() - heard > _STILL:
                raise RuntimeError(f"nothing is handled any more: {self.sent}, {self._handled.value} handled")

    def _read(self, timeout: float) -> None:
        """Handle packets from the broker."""
        for descriptor, _ in self._poller.poll(timeout):
            agent = self._by_descriptor[descriptor]
            chunk = agent.sock.recv(65536)
            if not chunk:
                raise RuntimeError(f"the broker closed the connection of {agent.sender.agent_id}")
            buffer, end = agent.unread + chunk, 0
            for kind, body, end in packets.split(buffer):
                if kind == packets.PUBACK:
                    self.sent.pubacks += 1
                elif packets.is_kind(kind, packets.PUBLISH):
                    self._receipt(agent, *read_publish(buffer, kind, body, end))
            agent.unread = buffer[end:]

    def _receipt(self, agent: _Agent, _topic: bytes, payload: bytes, mid: int) -> None:
        sent = self.sent
        if mid:
            agent.sock.sendall(puback_packets([mid]))
        receipt: dict[str, Any] = json.loads(payload)
        sent.receipts += 1
        sent.stored_ids += len(receipt.get("stored", ()))
        sent.deferred_ids += sum(len(entry["ids"]) for entry in receipt.get("deferred", ()))
        sent.last_receipt = time.monotonic()


def _connect(plan: Plan, chunks: list[Iterator[list[bytes]]]) -> list[_Agent]:
    """Open one connection for each agent, subscribed to its receipts."""
    agents: list[_Agent] = []
    for start in range(0, len(plan.senders), _HANDSHAKES):
        group = []
        for sender, its in zip(plan.senders[start:][:_HANDSHAKES], chunks[start:][:_HANDSHAKES], strict=True):
            sock = socket.create_connection(("127.0.0.1", plan.port), timeout=_STILL)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client_id = f"{sender.agent_id}-{'0' * 32}"
            receipts = topics.RECEIPTS.address(sender.agent_id)
            hello = packets.connect(client_id, sender.agent_id, sender.password)
            sock.sendall(hello)
            sock.sendall(packets.subscribe(1, receipts, 1))
            group.append(_Agent(sender, sock, its))
        for agent in group:
            _await_subscription(agent)
        agents += group
    return agents


def _await_subscription(agent: _Agent) -> None:
    buffer = b""
    while True:
        chunk = agent.sock.recv(4096)
        if not chunk:
            raise RuntimeError(f"the broker refuses {agent.sender.agent_id}")
        buffer += chunk
        if any(packets.is_kind(kind, packets.SUBACK) for kind, _, _ in packets.split(buffer)):
            return


def _chunks(
    kind: str, sender: Sender, count: int, spacing: float, in_message: int = 1
) -> tuple[list[list[bytes]], int]:
    """Return an agent's messages as packets, `_AT_ONCE` reports or heartbeats in each piece, and a payload's size."""
    row = topics.THREATS if kind == "threats" else topics.HEARTBEAT
    below, topic = row.below_root(sender.agent_id), row.address(sender.agent_id)
    body = threat_body if kind == "threats" else _heartbeat
    encoded, size, now, step = [], 0, _BEGAN, in_message
    for number in range(step, count + 1, step):
        bodies = [body(sender, each, now, each * spacing) for each in range(number - step + 1, number + 1)]
        whole = bodies[0] if step == 1 else batch_body(bodies)
        payload = message_codes.with_mac(sender.mac_key, below, whole)
        size = len(payload)
        encoded.append(publish_packet(topic, payload, 1 + number // step % 0xFFF0 if row.qos else 0))
    in_piece = max(1, _AT_ONCE // step)
    return [encoded[start : start + in_piece] for start in range(0, len(encoded), in_piece)], size


def _uuid7(at: float) -> str:
    """Return a UUIDv7 of a time."""
    tail = secrets.token_hex(9)
    stamp = f"{int(at * 1000):012x}"
    return f"{stamp[:8]}-{stamp[8:]}-7{tail[:3]}-8{tail[3:6]}-{tail[6:]}"


def threat_body(sender: Sender, number: int, now: float, elapsed: float) -> bytes:
    """Return an agent's report without its MAC, of an event `elapsed` seconds after `now`."""
    known = zlib.crc32(f"{sender.agent_id} {number % _ATTACKERS}".encode())
    source = ".".join(str(byte) for byte in known.to_bytes(4))
    return (
        f'{{"id":"{_uuid7(now + elapsed)}","agentId":"{sender.agent_id}",'
        f'"threat":{{"type":"brute_force","confidence":80.0,"evidence":{{"sourceIp":"{source}","user":"root"}},"severity":"medium","technique":"T1110","count":5}},'
        f'"response":"block_ip","timestamp":"{iso(now + elapsed)}"}}'
    ).encode()


def _heartbeat(sender: Sender, number: int, now: float, elapsed: float) -> bytes:
    return (
        f'{{"cpu":12.5,"memory":40.1,"eventsProcessed":17,"eventsTotal":{number * 17},"mode":"protection",'
        f'"uptime":{elapsed:.3f},"sentAt":"{iso(now + elapsed)}","session":{sender.session},'
        f'"sequence":{number},"policyVersion":{sender.policy_version},"policyDigest":"{sender.policy_digest}",'
        f'"policyState":"applied","versionProof":"{"A" * 86}","blocklistSequence":0,"outboxSize":0,'
        f'"outboxDropped":0,"health":"ok","enforcement":"nftables",'
        f'"sources":[{{"name":"journal","state":"ok","records":{number},"understood":{number}}}],'
        f'"enforced":{{"policyVersion":{sender.policy_version},"blocklistSequence":0,"set":3}}}}'
    ).encode()
