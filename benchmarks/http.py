"""Measures the HTTP door: heartbeats and threats on 50 keep-alive connections, beside the bare server's limit.

Run as ``python -m benchmarks.http [--quick] [-o json]``. The generator is a process of its own on the same machine.
"""

import argparse
import asyncio
import json
import logging
import multiprocessing
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import structlog
from rich.console import Console
from rich.table import Table
from starlette.types import Receive, Scope, Send

from benchmarks import interpreter
from manager.api.app import create_app
from manager.api.authentication import Credentials
from manager.api.engine_client import EngineClient
from manager.api.middleware.client_address import ClientAddresses
from manager.api.services import Services
from manager.api.serving.server import ApiServer
from manager.domain.agents.host import Host
from manager.domain.agents.registry import Takeover
from manager.engine.batch import Publication
from manager.engine.commands.http_agent_requests import RegisterAgent, Registered
from manager.engine.engine import Engine
from manager.engine.fleet import Fleet
from manager.engine.inbox import Command, Inbox
from manager.engine.settings import EngineSettings
from manager.provisioning.dynamic_security import NoBrokerAccess
from manager.runtime import clock, gc_tuning
from manager.storage import tables
from manager.storage.connection import open_reader, open_store
from manager.storage.migrate import migrate
from manager.storage.queries import StoreQueries
from manager.storage.store import PeeweeStore
from schemas.keys import ManagerKeyring

CONNECTIONS = 50
TOGETHER = 20
HEARTBEATS, EVENTS = "heartbeats", "threat events, committed"
EVENTS_TOGETHER = f"the same, {TOGETHER} a request"
OF_SHIPPED_CLIENT = "events with verdicts, committed"
_TARGETS = {HEARTBEATS: 25_000, EVENTS: 15_000, EVENTS_TOGETHER: 15_000, OF_SHIPPED_CLIENT: 15_000}
_HEARTBEAT = (
    b'{"eventsProcessed":1200,"threatsDetected":3,"actionsExecuted":1,"mode":"protection","uptime":86400.5,'
    b'"memoryUsageMB":58.2}'
)
_EVENT = (
    b'{"threat":{"type":"brute_force","confidence":90,"evidence":{"sourceIp":"203.0.113.%d","user":"root",'
    b'"targetService":"sshd"},"technique":"T1110","severity":"high"},"response":"block_ip",'
    b'"timestamp":"2027-01-15T08:00:00.000Z"}'
)
_EVENT_WITH_VERDICT = (
    b'{"event":{"timestamp":"2027-01-15T08:00:00.000Z","source":"network","severity":"high",'
    b'"category":"brute_force","description":"many failed logins","raw":{"line":"Failed password for root"},'
    b'"host":"srv","metadata":{"sourceIP":"203.0.113.%d"}},'
    b'"verdict":{"conclusion":"malicious","confidence":92,"action":"block_ip"}}'
)
_EVENTS_TOGETHER = b'{"threats":[%b]}'


@dataclass(frozen=True, slots=True)
class Figure:
    """One row of the table: heartbeats or threats a second, beside the bare server's requests in the same run."""

    what: str
    value: float
    limit: float
    target: float
    cpu_us: float
    limit_cpu_us: float

    @property
    def ratio(self) -> float:
        """Value divided by limit."""
        return self.value / self.limit


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke run of seconds; its figures mean little")
    parser.add_argument("-o", "--output", choices=["table", "json"], default="table")
    options = parser.parse_args(arguments)
    interpreter.announce()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    figures = measure(seconds=0.5 if options.quick else 5.0)
    if options.output == "json":
        sys.stdout.write(json.dumps([{**asdict(figure), "ratio": figure.ratio} for figure in figures], indent=2) + "\n")
    else:
        Console().print(table(figures))
    return 0


