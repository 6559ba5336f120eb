"""Measures time to immunity: seconds until a connected fleet applied an attacker's block, through real brokers.

Run as ``python -m benchmarks.immunity [--quick] [-o json]``. Manager, broker and guards share the machine. All guards
live in this process, made from the contract: they verify, take and answer what real ones do, one after another on one
core, but keep no database and set no firewall.
"""

import argparse
import asyncio
import json
import os
import random
import secrets
import struct
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from math import ceil
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from rich.console import Console
from rich.table import Table

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
from tests.support.mosquitto import Mosquitto, mosquitto_path
from tests.support.processes import ManagerProcess
from tests.support.simulated import SimulatedAgent
from tests.support.waiting import eventually

_FULL, _QUICK = (1_000, 5), (100, 1)
"""Connected guards, and attackers that come one after another."""

_ENFORCED = 2.0
"""Target: seconds until the kernels of all guards have the block, at the manager."""

_TARGET = 1.0
"""Target: seconds until 95 % of the fleet has the block (design, section 5)."""

_PERCENTS = (50, 95, 100)
_BEAT_EVERY = 30.0
_WORD_WITHIN = 0.3
"""Seconds until a heartbeat reports a changed blocklist, as in a real guard."""

_AT_ONCE = 8
"""Guards that register, or connect, at the same time."""

_PATIENCE = 90.0
"""Timeout of each step in seconds; a regular heartbeat repeats what the manager may have missed."""

_DEFAULTS = {"HEARTBEAT_INTERVAL": "30", "STALE_AFTER": "90", "SWEEP_INTERVAL": "30", "SETTLING_TIME": "5"}
"""The manager's default settings, which the tests' processes shorten."""

_IN_FORCE = ("policy_version", "policy_digest", "policy_state", "version_proof")
_REFUSED = 0x80
_DISCONNECT = b"\xe0\x00"


class Attack(NamedTuple):
    """Result for one attacker, in seconds from the report of the second guard."""

    pair: list[float]  # when each of the two had the block in its own policy, and had said so
    third: float  # when a third guard reported it
    fleet: list[float]  # when each guard had the block in the organization's blocklist
    busy: float  # CPU time of this process from the third report to the last of these
    accepted: dict[str, float]  # the manager's own time to acceptance, by percent of the fleet
    enforced: dict[str, float]  # the manager's own time to immunity


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
            async with asyncio.timeout(_PATIENCE):
                while len(moments) < count and self._error is None:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError as error:
            raise RuntimeError(f"{fact}: {len(moments):,} of {count:,} within {_PATIENCE:.0f} s") from error
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
            self._beat_within(random.uniform(0, _WORD_WITHIN))  # noqa: S311 -- spreads a fleet's answers, no secret

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


async def _connected(manager: ManagerProcess, count: int, ledger: Ledger) -> list[Guard]:
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

    async with asyncio.timeout(_PATIENCE):
        keys = await _ask(port, secrets.token_hex(16), topics.MANAGER_KEYS.address())
        seal_key = decode(ManagerKeys, keys, topics.MANAGER_KEYS.limit).seal_key
        await asyncio.gather(*(enter(number, seal_key) for number in range(count)))
    await ledger.reach("connected", count)
    await ledger.reach("a policy in force", count)
    await asyncio.to_thread(eventually, lambda: manager.get("/api/overview")["onlineAgents"] == count, _PATIENCE)
    for guard in guards:
        guard.settle()
    return guards


