"""The writer's cache of pages: large for many reports, small for all else, as a start and heartbeats."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from peewee import Database, OperationalError

from manager.domain.agents.agent import Agent, Door, credential_of
from manager.domain.agents.host import Host
from manager.engine.batch import Changes, ThreatRow
from manager.storage import tables
from manager.storage.sqlite.page_cache import LARGE, MANY, PERIOD, SMALL, PageCache
from manager.storage.store import PeeweeStore
from tests.support.migrated_store import open_migrated

NOW = 1_800_000_000.0


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = open_migrated(tmp_path / "store.db")
    tables.database.initialize(database)
    yield database
    database.close()


def size_of(database: Database) -> int:
    """Return the bytes that the cache may have; SQLite has them as a negative number of KiB."""
    return -1024 * int(database.execute_sql("PRAGMA cache_size").fetchone()[0])


def agent() -> Agent:
    """Return an agent that no store has."""
    return Agent(1, "ag-1", "acme", Host.of("a", "os", "arch", "v"), credential_of(bytes(32)), None, Door.MQTT, NOW)


def batch(first: int, count: int) -> Changes:
    """Return so many reports of one agent."""
    return Changes(
        threats=[
            ThreatRow(1, f"t-{number}", bytes(16), NOW, NOW, True, "scan", "low", 1.0, None, None, None, "{}")
            for number in range(first, first + count)
        ]
    )


def test_a_start_reads_through_a_small_cache(database: Database) -> None:
    """Whatever the connection had before: the pages that a start reads once are not kept."""
    database.execute_sql("PRAGMA cache_size = -65536")
    store = PeeweeStore(database, bytes(32))
    assert size_of(database) == SMALL
    store.load()
    assert size_of(database) == SMALL


def test_many_reports_have_the_large_cache(database: Database) -> None:
    """In one batch or in several; a commit without reports takes nothing away."""
    store = PeeweeStore(database, bytes(32))
    store.commit(Changes(agents={"ag-1": agent()}))
    store.commit(batch(0, MANY - 1))
    assert size_of(database) == SMALL
    store.commit(batch(MANY, 1))
    assert size_of(database) == LARGE
    store.commit(Changes())
    assert size_of(database) == LARGE


def test_the_room_is_given_back_when_fewer_come(database: Database) -> None:
    """After a whole period with fewer, and not before; the next ones have it again."""
    now = 1000.0
    cache = PageCache(database, lambda: now)
    for _ in range(2):
        cache.before_reports(MANY)
        now += PERIOD
        cache.after_commit()
        cache.before_reports(MANY - 1)
        now += PERIOD - 1
        cache.after_commit()
        assert size_of(database) == LARGE
        now += 1
        cache.after_commit()
        assert size_of(database) == SMALL


def test_a_commit_succeeds_whose_cache_cannot_be_sized(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its transaction is durable before: an error would have the engine commit the batch again. It is tried later."""
    now = 1000.0
    monkeypatch.setattr(PageCache.__init__, "__defaults__", (lambda: now,))
    store = PeeweeStore(database, bytes(32))
    store.commit(Changes(agents={"ag-1": agent()}))
    store.commit(batch(0, MANY))
    now += PERIOD
    store.commit(Changes())
    execute = database.execute_sql

    def refuse(sql: str, params: Any = None) -> Any:
        if sql.startswith("PRAGMA cache_size ="):
            raise OperationalError("database is locked")
        return execute(sql, params)

    monkeypatch.setattr(database, "execute_sql", refuse)
    now += PERIOD
    store.commit(batch(MANY, 1))
    assert database.execute_sql("SELECT count(*) FROM threat").fetchone() == (MANY + 1,)
    assert size_of(database) == LARGE
    monkeypatch.setattr(database, "execute_sql", execute)
    now += PERIOD
    store.commit(Changes())
    assert size_of(database) == SMALL


def test_few_reports_of_each_period_add_up_to_nothing(database: Database) -> None:
    """Those of earlier periods do not count."""
    now = 1000.0
    cache = PageCache(database, lambda: now)
    for _ in range(3):
        cache.before_reports(MANY - 1)
        now += PERIOD
        cache.after_commit()
    assert size_of(database) == SMALL