def measure(seconds: float) -> list[Figure]:
    """Return all figures of one run."""
    figures = []
    with tempfile.TemporaryDirectory(prefix="bench-") as name, HttpCore(Path(name)) as core:
        for number in (1, 500):
            agents = core.register(number)
            events = [_EVENT % address for address in range(250)]
            verdicts = [_EVENT_WITH_VERDICT % number for number in range(250)]
            together = [_EVENTS_TOGETHER % b",".join(events[n : n + TOGETHER]) for n in range(0, 240, TOGETHER)]
            for what, path, bodies, each in (
                (HEARTBEATS, "heartbeat", [_HEARTBEAT], 1),
                (EVENTS, "events", events, 1),
                (EVENTS_TOGETHER, "events", together, TOGETHER),
                (OF_SHIPPED_CLIENT, "events", verdicts, 1),
            ):
                requests = [_request(path, agent_id, token, bodies[index % len(bodies)])
                            for index, (agent_id, token) in enumerate(agents * (1 if number > 1 else 250))]  # fmt: skip
                with _bare() as port:
                    limit, limit_cpu = _rate(port, requests, seconds)
                value, cpu = _rate(core.server.port, requests, seconds)
                what_all = f"{what}, {number} agent{'s' if number > 1 else ''}"
                micro = (round(cpu * 1e6 / each, 1), round(limit_cpu * 1e6, 1))
                figures.append(Figure(what_all, round(value * each), round(limit), _TARGETS[what], *micro))
    return figures


def _request(path: str, agent_id: str, token: str, body: bytes) -> bytes:
    head = (
        f"POST /api/agents/{agent_id}/{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: guard/1.4\r\n"
        f"Authorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class HttpCore:
    """Engine, store and HTTP door, with no broker; a context manager.

    Args:
        directory: where the store is.
        feed: puts into the inbox what comes from a broker; called by the engine's thread before each step.
        acknowledge: called with the handles of the messages that a step has committed.
    """

    def __init__(
        self,
        directory: Path,
        feed: Callable[[Inbox], None] | None = None,
        acknowledge: Callable[[list[Any]], None] = lambda _handles: None,
    ) -> None:
        self._feed = feed
        self.engine_cpu = 0.0
        """CPU seconds of the engine's thread up to its last step."""
        path = directory / "panguard.db"
        self._database = open_store(path)
        tables.database.initialize(self._database)
        migrate(self._database, path)
        keyring = ManagerKeyring(bytes(32))
        store = PeeweeStore(self._database, keyring.store_key)
        self._fleet = Fleet(keyring, EngineSettings(takeover=Takeover.ALLOW))
        now = clock.read()
        self._fleet.restore(store.load(), store.archive.live(now.wall), now.wall)
        self._engine = Engine(self._fleet, store, NoBroker(), acknowledge, NoBrokerAccess())
        self._engine.restore_correlation(now)
        self._engine.http_door_opened(now)
        self.counters = self._fleet.counters
        self._woken = threading.Event()
        self._ended = False
        self._reader = open_reader(path)
        services = Services(
            engine=EngineClient(self._engine.inbox.submit, self._woken.set),
            queries=StoreQueries(self._reader, figures=store.figures),
            credentials=Credentials("admin", self._fleet.registry.find_by_http_digest),
            clock=lambda: clock.read().wall,
            version="bench",
            started_at=now.wall,
            not_ready=lambda: None,
            client_addresses=ClientAddresses(["127.0.0.1"]),
            rate_limit=0,
        )
        self._engine.listeners.append(services.stream.publish)
        self.server = ApiServer(create_app(services), "127.0.0.1", 0, on_stop=services.stream.close)
        self._thread = threading.Thread(target=self._work, name="engine")

    def __enter__(self) -> Self:
        self.server.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.stop()
        self._ended = True
        self._woken.set()
        self._thread.join()
        self._reader.close()
        self._database.close()

    def register(self, number: int) -> list[tuple[str, str]]:
        """Return ids and tokens of new agents."""
        answers: list[Registered] = []
        done = threading.Event()

        def reply(value: Registered, error: Exception | None) -> None:
            if error is not None:
                raise error
            answers.append(value)
            if len(answers) == number:
                done.set()

        for index in range(number):
            host = Host.of(f"srv-{number}-{index}", "Debian 12", "x64", "1.4")
            self._engine.inbox.submit(Command(RegisterAgent(host, None), reply))
        self._woken.set()
        done.wait(60)
        return [(answer.record["agentId"], answer.token) for answer in answers]

    def _work(self) -> None:
        gc_tuning.freeze_and_relax()
        while not self._ended:
            if self._feed is not None:
                self._feed(self._engine.inbox)
            if not self._engine.has_work:
                self._woken.wait(0.25)
            self._woken.clear()
            self._engine.step(clock.read())
            self.engine_cpu = time.thread_time()


class NoBroker:
    """A publisher without a broker."""

    ready = False
    backlog = 0

    def publish(self, publication: Publication) -> None:
        """Drop the publication."""


async def _hello(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    await receive()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"11")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b'{"ok":true}'})


