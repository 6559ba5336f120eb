"""Lists and summaries of stored threats against a plain list, over random histories of a store."""

import json
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from itertools import cycle, islice, product, takewhile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from peewee import Database

from manager.domain.agents.agent import Agent, Door, credential_of
from manager.domain.agents.host import Host
from manager.engine.batch import Changes, ThreatRow
from manager.engine.ports import PruneOrder
from manager.storage import tables
from manager.storage.queries import StoreQueries
from manager.storage.queries.summary import PERIODS
from manager.storage.store import PeeweeStore
from manager.storage.threat_index.bitmaps import (
    SLICE,
    bits_at,
    bits_of_agent,
    packed,
    packed_agents,
    positions,
    unpacked,
)
from tests.support.examples import examples
from tests.support.migrated_store import open_migrated, open_reading

pytestmark = pytest.mark.usefixtures("each_system")

BEGAN = 1_800_000_000.0
AGENTS = {1: "acme", 2: "acme", 3: "zeta", 4: "beta"}
ORGANIZATIONS = (None, ("acme",), ("acme", "beta"))
SEVERITIES, TYPES, SOURCES = ("low", "critical"), ("scan", "x"), ("192.0.2.1", "192.0.2.2", "2001:db8::1", None)
TECHNIQUES = ("T1110.001", None, "T1110", "T1110.003", "T1111", "T1110.001")
STEP = st.one_of(
    st.tuples(
        st.just("store"),
        st.lists(
            st.tuples(
                st.sampled_from(sorted(AGENTS)),
                st.sampled_from(SEVERITIES),
                st.sampled_from(TYPES),
                st.sampled_from(SOURCES),
                st.sampled_from([0, 60, 400, 4000, 30_000, 200_000]),
                st.sampled_from([0, 0, 0, -50]),
            ),
            max_size=12,
        ),
    ),
    st.tuples(st.just("pass"), st.sampled_from([1, 30, 600, 5000, 60_000, 90_000])),
    st.tuples(st.just("prune"), st.sampled_from([0, 20, 1000, 86_400])),
    st.tuples(st.just("remove"), st.sampled_from(sorted(AGENTS))),
    st.tuples(st.just("restart"), st.none()),
)


@dataclass
class Bench:
    """A store with pieces of five threats, all threats ever stored, and those that must still be there."""

    directory: Path
    now: float = BEGAN
    kept: list[ThreatRow] = field(default_factory=list)
    ever: list[ThreatRow] = field(default_factory=list)

    def open(self) -> None:
        self.database: Database = open_migrated(self.directory / "panguard.db")
        tables.database.initialize(self.database)
        self.store = PeeweeStore(self.database, bytes(32), piece=5)

    def enroll(self) -> None:
        agents = {f"ag-{number:016x}": agent_of(number) for number in AGENTS}
        self.store.commit(Changes(agents=agents))

    def do(self, kind: str, value: Any) -> None:
        if kind == "store":
            rows = [self._row(number, *each) for number, each in enumerate(value, len(self.ever))]
            self.store.commit(Changes(threats=rows))
            self.kept += rows
            self.ever += rows
        elif kind == "pass":
            self.now += value
            self.store.commit(Changes())
        elif kind == "prune":
            before = self.now - value
            self.store.prune(PruneOrder(self.now, before, 0, 0, 0, 0, 0, threats=7, ids=0, rows=7))
            del self.kept[: len(list(takewhile(lambda row: row.received_at < before, self.kept[:7])))]
        elif kind == "remove":
            self.store.commit(Changes(removed=[agent_of(value)]))
        else:
            self.database.close()
            self.open()

    def _row(self, number: int, *drawn: Any) -> ThreatRow:
        agent, severity, type_, source, late, back = drawn
        received = self.now + back
        return ThreatRow(
            agent, f"t-{number}", bytes(16), received - late, received, True, type_, severity, 90.0,
            TECHNIQUES[number % len(TECHNIQUES)], source, None,
            json.dumps({"threat": {"type": type_, "confidence": 90.0}, "timestamp": "2026-01-01T00:00:00Z"}),
        )  # fmt: skip


def agent_of(number: int) -> Agent:
    return Agent(
        number, f"ag-{number:016x}", AGENTS[number], Host.of(f"srv-{number}", "Linux", "x64", "1"),
        credential_of(bytes([number]) * 32), None, Door.MQTT, BEGAN,
    )  # fmt: skip


def run(steps: list[tuple[str, Any]], check: Any) -> None:
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(Path(name))
        bench.open()
        bench.enroll()
        reader = open_reading(bench.directory / "panguard.db")
        try:
            for kind, value in steps:
                bench.do(kind, value)
            check(bench, StoreQueries(reader))
        finally:
            reader.close()
            bench.database.close()


