"""How fast the lists and the overview are over a large store, while threats are stored beside them.

Run as ``python -m benchmarks.queries [--quick] [-o json]``: 10,000 agents, 1,000,000 threats of the last day.
"""

import argparse
import json
import logging
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import structlog
from rich.console import Console
from rich.table import Table

from manager import clock
from manager.domain.agent import Agent, Door, Host
from manager.domain.policies import EffectivePolicy, Policies
from manager.engine.batch import Changes, ThreatRow
from manager.engine.credentials import credential_of
from manager.storage import tables
from manager.storage.connection import open_reader, open_store
from manager.storage.migrate import migrate
from manager.storage.queries import StoreQueries
from manager.storage.store import PeeweeStore
from schemas.keys import ManagerKeyring, new_secret

TARGET_MS = 50
_DAY = 86_400
_SOURCES = 20_000
_IN_ONE = 500


@dataclass(frozen=True, slots=True)
class Figure:
    """One query: milliseconds when nothing else happens, and while threats are stored."""

    what: str
    alone_ms: float
    beside_ingest_ms: float
    beside_ingest_p95_ms: float


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke run of seconds; its figures mean little")
    parser.add_argument("-o", "--output", choices=["table", "json"], default="table")
    options = parser.parse_args(arguments)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        agents, threats = (200, 20_000) if options.quick else (10_000, 1_000_000)
        figures, rates = measure(Path(name), agents, threats)
    if options.output == "json":
        sys.stdout.write(json.dumps({"figures": [asdict(figure) for figure in figures], **rates}, indent=2) + "\n")
    else:
        Console().print(table(figures))
        Console().print(" · ".join(f"{what}: {rate:,.0f}" for what, rate in rates.items()))
    return 0


class LargeStore:
    """A store with many agents and threats.

    Args:
        directory: where it is made.
        agents: how many agents.
        threats: how many threats, spread over the last day.
    """

    def __init__(self, directory: Path, agents: int, threats: int) -> None:
        self.path = directory / "panguard.db"
        self._database = open_store(self.path)
        tables.database.initialize(self._database)
        migrate(self._database, self.path)
        self._store = PeeweeStore(self._database, ManagerKeyring(bytes(32)).store_key)
        self._random = random.Random(1)  # noqa: S311 -- figures, no secrets
        self._agents = agents
        self._number = 0
        self.now = clock.read().wall
        self._store.commit(self._fleet())
        began = time.perf_counter()
        for start in range(0, threats, _IN_ONE):
            self.store(self.now - _DAY + _DAY * start / threats)
        self.fill_rate = threats / (time.perf_counter() - began)

    def store(self, at: float) -> None:
        """Commit a batch of threats."""
        self._store.commit(Changes(threats=[self._threat(at) for _ in range(_IN_ONE)]))

    def close(self) -> None:
        """Close the store."""
        self._database.close()

    def _fleet(self) -> Changes:
        changes = Changes()
        policies = Policies()
        for number in range(1, self._agents + 1):
            agent_id = f"ag-{number:016x}"
            host = Host(f"srv-{number}", f"Debian {number % 3 + 11}", "x64", "1.4")
            changes.agents[agent_id] = Agent(
                number, agent_id, "default", host, credential_of(new_secret()), None, Door.HTTP, self.now
            )
            policy: EffectivePolicy = policies.enter(agent_id, "default", self.now)
            changes.policies[agent_id] = policy
        return changes

    def _threat(self, at: float) -> ThreatRow:
        self._number += 1
        source = self._random.randrange(_SOURCES)
        address = f"198.18.{source >> 8}.{source & 255}"
        document = {
            "id": f"t-{self._number:08x}",
            "threat": {"type": "brute_force", "confidence": 90, "evidence": {"sourceIp": address}},
            "response": "block_ip",
        }  # fmt: skip
        severity = self._random.choice(("low", "medium", "high", "critical"))
        type_ = self._random.choice(("brute_force", "port_scan", "malware", "exfiltration"))
        return ThreatRow(
            self._random.randint(1, self._agents), f"t-{self._number:08x}", bytes(16), at, at, True, type_, severity,
            90.0, "T1110", address, None, json.dumps(document),
        )  # fmt: skip


def measure(directory: Path, agents: int, threats: int) -> tuple[list[Figure], dict[str, float]]:
    """Return a figure for each query, and how fast threats were stored, without and beside the queries."""
    large = LargeStore(directory, agents, threats)
    reader = open_reader(large.path)
    try:
        queries = StoreQueries(reader)
        asked: dict[str, Callable[[], Any]] = {
            "GET /api/overview": lambda: queries.overview(large.now),
            "GET /api/agents?limit=200": lambda: queries.agents(limit=200),
            "GET /api/agents?status=online&limit=200": lambda: queries.agents(status="online", limit=200),
            "GET /api/threats": lambda: queries.threats(limit=50),
            "GET /api/threats?severity=critical&since=…": lambda: queries.threats(
                severity="critical", since=large.now - 3600, limit=50
            ),
            "GET /api/threats?type=malware&agentId=…": lambda: queries.threats(
                type_="malware", agent_id="ag-0000000000000007", limit=50
            ),
            "GET /api/threats/summary?period=24h": lambda: queries.threat_summary(now=large.now, period="24h"),
            "GET /api/threats/summary?period=7d": lambda: queries.threat_summary(now=large.now, period="7d"),
        }
        alone = {what: statistics.median(_times(query)) for what, query in asked.items()}
        with _Ingest(large) as ingest:
            beside = {what: _times(query) for what, query in asked.items()}
        figures = [
            Figure(what, round(alone[what], 1), round(statistics.median(times), 1), round(sorted(times)[-2], 1))
            for what, times in beside.items()
        ]
        return figures, {"threats/s, filling": large.fill_rate, "threats/s, beside the queries": ingest.rate}
    finally:
        reader.close()
        large.close()


class _Ingest:
    """Stores batches in a thread of its own, as fast as it can; a context manager."""

    def __init__(self, large: LargeStore) -> None:
        self._large = large
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work)
        self._stored = 0
        self.rate = 0.0

    def __enter__(self) -> "_Ingest":  # noqa: PYI034 -- nobody inherits from it
        self._began = time.perf_counter()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self.rate = self._stored / (time.perf_counter() - self._began)

    def _work(self) -> None:
        while not self._ended.is_set():
            self._large.store(self._large.now)
            self._stored += _IN_ONE


def _times(query: Callable[[], Any], number: int = 20) -> list[float]:
    """Return the milliseconds that a query takes, again and again; the first, which fills caches, is left out."""
    query()
    times = []
    for _ in range(number):
        began = time.perf_counter()
        query()
        times.append((time.perf_counter() - began) * 1000)
    return times


def table(figures: list[Figure]) -> Table:
    """Return the table of a run."""
    shown = Table("query", "ms alone", "ms beside ingest", "p95", "to reach")
    for figure in figures:
        target = "" if "summary" in figure.what else f"{TARGET_MS}"
        line = (figure.what, figure.alone_ms, figure.beside_ingest_ms, figure.beside_ingest_p95_ms)
        shown.add_row(*(str(cell) for cell in line), target)
    return shown


if __name__ == "__main__":
    sys.exit(main())
