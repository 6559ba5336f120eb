"""Counts of source addresses against the stored threats, whichever hours have been rolled up into the buckets."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from peewee import Database

from manager.domain.agents.agent import Agent, Door, credential_of
from manager.domain.agents.host import Host
from manager.engine.batch import Changes, ThreatRow
from manager.engine.ports import PruneOrder
from manager.storage import tables
from manager.storage.projections import threat_counts, threat_statistics
from manager.storage.queries.reader import Reader
from manager.storage.store import PeeweeStore
from tests.support.examples import examples
from tests.support.migrated_store import open_migrated, open_reading

pytestmark = pytest.mark.usefixtures("each_system")

START = 1_800_000_000.0
HOUR, SIX_HOURS, DAY = 3600, 6 * 3600, 86_400
PIECE = 4
ORGANIZATIONS = ("acme", "other")
ADDRESSES = ("198.51.100.1", "198.51.100.2", "2001:db8::1")


class Seen(NamedTuple):
    """A stored threat from an address."""

    at: float
    organization: str
    address: str


threat = st.tuples(
    st.integers(0, 1), st.sampled_from(ADDRESSES), st.sampled_from([0.0, 1.5, 299.5, 3_600.0, 9_000.0, 30_000.0])
)
step: st.SearchStrategy[tuple[str, int, list[tuple[int, str, float]]]] = st.one_of(
    st.tuples(
        st.just("store"),
        st.sampled_from([0, 60, 1_800, 3_600, 7_200, 40_000]),
        st.lists(threat, min_size=1, max_size=3 * PIECE),
    ),
    st.tuples(st.just("prune"), st.just(0), st.just([])),
)


@settings(deadline=None, max_examples=examples(25))
@given(st.lists(step, min_size=1, max_size=12), st.integers(1, 3))
def test_every_period_counts_the_addresses_that_were_seen_in_it(
    steps: list[tuple[str, int, list[tuple[int, str, float]]]], at_once: int
) -> None:
    """The total is that of the threats, and a count lies between those since the period and since its first bucket."""
    with _database() as (database, reader), pytest.MonkeyPatch.context() as patched:
        patched.setattr(threat_counts, "_ROLLED_UP_AT_ONCE", at_once)
        store, now, seen = _opened(database), START, list[Seen]()
        for number, (name, later, threats) in enumerate(steps):
            now += later
            if name == "prune":
                store.prune(PruneOrder(now, now - HOUR, 0, 0, 0, 0, 0, threats=PIECE, ids=0, rows=100))
                continue
            seen += [Seen(now - ago, ORGANIZATIONS[agent], address) for agent, address, ago in threats]
            store.commit(Changes(threats=_rows(threats, now, number)))
        for period in (HOUR, SIX_HOURS, DAY):
            for organizations in (None, ["acme"], ["other"], ["acme", "other"]):
                _compare(reader, seen, now, period, organizations)
        _compare_last_seen(database)


def _compare_last_seen(database: Database) -> None:
    """Each address's last time is that of a counted threat, and no counted one is more than six hours younger."""
    found = database.execute_sql(
        "SELECT threat_source.last_seen, max(counted.last_seen) FROM threat_source "
        "JOIN threat_source_count AS counted ON source_number = number GROUP BY number, threat_source.last_seen"
    ).fetchall()
    assert all(newest - SIX_HOURS <= known <= newest for known, newest in found)


def _compare(reader: Reader, seen: list[Seen], now: float, period: int, organizations: list[str] | None) -> None:
    since, asked = now - period, [each for each in seen if organizations is None or each.organization in organizations]
    exact = Counter(each.address for each in asked if each.at >= since)
    rounded = Counter(each.address for each in asked if each.at >= since // period * period)
    total, top = threat_statistics.sources(reader, since, now, organizations, 10)
    assert (total, {address for address, _ in top}) == (len(exact), set(exact))
    for address, count in top:
        assert exact[address] <= count <= rounded[address]
    assert threat_statistics.sources(reader, since, now, organizations, 0).total == len(exact)


def test_waiting_counts_are_rolled_up_when_their_hour_is_over() -> None:
    """Counts of the present hour are one row for an address; those of hours before are in the buckets, each once."""
    with _database() as (database, _):
        store = _opened(database)
        for number in range(6):
            store.commit(Changes(threats=_rows([(0, ADDRESSES[0], 0.0)] * PIECE, START + 1_800 * number, number)))
        found = database.execute_sql(
            "SELECT seconds, sum(count) FROM threat_source_count GROUP BY seconds ORDER BY seconds"
        ).fetchall()
        waiting, *rolled_up = [(int(seconds), int(count)) for seconds, count in found]
        assert waiting[0] == 0
        assert rolled_up == [(seconds, rolled_up[0][1]) for seconds in (HOUR, SIX_HOURS, DAY)]
        counted = database.execute_sql("SELECT last FROM projection_progress WHERE name = 'sources'").fetchone()[0]
        assert waiting[1] + rolled_up[0][1] == counted
        assert 0 < waiting[1] <= 3 * PIECE


def _opened(database: Database) -> PeeweeStore:
    store = PeeweeStore(database, bytes(32), piece=PIECE)
    for number, organization_id in enumerate(ORGANIZATIONS, 1):
        host, agent_id = Host.of(f"host-{number}", "Linux", "x64", "1"), f"ag-{number}"
        agent = Agent(number, agent_id, organization_id, host, credential_of(bytes(32)), None, Door.MQTT, START)
        store.commit(Changes(agents={agent_id: agent}))
    return store


def _rows(threats: list[tuple[int, str, float]], now: float, number: int) -> list[ThreatRow]:
    return [
        ThreatRow(
            agent + 1, f"t-{number}-{place}", bytes(16), now - ago, now, True, "scan", "low", 1.0, None, address, None,
            "{}",
        )
        for place, (agent, address, ago) in enumerate(threats)
    ]  # fmt: skip


@contextmanager
def _database() -> Iterator[tuple[Database, Reader]]:
    with TemporaryDirectory() as name:
        path = Path(name) / "store.db"
        database = open_migrated(path)
        tables.database.initialize(database)
        reading = open_reading(path)
        yield database, Reader(reading)
        reading.close()
        database.close()
