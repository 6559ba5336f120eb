"""Measures lists, searches and summaries over a large store, alone and while an engine takes in threats.

Run as ``python -m benchmarks.queries [--quick] [-o json]``: 10,000 agents, 1,000,000 threats of the last day. A
second process sends the queries over HTTP; engine, HTTP door and reading threads are one process, as in a manager.
With ``--database URL``, an empty PostgreSQL database, the queries of both systems are compared without HTTP instead.
"""

import argparse
import http.client
import json
import logging
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, astuple, dataclass
from math import inf
from multiprocessing.connection import Connection
from pathlib import Path

import psutil
import structlog
from rich.console import Console
from rich.table import Table

from benchmarks import interpreter, query_systems
from benchmarks.http import HttpCore
from benchmarks.ingested import Ingest
from benchmarks.large_store import RARE, LargeStore
from manager.storage.postgresql.address import database_address
from manager.storage.queries.reader import cursor_after
from schemas.keys import ManagerKeyring
from schemas.model import iso

TARGET_MS = 50
SAMPLES = 60
STEADY = 1000.0
"""Threats a second, 86 times the million a day that the store holds."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One query: milliseconds until the answer, alone and while threats are stored.

    `cpu_ms` is the manager's CPU time for it, which depends little on other load of the machine; wall times do.
    `steady` is beside `STEADY` threats a second, `full` beside as many as the engine takes.
    """

    query: str
    cpu_ms: float
    alone_ms: float
    steady_ms: float
    steady_p95_ms: float
    full_ms: float
    full_p95_ms: float


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke run of seconds; its figures mean little")
    parser.add_argument("--database", metavar="URL", help="an empty PostgreSQL database to compare SQLite with")
    parser.add_argument("-o", "--output", choices=["table", "json"], default="table")
    options = parser.parse_args(arguments)
    interpreter.announce()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        agents, threats = (200, 20_000) if options.quick else (10_000, 1_000_000)
        if options.database is not None:
            compared, stored = query_systems.compare(Path(name), database_address(options.database), agents, threats)
            Console().print(query_systems.table(compared))
            Console().print(stored)
            return 0
        figures, rates = measure(Path(name), agents, threats)
    if options.output == "json":
        sys.stdout.write(json.dumps({"figures": [asdict(figure) for figure in figures], **rates}, indent=2) + "\n")
    else:
        Console().print(table(figures))
        Console().print(" · ".join(f"{what}: {rate:,.1f}" for what, rate in rates.items()))
    return 0


def measure(directory: Path, agents: int, threats: int) -> tuple[list[Figure], dict[str, float]]:
    """Return a figure for each query, and the rates of storing threats, without and beside the queries."""
    large = LargeStore(directory / "panguard.db", ManagerKeyring(bytes(32)).store_key, agents, threats)
    paths = queries(large.now, threats)
    ingest = Ingest(large.senders)
    with HttpCore(directory, ingest.feed) as core:
        alone = _answered(core.server.port, paths)
        ingest.go(STEADY)
        steady = _answered(core.server.port, paths)
        ingest.go(inf)
        stored, began = core.counters["threats_stored"], time.perf_counter()
        full = _answered(core.server.port, paths)
        rate = (core.counters["threats_stored"] - stored) / (time.perf_counter() - began)
        ingest.go(0)
    figures = [
        Figure(
            path,
            round(alone[path].cpu_ms, 1),
            round(statistics.median(alone[path].elapsed_ms), 1),
            *(round(found, 1) for each in (steady, full) for found in _middle_and_p95(each[path].elapsed_ms)),
        )
        for path in paths
    ]
    return figures, {
        "threats/s, store alone": large.rate,
        "CPU µs each": large.cpu_us,
        "threats/s, engine, beside the queries": rate,
    }


def _middle_and_p95(elapsed: list[float]) -> tuple[float, float]:
    return statistics.median(elapsed), sorted(elapsed)[int(len(elapsed) * 0.95)]


