"""The stored forecast against the rule on all measures: what the statements leave out changes no count."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peewee import Database

from manager.domain.protection.forecast import Followups, HostLogin, Lift, forecast, totals
from manager.domain.protection.measures import ReportedMeasure, ScopedAddress
from manager.engine.batch import Changes
from manager.storage.queries import StoreQueries
from manager.storage.store import PeeweeStore
from tests.support.migrated_store import open_migrated, open_reading

pytestmark = pytest.mark.usefixtures("each_system")

NOW = 1_800_000_000.0
DAYS = st.integers(0, 31).map(lambda days: NOW - days * 86_400.0)
ADDRESSES = st.sampled_from(
    [
        ScopedAddress("acme", "", "203.0.113.7"),
        ScopedAddress("acme", "", "2001:db8::1"),
        ScopedAddress("acme", "", "2001:db8::/64"),
        ScopedAddress("zeta", "", "203.0.113.7"),
    ]
)
AGENTS = st.sampled_from([1, 1, 2])
MEASURES = st.lists(
    st.builds(
        ReportedMeasure,
        ADDRESSES,
        AGENTS,
        DAYS,
        st.just("sshd-brute-force"),
        st.sampled_from(["block", "block", "throttle"]),
        st.integers(4, 7),
        st.sampled_from(["taken", "would_be_taken"]),
        st.none() | st.integers(0, 2),
    ),
    min_size=3,
    max_size=12,
    unique_by=lambda measure: (measure.subject, measure.at),  # of two at one time either may be the first
)
HOSTS = ADDRESSES.filter(lambda address: "/" not in address.value)
LOGINS = st.lists(
    st.builds(HostLogin, HOSTS, AGENTS, st.sampled_from(["bob", "eve"]), DAYS, st.booleans()).map(
        lambda login: login._replace(agent_number=3) if login.subject.organization_id == "zeta" else login
    ),  # an agent is in one organization at a time
    max_size=4,
)
LIFTS = st.lists(st.builds(Lift, ADDRESSES, DAYS, st.just("undo"), st.just("admin")), max_size=3)


class Stores:
    """One store, emptied for each example."""

    def __init__(self, directory: Path) -> None:
        self._database: Database = open_migrated(directory / "panguard.db")
        self._reader = open_reading(directory / "panguard.db")
        self.store = PeeweeStore(self._database, bytes(32))
        self.queries = StoreQueries(self._reader)

    def empty(self) -> None:
        for statement in ("DELETE FROM reported_measure", "DELETE FROM host_login", "DELETE FROM block_lift"):
            self._database.execute_sql(statement)

    def close(self) -> None:
        self._reader.close()
        self._database.close()


@pytest.fixture(scope="module")
def stores(each_system: str) -> Iterator[Stores]:
    with tempfile.TemporaryDirectory(prefix=each_system) as directory:
        stores = Stores(Path(directory))
        yield stores
        stores.close()


@given(MEASURES, LOGINS, LIFTS, st.tuples(st.sampled_from([1, 7, 30]), st.sampled_from([None, ("acme",)])))
def test_the_stored_forecast_is_that_of_all_measures(
    stores: Stores,
    measures: list[ReportedMeasure],
    logins: list[HostLogin],
    lifts: list[Lift],
    limits: tuple[int, tuple[str, ...] | None],
) -> None:
    """Of an address, agent and kind the statement returns one row, of a user the newest logins are kept."""
    stores.empty()
    days, organizations = limits
    rows = {(each.agent_number, str(number)): (each, each.at) for number, each in enumerate(measures)}
    stores.store.commit(Changes(measures=rows, logins=logins, lifts=lifts))
    since = NOW - days * 86_400.0
    found = stores.queries.protection_forecast(since=since, now=NOW, organizations=organizations)
    wanted = [
        each
        for each in measures
        if each.at >= since and (organizations is None or each.subject.organization_id in organizations)
    ]
    followups = Followups(logins, lifts, (), NOW)
    expected = forecast(sorted(wanted, key=lambda each: (each.subject, each.at)), followups)
    assert {name: found[name] for name in totals({})} == totals(expected.counts)
    named = [(each.first.subject.value, each.first.guesses, each.hosts, each.connections) for each in expected.cases()]
    stored = [(each["address"], each["guesses"], each["hosts"], each["connections"]) for each in found["cases"]]
    assert stored == named
