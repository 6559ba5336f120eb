"""Compares the queries of both database systems over the same large store, in one process and in turn."""

import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from peewee import Database
from rich.table import Table

from benchmarks.large_store import DAY, RARE, LargeStore
from manager.storage.location import StoreLocation
from manager.storage.opening import open_store_reader
from manager.storage.queries import StoreQueries
from manager.storage.queries.reader import cursor_after
from schemas.keys import ManagerKeyring

ROUNDS = 40

Ask = Callable[[StoreQueries], Any]


class Comparison(NamedTuple):
    """One query: the median and the 95th percentile of its milliseconds on each system, and the medians' ratio."""

    query: str
    sqlite_ms: float
    sqlite_p95_ms: float
    postgresql_ms: float
    postgresql_p95_ms: float
    ratio: float


def compare(directory: Path, address: StoreLocation, agents: int, threats: int) -> tuple[list[Comparison], str]:
    """Fill both stores, and return the figures of each query, and the rates of storing.

    Args:
        directory: SQLite's file is made in it.
        address: an empty PostgreSQL database, whose server is on this machine.
        agents: the number of agents.
        threats: the number of threats of a day.
    """
    key, path = ManagerKeyring(bytes(32)).store_key, directory / "panguard.db"
    stores = [LargeStore(place, key, agents, threats) for place in (path, address)]
    rates = " · ".join(
        f"{name}: {store.rate:,.0f} threats/s, {store.cpu_us:.1f} us of the manager's CPU each"
        for name, store in zip(("SQLite", "PostgreSQL"), stores, strict=True)
    )
    here, there = (open_store_reader(place) for place in (path, address))
    there.execute_sql("SELECT pg_stat_clear_snapshot()")
    figures = list(_compared(here, there, stores[0].now, threats))
    for each in (here, there):
        each.close()
    return figures, rates


def _compared(here: Database, there: Database, now: float, threats: int) -> Iterator[Comparison]:
    sqlite, postgresql = StoreQueries(here), StoreQueries(there)
    for name, ask in _queries(now, threats).items():
        for each in (sqlite, postgresql) * 7:  # fills the caches; PostgreSQL keeps the plan of a statement then
            ask(each)
        times = [(_milliseconds(ask, sqlite), _milliseconds(ask, postgresql)) for _ in range(ROUNDS)]
        first, second = (sorted(column) for column in zip(*times, strict=True))
        medians = statistics.median(first), statistics.median(second)
        yield Comparison(
            name, medians[0], first[int(ROUNDS * 0.95)], medians[1], second[int(ROUNDS * 0.95)], medians[1] / medians[0]
        )


def _milliseconds(ask: Ask, queries: StoreQueries) -> float:
    began = time.perf_counter()
    ask(queries)
    return (time.perf_counter() - began) * 1000


def _queries(now: float, threats: int) -> dict[str, Ask]:
    one, org, hour = "ag-0000000000000007", ("org-7",), now - 3600
    halfway = cursor_after(threats // 2)
    lists: dict[str, dict[str, Any]] = {
        "threats, 200": {"limit": 200},
        "threats from the middle": {"limit": 200, "cursor": halfway},
        "threats of an hour": {"limit": 200, "since": hour},
        "threats of the future": {"limit": 50, "since": now + DAY},
        "threats, high": {"limit": 50, "severity": "high"},
        "threats, a rare type": {"limit": 200, "type_": RARE},
        "threats, no such type": {"limit": 50, "type_": "unheard_of"},
        "threats of an organization": {"limit": 200, "organizations": org},
        "threats, three filters": {"limit": 50, "organizations": org, "type_": "malware", "severity": "low"},
        "threats of an agent": {"limit": 200, "agent_id": one},
        "threats of an agent, rare": {"limit": 50, "agent_id": one, "type_": RARE},
        "threats of an address": {"limit": 50, "source_ip": "198.18.7.7"},
        "threats of a technique": {"limit": 50, "technique": "T1110"},
    }

    def listing(filters: dict[str, Any]) -> Ask:
        return lambda queries: queries.threats(**filters)

    def summary(period: str, organizations: tuple[str, ...] | None) -> Ask:
        return lambda queries: queries.threat_summary(now=now, period=period, organizations=organizations)

    return {
        "overview": lambda queries: queries.overview(now),
        "overview of an organization": lambda queries: queries.overview(now, org),
        "situation": lambda queries: queries.situation(now),
        "agents, 200": lambda queries: queries.agents(limit=200),
        "agents, online": lambda queries: queries.agents(status="online", limit=200),
        "agents, two tags": lambda queries: queries.agents(tags=("web", "berlin"), limit=50),
        "agents, no such tag": lambda queries: queries.agents(tags=("nobodys",), limit=50),
        "agent": lambda queries: queries.agent(one),
        **{name: listing(filters) for name, filters in lists.items()},
        **{f"summary, {period}": summary(period, None) for period in ("1h", "24h", "30d")},
        **{f"summary of an organization, {period}": summary(period, org) for period in ("1h", "24h", "30d")},
        "incidents, 200": lambda queries: queries.incidents(limit=200),
        "incidents, open": lambda queries: queries.incidents(organizations=org, is_open=True, limit=50),
        "audit, 200": lambda queries: queries.audit(limit=200),
        "audit, by target": lambda queries: queries.audit(action="token", target="policy:7", limit=50),
    }


def table(figures: list[Comparison]) -> Table:
    """Return the table of a run."""
    shown = Table("query", "SQLite ms", "p95", "PostgreSQL ms", "p95", "ratio")
    for query, *numbers, ratio in figures:
        shown.add_row(query, *(f"{each:.1f}" for each in numbers), f"{ratio:.1f}")
    return shown