@settings(max_examples=examples(15), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEP, min_size=1, max_size=20))
def test_every_filter_agrees_with_a_plain_list(steps: list[tuple[str, Any]]) -> None:
    """Each combination of filters returns, page by page, the kept threats, newest first, without gap or repetition."""
    run(steps, every_filter)


def every_filter(bench: Bench, queries: StoreQueries) -> None:
    limits = islice(cycle((1, 4, 200)), len(bench.ever), None)  # others for the same filters in another history
    for since, severity, type_, organizations, agent in product(
        (None, bench.now - 100, bench.now + 1), (None, "critical"), (None, "x"), ORGANIZATIONS, (None, 1, 3, 9)
    ):
        expected = [
            row.threat_id
            for row in reversed(bench.kept)
            if (since is None or row.received_at >= since)
            and severity in {None, row.severity}
            and type_ in {None, row.type}
            and (organizations is None or AGENTS[row.agent_number] in organizations)
            and agent in {None, row.agent_number}
        ]
        found = found_in_pages(
            queries,
            next(limits),
            since=since,
            severity=severity,
            type_=type_,
            organizations=organizations,
            agent_id=None if agent is None else f"ag-{agent:016x}",
        )
        assert found == expected


def found_in_pages(queries: StoreQueries, limit: int, **filters: Any) -> list[str]:
    """Return the ids of all threats that filters match, read by pages of a limit."""
    found: list[str] = []
    cursor = None
    while True:
        records, cursor = queries.threats(**filters, limit=limit, cursor=cursor)
        assert len(records) <= limit
        found += [record["id"] for record in records]
        if cursor is None:
            return found


@settings(max_examples=examples(15), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEP, min_size=1, max_size=20))
def test_every_search_agrees_with_a_plain_list(steps: list[tuple[str, Any]]) -> None:
    """A source address, a technique with its sub-techniques, or both, with any filter: the newest event first."""
    run(steps, every_search)


def every_search(bench: Bench, queries: StoreQueries) -> None:
    limits = islice(cycle((1, 3, 8, 200)), len(bench.ever), None)
    for source, technique, since, type_, agent in product(
        (None, "192.0.2.1", "192.0.2.9"),
        (None, "T1110", "T1110.001", "T1595"),
        (None, bench.now - 500),
        (None, "x"),
        (None, 1, 9),
    ):
        if source is None and technique is None:
            continue
        expected = [
            row.threat_id
            for _, row in sorted(enumerate(bench.kept), key=lambda each: (each[1].event_time, each[0]), reverse=True)
            if source in {None, row.source_ip}
            and (technique is None or row.technique == technique or str(row.technique).startswith(f"{technique}."))
            and (since is None or row.event_time >= since)
            and type_ in {None, row.type}
            and agent in {None, row.agent_number}
        ]
        found = found_in_pages(
            queries,
            next(limits),
            source_ip=source,
            technique=technique,
            since=since,
            type_=type_,
            agent_id=None if agent is None else f"ag-{agent:016x}",
        )
        assert found == expected


@settings(max_examples=examples(15), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEP, min_size=1, max_size=20))
def test_every_summary_counts_pruned_threats_too(steps: list[tuple[str, Any]]) -> None:
    """Agents and sources are exact, pruned threats included; counts are off by no more than the first bucket."""
    run(steps, every_summary)


