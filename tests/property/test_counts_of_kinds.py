"""Counts by severity and type against the stored threats, at any time of a day; the overview's beside them."""

from collections import Counter
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
from manager.storage import tables
from manager.storage.projections import threat_statistics
from manager.storage.queries import StoreQueries
from manager.storage.queries.reader import Reader
from manager.storage.store import PeeweeStore
from tests.support.examples import examples
from tests.support.migrated_store import open_migrated, open_reading

pytestmark = pytest.mark.usefixtures("each_system")

MIDNIGHT = 1_800_057_600.0
FIVE_MINUTES, HOUR, DAY = 300, 3600, 86_400
PERIODS = {HOUR: FIVE_MINUTES, 6 * HOUR: FIVE_MINUTES, DAY: HOUR, 7 * DAY: DAY, 30 * DAY: DAY}
"""The periods, and the length of the buckets to which their beginnings are rounded down, in seconds."""

PIECE = 4
ORGANIZATIONS = ("acme", "other")


class Seen(NamedTuple):
    """A stored threat: seconds before now, organization by number, severity, type, and whether a bucket has it."""

    ago: float
    agent: int
    severity: str
    type: str
    counted: bool


SEEN = st.builds(
    Seen,
    st.one_of(
        st.sampled_from([0.0, HOUR, 6 * HOUR, DAY - 1, DAY, DAY + 1, 2 * DAY - 1, 7 * DAY, 8 * DAY]),
        st.floats(-2 * HOUR, 9 * DAY),
        st.floats(DAY, 2 * DAY),
    ),
    st.integers(0, 1),
    st.sampled_from(["low", "critical"]),
    st.sampled_from(["scan", "malware"]),
    st.just(False),
)


@settings(deadline=None, max_examples=examples(25))
@given(st.lists(st.lists(SEEN, min_size=PIECE, max_size=2 * PIECE), min_size=3, max_size=6), st.integers(0, DAY - 1))
def test_every_period_has_the_threats_since_its_first_bucket(batches: list[list[Seen]], of_day: int) -> None:
    """Threats that are counted are rounded to their bucket, others are exact; a kind without threats is left out."""
    now = MIDNIGHT + of_day
    with TemporaryDirectory() as name:
        path = Path(name) / "panguard.db"
        database = open_migrated(path)
        tables.database.initialize(database)
        _store(PeeweeStore(database, bytes(32), piece=PIECE), batches, now)
        counted = _counted(database)
        reader = open_reading(path)
        seen = [each for batch in batches for each in batch]
        for organizations in (None, ["acme"], ["acme", "other"]):
            own = [each._replace(counted=place < counted) for place, each in enumerate(seen)]
            own = [each for each in own if organizations is None or ORGANIZATIONS[each.agent] in organizations]
            _compare(reader, own, now, organizations)
        reader.close()
        database.close()


def _compare(reader: Database, seen: list[Seen], now: float, organizations: list[str] | None) -> None:
    exact = {period: _expected(seen, now, period) for period in PERIODS}
    for period, expected in exact.items():
        found = threat_statistics.kinds(Reader(reader), now - period, now, organizations)
        assert {(severity, type_): count for severity, type_, count in found} == expected
    overview = StoreQueries(reader).overview(now, organizations)
    assert {each["type"]: each["count"] for each in overview["topThreats"]} == _by(exact[DAY], 1)
    for member, period in (("last24h", DAY), ("last7d", 7 * DAY)):
        severities = dict.fromkeys(("critical", "high", "medium", "low"), 0) | _by(exact[period], 0)
        assert overview["threatSummary"][member] == {"total": sum(exact[period].values()), **severities}


def _expected(seen: list[Seen], now: float, period: int) -> Counter[tuple[str, str]]:
    since, bucket = now - period, (now - period) // PERIODS[period] * PERIODS[period]
    return Counter((each.severity, each.type) for each in seen if now - each.ago >= (bucket if each.counted else since))


def _by(kinds: Counter[tuple[str, str]], member: int) -> dict[str, int]:
    found = Counter[str]()
    for kind, count in kinds.items():
        found[kind[member]] += count
    return dict(found)


def _counted(database: Database) -> int:
    """Return the number of threats that are counted, the first ones."""
    ((counted,),) = database.execute_sql(
        "SELECT count(*) FROM threat WHERE sequence <= (SELECT max(last) FROM projection_progress WHERE name = 'kinds')"
    ).fetchall()
    return int(counted)


def _store(store: PeeweeStore, batches: list[list[Seen]], now: float) -> None:
    for number, organization_id in enumerate(ORGANIZATIONS, 1):
        host, agent_id = Host.of(f"host-{number}", "Linux", "x64", "1"), f"ag-{number}"
        agent = Agent(number, agent_id, organization_id, host, credential_of(bytes(32)), None, Door.MQTT, now)
        store.commit(Changes(agents={agent_id: agent}))
    for number, batch in enumerate(batches):
        rows = [
            ThreatRow(
                each.agent + 1, f"t-{number}-{place}", bytes(16), now - each.ago, now, True, each.type, each.severity,
                1.0, None, "198.51.100.1", None, "{}",
            )
            for place, each in enumerate(batch)
        ]  # fmt: skip
        store.commit(Changes(threats=rows))