def queries(now: float, threats: int) -> list[str]:
    """Return the queries: filters that match much, little and nothing."""
    hour, future = iso(now - 3600), iso(now + 86_400)
    halfway = cursor_after(threats // 2)
    one = "agentId=ag-0000000000000007"
    return [
        "/api/overview",
        "/api/agents?limit=200",
        "/api/agents?status=online&limit=200",
        "/api/agents?status=stale&org_id=org-7",
        "/api/agents?tag=web&tag=berlin",
        "/api/agents?tag=nobodys",
        "/api/agents/ag-0000000000000007",
        "/api/threats",
        "/api/threats?limit=200",
        f"/api/threats?since={hour}&limit=200",
        f"/api/threats?since={future}",
        f"/api/threats?cursor={halfway}&limit=200",
        "/api/threats?severity=high",
        f"/api/threats?severity=critical&since={hour}&limit=200",
        f"/api/threats?type={RARE}&limit=200",
        "/api/threats?type=unheard_of",
        f"/api/threats?type={RARE}&severity=critical&org_id=org-3",
        "/api/threats?org_id=org-7&limit=200",
        "/api/threats?org_id=nobodys",
        "/api/threats?org_id=org-7&type=malware&severity=low",
        f"/api/threats?{one}&limit=200",
        f"/api/threats?{one}&type=malware",
        f"/api/threats?{one}&type=malware&severity=high&since={hour}",
        f"/api/threats?{one}&type={RARE}",
        f"/api/threats?{one}&org_id=org-7&cursor={halfway}",
        *(f"/api/threats/summary?period={period}" for period in ("1h", "6h", "24h", "7d", "30d")),
        *(f"/api/threats/summary?period={period}&org_id=org-7" for period in ("1h", "6h", "24h", "7d", "30d")),
        "/api/incidents?limit=200",
        "/api/incidents?response=applied",
        "/api/incidents?org_id=org-7&open=true",
        "/api/audit?limit=200",
        "/api/audit?actor=nobody",
        "/api/audit?action=token&target=policy:7",
    ]


@dataclass(frozen=True, slots=True)
class _Answers:
    """Milliseconds of each answer, and the server's mean CPU time for one."""

    elapsed_ms: list[float]
    cpu_ms: float


def _answered(port: int, paths: list[str]) -> dict[str, _Answers]:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_ask, args=(port, paths, os.getpid(), there), daemon=True)
    process.start()
    there.close()
    found: dict[str, _Answers] = here.recv()
    process.join()
    return found


def _ask(port: int, paths: list[str], pid: int, pipe: Connection) -> None:
    """Send each query repeatedly; the first answer, which fills caches, is left out."""
    asked = psutil.Process(pid)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    found = {}
    for path in paths:
        _get(connection, path)
        before = asked.cpu_times()
        elapsed = [_get(connection, path) for _ in range(SAMPLES)]
        after = asked.cpu_times()
        used = after.user + after.system - before.user - before.system
        found[path] = _Answers(elapsed, used / SAMPLES * 1000)
    connection.close()
    pipe.send(found)


def _get(connection: http.client.HTTPConnection, path: str) -> float:
    """Return the milliseconds until the answer is complete."""
    began = time.perf_counter()
    connection.request("GET", path, headers={"Authorization": "Bearer admin"})
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != http.HTTPStatus.OK:
        raise RuntimeError(f"{path}: {body!r}")
    return (time.perf_counter() - began) * 1000


def table(figures: list[Figure]) -> Table:
    """Return the table of a run."""
    shown = Table(
        "query", "CPU ms", "ms alone", f"beside {STEADY:,.0f}/s", "p95", "beside all it takes", "p95", "to reach"
    )
    for figure in figures:
        shown.add_row(*(str(cell) for cell in astuple(figure)), f"{TARGET_MS}")
    return shown


if __name__ == "__main__":
    sys.exit(main())