@contextmanager
def _bare() -> Iterator[int]:
    server = ApiServer(_hello, "127.0.0.1", 0)
    server.start()
    try:
        yield server.port
    finally:
        server.stop()


def _rate(port: int, requests: list[bytes], seconds: float) -> tuple[float, float]:
    """Return requests a second, and this process's CPU seconds for each."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    generator = context.Process(target=_generate, args=(port, requests, seconds, there))
    generator.start()
    here.recv()
    before = time.process_time()
    here.send(None)
    answered, elapsed = here.recv()
    cpu = time.process_time() - before
    generator.join()
    return answered / elapsed, cpu / answered


def _generate(port: int, requests: list[bytes], seconds: float, pipe: "multiprocessing.connection.Connection") -> None:
    """Send requests over all connections, one at a time on each; raise on any answer but 2xx."""
    import uvloop  # noqa: PLC0415 -- in the generator's own process

    pipe.send(os.getpid())
    pipe.recv()
    pipe.send(uvloop.run(_load(port, requests, seconds)))


async def _load(port: int, requests: list[bytes], seconds: float) -> tuple[int, float]:
    loop = asyncio.get_running_loop()
    began = time.monotonic()
    clients = []
    for index in range(CONNECTIONS):
        share = requests[index::CONNECTIONS] or requests
        _, client = await loop.create_connection(lambda share=share: _Client(share), "127.0.0.1", port)
        clients.append(client)
    await asyncio.sleep(seconds)
    answered = sum(client.answered for client in clients)
    elapsed = time.monotonic() - began
    for client in clients:
        client.close()
    return answered, elapsed


class _Client(asyncio.Protocol):
    """Sends the next request when the last answer is complete."""

    def __init__(self, requests: list[bytes]) -> None:
        self._requests = requests
        self._next = 0
        self._buffer = b""
        self.answered = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        start = self._buffer.find(b"content-length: ") + 16
        length = int(self._buffer[start : self._buffer.find(b"\r", start)])
        if len(self._buffer) < head + 4 + length:
            return
        if self._buffer[9:10] != b"2":
            raise RuntimeError(self._buffer.decode())
        self._buffer = b""
        self.answered += 1
        self._send()

    def close(self) -> None:
        self._transport.abort()  # type: ignore[attr-defined]

    def _send(self) -> None:
        self._transport.write(self._requests[self._next])  # type: ignore[attr-defined]
        self._next = (self._next + 1) % len(self._requests)


def table(figures: list[Figure]) -> Table:
    """Return the table of a run."""
    shown = Table(
        "a second, at 50 keep-alive connections",
        "here",
        "bare server, requests",
        "ratio",
        "to reach",
        "CPU µs each",
        "bare",
    )
    for figure in figures:
        shown.add_row(
            figure.what,
            f"{figure.value:,.0f}",
            f"{figure.limit:,.0f}",
            f"{figure.ratio:.2f}",
            f"{figure.target:,.0f}",
            f"{figure.cpu_us:.1f}",
            f"{figure.limit_cpu_us:.1f}",
        )
    return shown


if __name__ == "__main__":
    sys.exit(main())