def every_summary(bench: Bench, queries: StoreQueries) -> None:
    for period, organizations in product(PERIODS, ORGANIZATIONS):
        since = bench.now - PERIODS[period]
        own = [row for row in bench.ever if organizations is None or AGENTS[row.agent_number] in organizations]
        inside = [row for row in own if row.event_time >= since]
        found = queries.threat_summary(now=bench.now, period=period, organizations=organizations)
        bucket = {"1h": 300, "6h": 300, "24h": 3600}.get(period, 86_400)
        touched = [row for row in own if row.event_time >= since // bucket * bucket]
        assert len(inside) <= found["total"] <= len(touched)
        for severity, number in found["bySeverity"].items():
            wanted = [row for row in inside if row.severity == severity]
            assert len(wanted) <= number <= sum(row.severity == severity for row in touched)
        assert found["uniqueAttackers"] == len({row.source_ip for row in inside if row.source_ip is not None})
        assert found["affectedAgents"] == len({row.agent_number for row in inside})
        bucket = {"1h": 3600, "6h": 6 * 3600}.get(period, 86_400)
        near = [row for row in own if row.event_time >= since // bucket * bucket]
        agents = {line["agentId"]: line["count"] for line in found["topAgents"]}
        bounded(agents, *(Counter(f"ag-{row.agent_number:016x}" for row in rows) for rows in (inside, near)))
        sources = {line["sourceIp"]: line["count"] for line in found["topSourceIps"]}
        bounded(sources, *(Counter(row.source_ip for row in rows if row.source_ip) for rows in (inside, near)))


SIGHTINGS: list[tuple[str, Any]] = [
    *[("store", [(1, "low", "scan", "192.0.2.1", 0, 0)] * 12)] * 4,
    *[("store", [(1, "low", "scan", None, 0, 0)] * 12)] * 4,
]
"""Threats of one address, and others behind them, so that all of the address are counted."""


@settings(max_examples=examples(25), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEP, min_size=1, max_size=20))
@example([*SIGHTINGS, ("pass", 60_000), *SIGHTINGS, ("pass", 60_000)])
def test_the_overview_agrees_with_a_plain_list(steps: list[tuple[str, Any]]) -> None:
    """Attackers and agents of a day are exact over late reports, pruning, removals and restarts; so are its states."""
    run(steps, every_overview)


def every_overview(bench: Bench, queries: StoreQueries) -> None:
    for organizations in ORGANIZATIONS:
        own = [row for row in bench.ever if organizations is None or AGENTS[row.agent_number] in organizations]
        day = [row for row in own if row.event_time >= bench.now - 86_400]
        found = queries.overview(bench.now, organizations)
        figures = found["threatSummary"]
        assert figures["uniqueAttackers"] == len({row.source_ip for row in day if row.source_ip is not None})
        assert figures["affectedAgents"] == len({row.agent_number for row in day})
        summary = queries.threat_summary(now=bench.now, period="24h", organizations=organizations)
        assert figures["last24h"] == {"total": summary["total"], **summary["bySeverity"]}
        assert sum(found["agentsByOs"].values()) == found["totalAgents"] == len(found["agents"])
        assert found["totalAgents"] == sum(found[f"{state}Agents"] for state in ("online", "stale", "offline"))
        for stepped_back in (100_000, 200_000, 300_000):  # a clock that was ahead has stored threats of later days
            now = bench.now - stepped_back
            affected = queries.overview(now, organizations)["threatSummary"]["affectedAgents"]
            assert affected == len({row.agent_number for row in own if row.event_time >= now - 86_400})


def bounded(found: dict[str, int], least: Counter[str], most: Counter[str]) -> None:
    """Assert that each count lies between two others; the list is long enough for all keys."""
    assert found.keys() == least.keys()
    assert all(least[key] <= number <= most[key] for key, number in found.items())


@given(st.sets(st.integers(0, SLICE - 1)))
def test_a_packed_bitmap_keeps_its_positions(places: set[int]) -> None:
    """Unpacking restores the positions, highest first; the bytes are never more than one bit for each threat."""
    packed_bitmap = packed(bits_at(places))
    assert list(positions(unpacked(packed_bitmap))) == sorted(places, reverse=True)
    assert len(packed_bitmap) <= SLICE // 8


@given(st.lists(st.integers(0, 2**32 - 1) | st.integers(0, 3), max_size=50), st.integers(0, 3))
def test_an_agents_threats_are_found_in_its_slice(numbers: list[int], wanted: int) -> None:
    """The bits of an agent are the positions of its number."""
    bits = bits_of_agent(wanted, *packed_agents(numbers))
    assert sorted(positions(bits)) == [place for place, number in enumerate(numbers) if number == wanted]


def test_threats_of_the_index_follow_the_present_organization_of_an_agent() -> None:
    """After a move the former organization sees none, also of those indexed before; the new one those after it."""

    def moved(bench: Bench, queries: StoreQueries) -> None:
        former, new = AGENTS[1], "new"
        agent = agent_of(1)
        agent.organization_id = new
        bench.store.commit(Changes(agents={agent.agent_id: agent}))
        bench.do("store", [(1, "low", "x", None, 0, 0)] * 12 + [(2, "low", "x", None, 0, 0)] * 3)
        for _ in range(20):
            bench.do("pass", 1)

        def seen(organization: str) -> list[tuple[str, int]]:
            found, cursor = list[tuple[str, int]](), None
            while True:
                rows, cursor = queries.threats(organizations=[organization], limit=2, cursor=cursor)
                found += [(row["agentId"], int(row["id"].removeprefix("t-"))) for row in rows]
                if cursor is None:
                    return found

        assert seen(former) == [(agent_of(2).agent_id, number) for number in (26, 25, 24)]
        assert {each for each, _ in seen(new)} == {agent.agent_id}
        assert {number for _, number in seen(new)} >= set(range(12, 24))

    run([("store", [(1, "low", "x", None, 0, 0)] * 12), *[("pass", 1)] * 20], moved)
