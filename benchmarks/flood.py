"""Measures one flooding agent: receipt delays of the other agents, and memory of broker and manager.

Run as ``python -m benchmarks.flood [--quick] [-o json]``. Broker and manager are the product's own processes, with the
budgets that they have by default. One enrolled agent's login is used by a process that publishes reports as fast as its
socket takes them, and comes back at once where it is cut off. The others report one threat each 1.5 seconds.
"""

import argparse
import json
import multiprocessing
import select
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from itertools import cycle
from math import ceil
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks import interpreter, packets
from manager.mqtt_packets import puback_packets, publish_packet, read_publish
from schemas import topics
from schemas.limits import KIB, MIB, THREAT_LIMIT
from tests.support.enrolled import Sender, enroll
from tests.support.mosquitto import mosquitto_path
from tests.support.processes import ManagerProcess
from tests.support.production_mosquitto import ProductionMosquitto

_OTHERS = 20
_BETWEEN = 1.5
"""Seconds between two reports of one agent; receipts are collected for one second."""

_PATIENCE = 15.0
_LOOK = 0.02
_LARGE, _SMALL = 160, 40_000
"""Prepared reports of the flooder, 256 KiB or 300 bytes each, which it repeats."""

_TARGET = 1.0


class Load(NamedTuple):
    """Parameters of a flood."""

    name: str
    size: int
    ready: int


LOADS = (Load("256 KiB", THREAT_LIMIT, _LARGE), Load("300 bytes", 300, _SMALL))


@dataclass(slots=True)
class Flooded:
    """Result of the flooder: messages and bytes that its sockets accepted, disconnects and refusals."""

    messages: int = 0
    bytes: int = 0
    cut: int = 0
    refused: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class Measured:
    """One phase: seconds from the publish to the receipt for each report of the others, and peaks of memory in MiB."""

    delays: list[float] = field(default_factory=list)
    missing: int = 0
    deferred: int = 0
    broker: float = 0.0
    manager: float = 0.0
    flooded: Flooded = field(default_factory=Flooded)

    def percentile(self, percent: int) -> float:
        """Return a percentile of the delays."""
        ordered = sorted(self.delays)
        return ordered[max(0, ceil(len(ordered) * percent / 100) - 1)] if ordered else float("nan")


def _packet(sender: Sender, number: int, size: int) -> tuple[str, bytes]:
    threat_id = f"f-{time.time_ns():x}-{number}"
    payload = sender.report(threat_id, size)
    return threat_id, publish_packet(topics.THREATS.address(sender.agent_id), payload, 1 + number % 0xFFF0)