async def _attacks(manager: ManagerProcess, count: int, attackers: int) -> list[Attack]:
    """Connect the fleet and report the attackers, each by three guards of its own."""
    ledger = Ledger()
    guards = await _connected(manager, count, ledger)
    found = []
    for number in range(attackers):
        address, reporters = f"203.0.113.{number + 1}", guards[3 * number :][:3]
        reporters[0].report(address)
        await ledger.reach(f"receipt of {reporters[0].agent.hostname}", 1)
        second = reporters[1].report(address)
        pair = await ledger.reach(f"{address} blocked by policy", 2)
        third, busy = reporters[2].report(address), time.process_time()
        fleet = [at - second for at in await ledger.reach(f"{address} blocked by blocklist", count)]
        busy = time.process_time() - busy
        accepted, enforced = await asyncio.to_thread(_recorded, manager, address, median(fleet))
        found.append(Attack([at - second for at in pair], third - second, fleet, busy, accepted, enforced))
    for guard in guards:
        guard.leave()
    return found


def _recorded(manager: ManagerProcess, address: str, least: float) -> tuple[dict[str, float], dict[str, float]]:
    """Return the manager's own times to acceptance and to immunity; one below `least` covers two guards only."""

    def look() -> tuple[dict[str, float], dict[str, float]] | None:
        incidents = manager.get("/api/incidents", kind="source_ip")
        found = next(each for each in incidents if each["value"] == address)
        figures = found["timeToAcceptance"], found["timeToImmunity"]
        return figures if all((each["100"] or 0.0) >= least for each in figures) else None

    return eventually(look, _PATIENCE, "the manager's figures")


def measure(broker: str, count: int, attackers: int) -> list[Attack]:
    """Return the results of all attackers, with a new manager, broker and fleet."""
    environment = {f"PANGUARD_{name}": value for name, value in _DEFAULTS.items()}
    with ExitStack() as stack:
        url = broker if broker == "embedded" else stack.enter_context(Mosquitto()).url
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        manager = stack.enter_context(ManagerProcess(home, url, environment))
        return asyncio.run(_attacks(manager, count, attackers))


def _figures(attacks: list[Attack], count: int) -> Iterator[tuple[str, list[float], str]]:
    """Yield each measurement: the seconds until 50 %, 95 % and all were reached, and a note."""
    pairs = [at for attack in attacks for at in attack.pair]
    yield "2 guards, own policy, from the second report", _reached(pairs), "policy/applied is sent"
    late = [at - attack.third for attack in attacks for at in attack.fleet]
    own = f"{sum(attack.busy for attack in attacks) / len(attacks):.2f} s CPU of this process in it"
    yield f"{count:,} guards, blocklist, from the third report", _reached(late), own
    whole = [at for attack in attacks for at in attack.fleet]
    yield "the same, from the second report", _reached(whole), f"target: p95 {_TARGET:g} s"
    told = f"median; guards tell it within {_WORD_WITHIN} s"
    accepted = [median(attack.accepted[str(percent)] for attack in attacks) for percent in _PERCENTS]
    yield "accepted, as the manager recorded it", accepted, told
    enforced = [median(attack.enforced[str(percent)] for attack in attacks) for percent in _PERCENTS]
    yield "enforced, as the manager recorded it", enforced, f"{told}; target: all {_ENFORCED:g} s"


def _reached(moments: list[float]) -> list[float]:
    return [sorted(moments)[ceil(len(moments) * percent / 100) - 1] for percent in _PERCENTS]


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke run of seconds; its figures mean little")
    parser.add_argument("-o", "--output", choices=["table", "json"], default="table")
    options = parser.parse_args(arguments)
    count, attackers = _QUICK if options.quick else _FULL
    names, lines = ("broker", "what", "p50", "p95", "max", "note"), []
    for broker in ["mosquitto"] * bool(mosquitto_path()) + ["embedded"]:
        for what, figures, note in _figures(measure(broker, count, attackers), count):
            lines.append((broker, what, *(round(figure, 3) for figure in figures), note))
    if options.output == "json":
        sys.stdout.write(json.dumps([dict(zip(names, line, strict=True)) for line in lines], indent=2) + "\n")
        return 0
    table = Table(*names, title=f"Time to immunity in seconds, {attackers} attackers, {os.cpu_count()} cores for all")
    for line in lines:
        table.add_row(*map(str, line))
    Console().print(table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
