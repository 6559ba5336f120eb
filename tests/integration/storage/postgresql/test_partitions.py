"""Partitions of the threats: made ahead of them, dropped as a whole by the rules of retention."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manager.domain.agents.agent import Agent, Door, credential_of
from manager.domain.agents.host import Host
from manager.engine.batch import Changes, ThreatRow
from manager.engine.ports import PruneOrder
from manager.errors import StoreRejected
from manager.ingest.report_store import ReportStore
from manager.storage import tables
from manager.storage.postgresql.connection import open_writer
from manager.storage.postgresql.partitions import partition_length
from manager.storage.queries import StoreQueries
from manager.storage.store import PeeweeStore
from tests.support.examples import examples
from tests.support.migrated_store import open_migrated, open_reading, stores_in
from tests.support.postgresql import Postgresql

pytestmark = pytest.mark.postgresql

HOUR = 3600
DAY = 24 * HOUR
NOW = 1_800_003_600.0
"""The beginning of an hour."""


class Stored:
    """A store that keeps threats for a day, in partitions of an hour."""

    def __init__(self, path: Path) -> None:
        self.database = open_migrated(path)
        tables.database.initialize(self.database)
        self.store = PeeweeStore(self.database, bytes(32), piece=5, threat_retention=DAY)
        self.queries = StoreQueries(open_reading(path))
        self._numbers = count()
        agent = Agent(
            1, "ag-1", "acme", Host.of("a", "Linux", "x64", "1"), credential_of(bytes(32)), None, Door.MQTT, NOW
        )
        self.store.commit(Changes(agents={"ag-1": agent}))

    def receive(self, *times: float) -> None:
        """Store one threat for each time of receipt."""
        self.store.commit(
            Changes(
                threats=[
                    ThreatRow(
                        1, f"t-{next(self._numbers)}", bytes(16), at, at, True, "scan", "low", 1.0, None, None, None,
                        '{"threat":{"type":"scan","confidence":1},"timestamp":"2026-01-01T00:00:00Z"}',
                    )
                    for at in times
                ]
            )
        )  # fmt: skip

    def prune(self, now: float, most: int = 10_000, step: int = 10_000) -> int:
        """Delete what was received a day ago or earlier; return the number of threats."""
        order = PruneOrder(now, now - DAY, 0, 0, 0, 0, 0, threats=step, ids=0, rows=10, partition_threats=most)
        return self.store.prune(order).threats

    def kept(self) -> list[float]:
        return [row[0] for row in self.database.execute_sql("SELECT received_at FROM threat ORDER BY sequence")]

    def partitions(self) -> dict[str, int]:
        """Return the number of threats in each partition, by its name."""
        names = self.database.execute_sql(
            "SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid"
            " WHERE inhparent = 'threat'::regclass ORDER BY relname"
        ).fetchall()
        return {name: self.database.execute_sql(f"SELECT count(*) FROM {name}").fetchone()[0] for (name,) in names}

    def listed(self, **filters: Any) -> int:
        """Return the number of threats that a list shows on its pages."""
        found, cursor = 0, None
        while True:
            records, cursor = self.queries.threats(**filters, limit=7, cursor=cursor)
            found += len(records)
            if cursor is None:
                return found

    def counted(self) -> int:
        sql = "SELECT coalesce(sum(count), 0) FROM threat_kind_count WHERE seconds = 86400"
        return int(self.database.execute_sql(sql).fetchone()[0])

    def close(self) -> None:
        self.queries._reader._database.close()
        self.database.close()


@pytest.fixture
def stored(postgresql_cluster: Postgresql, tmp_path: Path) -> Iterator[Stored]:
    with stores_in(postgresql_cluster):
        made = Stored(tmp_path / "store")
        yield made
        made.close()


def name_of(start: float) -> str:
    return f"threat_{int(start)}_{int(start) + HOUR}"


def test_the_length_follows_the_retention() -> None:
    """A partition has at most a 24th of the retention where that is an hour or more, and at most a day."""
    lengths = {hours: partition_length(hours * HOUR) / HOUR for hours in (0, 1, 24, 47, 48, 7 * 24, 30 * 24, 365 * 24)}
    assert lengths == {0: 0, 1: 1, 24: 1, 47: 1, 48: 2, 168: 6, 720: 24, 8760: 24}


def test_a_partition_is_there_before_its_threats(stored: Stored) -> None:
    """The next partition is made in the second half of the one before; none of the threats is in the default one."""
    stored.receive(NOW, NOW + 10)
    assert stored.partitions() == {name_of(NOW): 2, "threat_of_other_days": 0}
    stored.receive(NOW + HOUR / 2)
    assert stored.partitions() == {name_of(NOW): 3, name_of(NOW + HOUR): 0, "threat_of_other_days": 0}
    stored.receive(NOW + HOUR, NOW + 5 * HOUR)
    assert stored.partitions()[name_of(NOW + 5 * HOUR)] == 1
    assert stored.partitions()["threat_of_other_days"] == 0


def test_a_partition_of_a_batch_that_was_rolled_back_is_made_again(stored: Stored) -> None:
    """What a rejected batch made is gone with it: the next batch does not count on it."""
    unfit = ThreatRow(1, "t-unfit", bytes(16), NOW, NOW, True, "\0", "low", 1.0, None, None, None, "{}")
    with pytest.raises(StoreRejected):
        stored.store.commit(Changes(threats=[unfit]))
    stored.receive(NOW + 1)
    assert stored.partitions() == {name_of(NOW): 1, "threat_of_other_days": 0}


def test_a_partition_that_cannot_be_made_keeps_no_later_one_out(stored: Stored) -> None:
    """Threats in the default partition leave no room for the partition of their time; the one after it is made."""
    stored.database.execute_sql(
        "INSERT INTO threat (sequence, agent_number, threat_id, digest, event_time, received_at, time_known, type,"
        " severity, confidence, document) VALUES (allocate_sequences(1), 1, 'early', '', %s, %s, true, 'scan', 'low',"
        " 1, '{}')",
        (NOW, NOW),
    )
    stored.receive(NOW + 1)
    stored.receive(NOW + HOUR / 2)
    assert stored.partitions() == {name_of(NOW + HOUR): 0, "threat_of_other_days": 3}


def test_an_expired_partition_is_dropped_and_its_threats_stay_counted(stored: Stored) -> None:
    """Threats that no projection has processed are counted first; the others are found as before."""
    for hour in range(4):
        stored.receive(*(NOW + hour * HOUR + minute for minute in range(7)))
    assert stored.prune(NOW + DAY + 2 * HOUR - 1) == 7
    assert sorted(stored.partitions().values()) == [0, 7, 7, 7]
    assert stored.prune(NOW + DAY + 2 * HOUR) == 7
    assert stored.kept() == [NOW + hour * HOUR + minute for hour in (2, 3) for minute in range(7)]
    assert (stored.listed(), stored.listed(type_="scan"), stored.listed(organizations=("acme",))) == (14, 14, 14)
    assert stored.counted() >= 14
    summary = stored.queries.threat_summary(now=NOW + DAY, period="30d")
    assert summary["total"] == 28


def test_a_partition_beyond_the_budget_is_deleted_row_by_row(stored: Stored) -> None:
    """What is left of it is dropped once the budget holds it; no threat of a later partition goes before its time."""
    stored.receive(*(NOW + second for second in range(20)))
    stored.receive(*(NOW + HOUR + second for second in range(20)))
    now = NOW + DAY + HOUR + 10
    assert stored.prune(now, most=15, step=8) == 8
    assert stored.partitions()[name_of(NOW)] == 12
    assert stored.prune(now, most=15, step=8) == 12
    assert name_of(NOW) not in stored.partitions()
    assert stored.prune(now) == 0
    assert len(stored.kept()) == 20


def test_a_threat_with_a_wrong_time_is_not_dropped_with_old_ones(stored: Stored) -> None:
    """One that was stored after others, and whose clock was a day slow, stays as long as those that show it."""
    stored.receive(NOW, NOW + 1)
    stored.receive(NOW + 20 * HOUR, NOW + 2)
    assert stored.prune(NOW + DAY + HOUR) == 2
    assert stored.kept() == [NOW + 20 * HOUR, NOW + 2]
    assert stored.prune(NOW + DAY + 20 * HOUR) == 0
    stored.receive(NOW + 40 * HOUR)
    assert stored.prune(NOW + DAY + 21 * HOUR) == 1
    assert stored.prune(NOW + DAY + 21 * HOUR) == 1
    assert stored.kept() == [NOW + 40 * HOUR]


def test_a_long_query_delays_the_drop_alone(stored: Stored) -> None:
    """A partition that somebody reads stays until the next time, and everything else is pruned."""
    stored.receive(NOW, NOW + 1)
    stored.receive(NOW + 2 * HOUR)
    address = stored.database.address  # type: ignore[attr-defined]
    with psycopg.connect(address.url) as reader:
        reader.execute("SELECT count(*) FROM threat")
        assert stored.prune(NOW + DAY + HOUR, step=1) == 1
        stored.receive(NOW + 3 * HOUR)  # its partition cannot be made either
        assert stored.partitions()["threat_of_other_days"] == 1
    assert stored.prune(NOW + DAY + HOUR) == 1
    assert stored.kept() == [NOW + 2 * HOUR, NOW + 3 * HOUR]


def test_two_writers_make_a_partition_once(stored: Stored) -> None:
    """While one makes a partition another one does not wait for it: its threats go to the default partition."""
    address = stored.database.address  # type: ignore[attr-defined]
    with psycopg.connect(address.url) as other:
        other.execute("SELECT pg_advisory_xact_lock(1348562535, 4)")
        stored.receive(NOW)
    assert stored.partitions() == {"threat_of_other_days": 1}
    stored.receive(NOW + 1)  # the default partition has threats of this hour, so it keeps them
    assert stored.partitions()["threat_of_other_days"] == 2
    stored.receive(NOW + HOUR)
    assert stored.partitions()[name_of(NOW + HOUR)] == 1
    assert stored.prune(NOW + DAY + HOUR) == 2


def test_an_ingest_worker_makes_partitions_too(stored: Stored) -> None:
    """What a worker stores has a partition of its hour, though the leader stores nothing then."""
    writer = open_writer(stored.database.address)  # type: ignore[attr-defined]
    row = ThreatRow(1, "w-1", bytes(16), NOW, NOW, True, "scan", "low", 1.0, None, None, None, "{}")
    ReportStore(writer, bytes(32), DAY).store([row], [])
    writer.close()
    assert stored.partitions() == {name_of(NOW): 1, "threat_of_other_days": 0}


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("receive"), st.lists(st.sampled_from([0.0, 0.0, 1.0, -200.0]), min_size=1, max_size=6)),
        st.tuples(st.just("pass"), st.sampled_from([600.0, 1800.0, 3600.0, 30_000.0, 90_000.0])),
        st.tuples(st.just("prune"), st.tuples(st.sampled_from([0, 4, 100]), st.sampled_from([0, 3, 100]))),
    ),
    max_size=25,
)


@settings(max_examples=examples(25), deadline=None)
@given(STEPS)
def test_no_threat_goes_early_and_none_stays_for_long(
    postgresql_cluster: Postgresql, tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, Any]]
) -> None:
    """A threat is kept for its retention, and at most a partition's length longer where the budget allows it."""
    with stores_in(postgresql_cluster):
        stored, now, received = Stored(tmp_path_factory.mktemp("store") / "store"), NOW, 0
        for kind, value in [*steps, ("prune", (1000, 1000))]:
            if kind == "receive":
                stored.receive(*(now + late for late in value))
                received += len(value)
            elif kind == "pass":
                now += value
            else:
                before = stored.kept()
                deleted = stored.prune(now, *value)
                after = stored.kept()
                assert len(before) - len(after) == deleted <= sum(value)
                gone = before[: len(before) - len(after)] if deleted else []
                assert [at for at in before if at >= now - DAY] == [at for at in after if at >= now - DAY]
                assert not gone or min(gone) < now - DAY
                shown = (stored.listed(), stored.listed(type_="scan"), stored.listed(severity="low"))
                assert shown == (len(after),) * 3
        assert all(at >= now - DAY - 2 * HOUR for at in stored.kept())
        kinds = stored.queries.threat_summary(now=now, period="30d")
        assert kinds["total"] == received or now - NOW > 29 * DAY
        stored.close()