def connected(port: int, sender: Sender, *, subscribed: bool) -> socket.socket | None:
    """Return a connection of an agent; None if the broker refuses it."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(packets.connect(f"{sender.agent_id}-{'0' * 32}", sender.agent_id, sender.password))
    answer = sock.recv(4)
    if len(answer) < 4 or answer[3]:
        sock.close()
        return None
    if subscribed:
        sock.sendall(packets.subscribe(1, topics.RECEIPTS.address(sender.agent_id), 1))
    return sock


def flood(port: int, sender: Sender, load: Load, pipe: Connection) -> None:
    """Connect, report readiness, publish for the seconds received through the pipe, and send back a `Flooded`."""
    ready = [_packet(sender, number, load.size)[1] for number in range(load.ready)]
    step = max(1, 64 * KIB // load.size)
    pieces = cycle([(b"".join(ready[at : at + step]), len(ready[at : at + step])) for at in range(0, len(ready), step)])
    pipe.send("ready")
    seconds = pipe.recv()
    done = Flooded()
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        with suppress(OSError):
            sock = connected(port, sender, subscribed=False)
            if sock is None:
                done.refused += 1
                time.sleep(0.05)  # a busy refusal loop would only measure this process
                continue
            with sock:
                _pour(sock, pieces, done, began + seconds)
        done.cut += time.monotonic() - began < seconds
    done.seconds = time.monotonic() - began
    pipe.send(done)


def _pour(sock: socket.socket, pieces: Iterator[tuple[bytes, int]], done: Flooded, end: float) -> None:
    sock.setblocking(False)
    poller = select.poll()
    poller.register(sock, select.POLLIN | select.POLLOUT)
    left, count = memoryview(b""), 0
    while time.monotonic() < end:
        for _, event in poller.poll(100):
            if event & select.POLLIN and not sock.recv(256 * KIB):
                return
            if event & select.POLLOUT:
                if not left:
                    done.messages += count
                    piece, count = next(pieces)
                    left = memoryview(piece)
                sent = sock.send(left)
                done.bytes += sent
                left = left[sent:]


class Others:
    """Agents that report at intervals, each on its own connection."""

    def __init__(self, port: int, senders: list[Sender]) -> None:
        self._agents: dict[int, tuple[socket.socket, Sender]] = {}
        self._unread: dict[int, bytes] = {}
        self._poller = select.poll()
        self._number = 0
        for sender in senders:
            sock = connected(port, sender, subscribed=True)
            if sock is None:
                raise RuntimeError(f"the broker refuses {sender.agent_id}")
            self._agents[sock.fileno()] = sock, sender
            self._unread[sock.fileno()] = b""
            self._poller.register(sock, select.POLLIN)

    def close(self) -> None:
        """Close the connections."""
        for sock, _ in self._agents.values():
            sock.close()

    def measure(self, seconds: float, done: Measured) -> None:
        """Report for some seconds, and wait for the last receipts."""
        pending: dict[str, float] = {}
        began = time.monotonic()
        due = {fd: began + _BETWEEN * place / len(self._agents) for place, fd in enumerate(self._agents)}
        while (now := time.monotonic()) < began + seconds + _PATIENCE:
            if now < began + seconds:
                for descriptor, at in due.items():
                    if at <= now:
                        due[descriptor] = now + _BETWEEN
                        self._report(descriptor, pending)
            elif not pending:
                break
            self._read(pending, done)
        done.missing += len(pending)

    def _report(self, descriptor: int, pending: dict[str, float]) -> None:
        sock, sender = self._agents[descriptor]
        self._number += 1
        threat_id, packet = _packet(sender, self._number, 300)
        pending[threat_id] = time.monotonic()
        sock.sendall(packet)

    def _read(self, pending: dict[str, float], done: Measured) -> None:
        for descriptor, _ in self._poller.poll(1000 * _LOOK):
            sock, sender = self._agents[descriptor]
            chunk = sock.recv(64 * KIB)
            if not chunk:
                raise RuntimeError(f"the broker closed the connection of {sender.agent_id}")
            buffer, end = self._unread[descriptor] + chunk, 0
            for kind, body, end in packets.split(buffer):
                if packets.is_kind(kind, packets.PUBLISH):
                    _, payload, mid = read_publish(buffer, kind, body, end)
                    sock.sendall(puback_packets([mid]))
                    self._receipt(json.loads(payload), pending, done)
            self._unread[descriptor] = buffer[end:]

    def _receipt(self, receipt: dict[str, Any], pending: dict[str, float], done: Measured) -> None:
        now = time.monotonic()
        for threat_id in receipt.get("stored", ()):
            sent = pending.pop(threat_id, None)
            if sent is not None:
                done.delays.append(now - sent)
        done.deferred += sum(len(entry["ids"]) for entry in receipt.get("deferred", ()))


@contextmanager
def watched(broker: int, manager: int, done: Measured) -> Iterator[None]:
    """Record the peak memory of both processes."""
    over = threading.Event()

    def look() -> None:
        processes = psutil.Process(broker), psutil.Process(manager)
        while not over.wait(_LOOK):
            done.broker = max(done.broker, processes[0].memory_info().rss / MIB)
            done.manager = max(done.manager, processes[1].memory_info().rss / MIB)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def phase(
    port: int, others: Others, pids: tuple[int, int], seconds: float, flooding: tuple[Sender, Load] | None
) -> Measured:
    """Measure for some seconds, with or without a flood."""
    done = Measured()
    with watched(*pids, done):
        if flooding is None:
            others.measure(seconds, done)
            return done
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        process = context.Process(target=flood, args=(port, *flooding, there))
        process.start()
        there.close()
        try:
            here.recv()
            here.send(seconds)
            others.measure(seconds, done)
            done.flooded = here.recv()
        finally:
            process.join(_PATIENCE)
            process.kill()
    return done


def run(kind: str, seconds: float) -> dict[str, Measured]:
    """Return the measurements at one broker, by phase."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        senders = enroll(home / "manager", _OTHERS + len(LOADS))
        broker = "embedded"
        if kind == "Mosquitto":
            mosquitto = stack.enter_context(ProductionMosquitto(home / "manager", home / "broker"))
            broker = mosquitto.url
        manager = stack.enter_context(ManagerProcess(home, broker, {"PANGUARD_STALE_AFTER": "90"}))
        port = int(urlsplit(manager.mqtt).port or 0)
        running = manager.running.process.pid if manager.running else 0
        child = mosquitto.pid if kind == "Mosquitto" else psutil.Process(running).children()[0].pid
        others = Others(port, senders[len(LOADS) :])
        stack.callback(others.close)
        found = {"quiet": phase(port, others, (child, running), seconds, None)}
        for sender, load in zip(senders, LOADS, strict=False):
            found[load.name] = phase(port, others, (child, running), seconds, (sender, load))
        return found


def _table(found: dict[str, dict[str, Measured]]) -> Table:
    table = Table(
        "broker",
        "flood",
        "sent a second",
        "MiB/s",
        "cut",
        "p50 s",
        "p95 s",
        "max s",
        "missing",
        "broker MiB",
        "manager MiB",
    )
    for kind, phases in found.items():
        for name, done in phases.items():
            flooded = done.flooded
            rate = flooded.messages / flooded.seconds if flooded.seconds else 0.0
            volume = flooded.bytes / MIB / flooded.seconds if flooded.seconds else 0.0
            delays = [f"{done.percentile(percent):.3f}" for percent in (50, 95, 100)]
            table.add_row(
                kind, name, f"{rate:,.0f}", f"{volume:,.0f}", str(flooded.cut + flooded.refused), *delays,
                str(done.missing), f"{done.broker:.0f}", f"{done.manager:.0f}",
            )  # fmt: skip
    return table


def main() -> int:
    """Measure with both brokers and print the table; return 1 if a receipt missed the target."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--quick", action="store_true", help="four seconds for each phase instead of fifteen")
    words.add_argument("--broker", choices=["embedded", "Mosquitto"], help="only this one")
    words.add_argument("-o", "--output", choices=["table", "json"], default="table")
    given = words.parse_args()
    interpreter.announce()
    kinds = ["embedded", *(["Mosquitto"] if mosquitto_path() else [])]
    found = {kind: run(kind, 4.0 if given.quick else 15.0) for kind in kinds if given.broker in {None, kind}}
    if given.output == "json":
        json.dump(
            {kind: {name: asdict(done) for name, done in phases.items()} for kind, phases in found.items()}, sys.stdout
        )
        return 0
    Console(width=140).print(_table(found))
    late = max(done.percentile(100) for phases in found.values() for done in phases.values())
    print(f"longest delay {late:.3f} s; to reach {_TARGET:g} s")
    return int(late > _TARGET)


if __name__ == "__main__":
    raise SystemExit(main())
