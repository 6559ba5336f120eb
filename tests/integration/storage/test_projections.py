"""Projections of the stored threats: progress, pace, and each threat counted once."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from peewee import Database

from manager.domain.agents.agent import Agent, Door, credential_of
from manager.domain.agents.host import Host
from manager.engine.batch import Changes, ThreatRow
from manager.engine.ports import PruneOrder
from manager.errors import StoreRejected
from manager.storage import tables
from manager.storage.store import PeeweeStore
from tests.support.migrated_store import open_migrated

pytestmark = pytest.mark.usefixtures("each_system")

NOW = 1_800_000_000.0
PIECE = 10


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    path = tmp_path / "store.db"
    database = open_migrated(path)
    tables.database.initialize(database)
    yield database
    database.close()


@pytest.fixture
def store(database: Database) -> PeeweeStore:
    store = PeeweeStore(database, bytes(32), piece=PIECE)
    agent = Agent(
        1, "ag-1", "acme", Host.of("a", "Linux", "x64", "1"), credential_of(bytes(32)), None, Door.MQTT, NOW
    )  # fmt: skip
    store.commit(Changes(agents={agent.agent_id: agent}))
    return store


def threats(first: int, number: int, agent: int = 1) -> Changes:
    return Changes(
        threats=[
            ThreatRow(agent, f"t-{each}", bytes(16), NOW, NOW, True, "scan", "low", 1.0, None, None, None, "{}")
            for each in range(first, first + number)
        ]
    )


def progress(database: Database) -> dict[str, int]:
    return dict(database.execute_sql("SELECT name, last FROM projection_progress").fetchall())


def counted(database: Database) -> int:
    sql = "SELECT coalesce(sum(count), 0) FROM threat_agent_count WHERE seconds = 86400"
    return int(database.execute_sql(sql).fetchone()[0])


def test_a_projection_catches_up_a_piece_at_a_time(database: Database, store: PeeweeStore) -> None:
    """A commit without threats writes one piece, until every projection has all whole pieces."""
    store.commit(threats(0, 105))
    for table in ("projection_progress", "threat_agent_count", "threat_kind_count", "threat_slice", "threat_bitmap"):
        database.execute_sql(f"DELETE FROM {table}")
    steps = 0
    while sum(progress(database).values()) < 4 * 100:
        before = sum(progress(database).values())
        store.commit(Changes())
        assert sum(progress(database).values()) == before + PIECE
        steps += 1
    store.commit(Changes())
    assert set(progress(database).values()) == {100}
    assert (steps, counted(database)) == (40, 100)


@pytest.mark.parametrize("batch", [1, 7, 10, 25, 100])
def test_projections_keep_up_with_batches_of_any_size(database: Database, store: PeeweeStore, batch: int) -> None:
    """The threats not yet taken in stay below a few pieces, however long threats are stored."""
    for first in range(0, 40 * batch, batch):
        store.commit(threats(first, batch))
        stored = first + batch
        assert min(progress(database).values(), default=0) > stored - batch - 5 * PIECE


def test_a_rejected_batch_leaves_the_projections_unchanged(
    database: Database, store: PeeweeStore, each_system: str
) -> None:
    """A piece is rolled back with its transaction; threats committed afterwards are counted once."""
    store.commit(threats(0, 8))
    with pytest.raises(StoreRejected):
        store.commit(threats(8, 40, agent=2))
    assert (progress(database).get("agents", 0), counted(database)) == (0, 0)
    for first in range(0, 48, 8):
        store.commit(threats(first, 8))
    for _ in range(8):
        store.commit(Changes())
    done = progress(database)["agents"]
    ((taken_in,),) = database.execute_sql(f"SELECT count(*) FROM threat WHERE sequence <= {done}").fetchall()
    assert counted(database) == taken_in
    if each_system == "sqlite":  # on PostgreSQL the gap of the rejected batch ends when the engine asks what waits
        assert taken_in == 40


def test_threats_are_counted_before_they_are_pruned(database: Database, store: PeeweeStore) -> None:
    """Threats pruned before they fill a piece stay in the counts, and later ones are added."""
    store.commit(threats(0, 4))
    store.prune(PruneOrder(NOW + 2, NOW + 1, 0, 0, 0, 0, 0, threats=100, ids=0, rows=100))
    assert (counted(database), database.execute_sql("SELECT count(*) FROM threat").fetchone()) == (4, (0,))
    store.commit(threats(4, 10))
    for _ in range(4):
        store.commit(Changes())
    assert counted(database) == 14
