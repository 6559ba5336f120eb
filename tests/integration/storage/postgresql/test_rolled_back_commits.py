"""Commits that the server rolls back at their very end: their sequences are taken, and no threat has them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from peewee import Database

from manager.domain.agents.agent import Agent, Door, credential_of
from manager.domain.agents.host import Host
from manager.engine.batch import Changes, DeadLetter, ThreatRow
from manager.errors import ManagerError
from manager.storage import tables
from manager.storage.queries.reader import Reader
from manager.storage.store import PeeweeStore
from manager.storage.threat_index.search import ThreatIndexSearch, last_indexed, matching
from tests.support.migrated_store import open_migrated, open_reading, stores_in
from tests.support.postgresql import Postgresql

pytestmark = pytest.mark.postgresql

NOW = 1_800_000_000.0
PIECE = 10
REFUSAL = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'refused'; END $$;
CREATE CONSTRAINT TRIGGER refused AFTER INSERT ON dead_letter DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION refuse();
"""
"""Has a commit with a dead letter fail."""


@pytest.fixture
def path(postgresql_cluster: Postgresql, tmp_path: Path) -> Iterator[Path]:
    with stores_in(postgresql_cluster):
        yield tmp_path / "store"


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    database = open_migrated(path)
    tables.database.initialize(database)
    yield database
    database.close()


@pytest.fixture
def store(database: Database) -> PeeweeStore:
    store = PeeweeStore(database, bytes(32), piece=PIECE)
    agent = Agent(1, "ag-1", "acme", Host.of("a", "Linux", "x64", "1"), credential_of(bytes(32)), None, Door.MQTT, NOW)
    store.commit(Changes(agents={agent.agent_id: agent}))
    return store


def threats(first: int, number: int) -> Changes:
    return Changes(
        threats=[
            ThreatRow(1, f"t-{each}", bytes(16), NOW, NOW, True, "scan", "low", 1.0, None, None, None, "{}")
            for each in range(first, first + number)
        ]
    )


def test_the_index_has_no_threat_of_a_commit_that_was_rolled_back(
    path: Path, database: Database, store: PeeweeStore
) -> None:
    """The threats are stored again behind the gap; a search finds them there, and nothing in the gap."""
    database.execute_sql(REFUSAL)
    store.commit(threats(0, 4))
    failing = threats(4, 8)
    failing.dead_letters.append(DeadLetter(NOW, "topic", "reason", 0, b""))
    with pytest.raises(ManagerError):
        store.commit(failing)
    store.commit(threats(4, 8))
    for _ in range(12):
        store.commit(Changes(decided=store.waiting_reports(100).ranges))
    stored = [row[0] for row in database.execute_sql("SELECT sequence FROM threat ORDER BY sequence DESC")]
    assert stored == [*range(20, 12, -1), 4, 3, 2, 1]
    reader = Reader(open_reading(path))
    assert last_indexed(reader) == 2 * PIECE
    assert list(matching(reader, ThreatIndexSearch(severity="low"), 100)) == stored
