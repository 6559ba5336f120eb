"""Measures an engine that takes in threats at a steady rate while 20 consoles are open, beside the same without any.

Run as ``python -m benchmarks.open_consoles [--quick] [-o json]``: rounds with and without consoles alternate, because
other load of the machine changes both alike. A console follows the event stream and asks for the situation after
events, at most once a second, as the page does; engine, HTTP door and reading threads are one process, as in a manager.
"""

import argparse
import http.client
import json
import logging
import multiprocessing
import statistics
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import asdict, astuple, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

import structlog
from rich.console import Console
from rich.table import Table

from benchmarks.http import HttpCore
from benchmarks.ingested import Ingest
from benchmarks.large_store import LargeStore
from schemas.keys import ManagerKeyring

CONSOLES = 20
RATE = 300.0
"""Threats a second, 26 million a day."""

_APART = 1.0
_SETTLE = 1.0
_HEADERS = {"Authorization": "Bearer admin"}


@dataclass(frozen=True, slots=True)
class Figure:
    """Rounds with so many consoles: the engine's CPU time a threat, and the time until threats were committed."""

    consoles: int
    cpu_us: float
    cpu_us_median: float
    delay_ms: float
    delay_ms_p95: float
    requests: float


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; return the exit code."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke run of seconds; its figures mean little")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    options = parser.parse_args(arguments)
    figures = measure(500, 2_000, 1, 2.0) if options.quick else measure(10_000, 100_000, 5, 5.0)
    if options.output == "json":
        sys.stdout.write(json.dumps([asdict(figure) for figure in figures], indent=2) + "\n")
    else:
        Console().print(table(figures))
    return 0


@dataclass(slots=True)
class _Round:
    cpu_us: float
    delays: list[float]
    requests: int


def measure(agents: int, threats: int, rounds: int, seconds: float) -> list[Figure]:
    """Return the figures without consoles and with them."""
    found: dict[int, list[_Round]] = {0: [], CONSOLES: []}
    delays: list[float] = []

    def acknowledge(handles: list[Any]) -> None:
        now = time.monotonic()
        delays.extend(now - put_at for put_at in handles if put_at is not None)

    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        large = LargeStore(Path(name) / "panguard.db", ManagerKeyring(bytes(32)).store_key, agents, threats)
        ingest = Ingest(large.senders)
        with HttpCore(Path(name), ingest.feed, acknowledge) as core:
            ingest.go(RATE)
            for number in range(2 * rounds):
                consoles = CONSOLES if number % 2 else 0
                with _Consoles(core.server.port, consoles) as opened:
                    time.sleep(_SETTLE)
                    delays.clear()
                    cpu, stored = core.engine_cpu, core.counters["threats_stored"]
                    time.sleep(seconds)
                    cpu, stored = core.engine_cpu - cpu, core.counters["threats_stored"] - stored
                    measured = list(delays)
                found[consoles].append(_Round(cpu / max(1, stored) * 1e6, measured, opened.requests))
            ingest.go(0)
    return [_figure(consoles, each) for consoles, each in found.items()]


def _figure(consoles: int, rounds: list[_Round]) -> Figure:
    delays = sorted(delay * 1000 for each in rounds for delay in each.delays)
    used = [each.cpu_us for each in rounds]
    return Figure(
        consoles,
        round(min(used), 1),
        round(statistics.median(used), 1),
        round(statistics.median(delays), 2),
        round(delays[int(len(delays) * 0.95)], 2),
        statistics.mean(each.requests for each in rounds),
    )


class _Consoles:
    """Consoles in a process of their own; a context manager.

    Attributes:
        requests: Requests for the situation that they sent, after the end.
    """

    def __init__(self, port: int, count: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._here, there = context.Pipe()
        self._process = context.Process(target=_open, args=(port, count, there), daemon=True)
        self.requests = 0

    def __enter__(self) -> Self:
        self._process.start()
        self._here.recv()
        return self

    def __exit__(self, *_: object) -> None:
        self._here.send("end")
        self.requests = self._here.recv()
        self._process.join(60)


def _open(port: int, count: int, pipe: Connection) -> None:
    ended, asked = threading.Event(), [0] * count
    threads = [threading.Thread(target=_console, args=(port, ended, asked, each), daemon=True) for each in range(count)]
    for thread in threads:
        thread.start()
    pipe.send("open")
    pipe.recv()
    ended.set()
    pipe.send(sum(asked))


def _console(port: int, ended: threading.Event, asked: list[int], number: int) -> None:
    """Follow the stream; ask for the situation after events, at most once in `_APART` seconds."""
    stream = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    stream.request("GET", "/api/events/stream?alive=3", headers=_HEADERS)
    answer = stream.getresponse()
    requests = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    last = 0.0
    with suppress(OSError, http.client.HTTPException):
        while not ended.is_set():
            if answer.read1(65536) and time.monotonic() - last >= _APART:
                last = time.monotonic()
                requests.request("GET", "/api/now", headers=_HEADERS)
                requests.getresponse().read()
                asked[number] += 1


def table(figures: list[Figure]) -> Table:
    """Return the table of a run."""
    shown = Table(
        "consoles", "engine's CPU µs a threat, best", "median", "ms to the commit, median", "p95", "requests a round"
    )
    for figure in figures:
        shown.add_row(*(str(cell) for cell in astuple(figure)))
    return shown


if __name__ == "__main__":
    sys.exit(main())
