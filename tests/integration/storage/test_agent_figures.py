"""Running counts of agents while a commit is under way, and after one that failed."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from peewee import OperationalError

from manager.domain.agents.agent import Agent, Door, credential_of
from manager.domain.agents.host import Host
from manager.engine.batch import Changes
from manager.engine.ports import CommitWork
from manager.errors import StoreUnavailable
from manager.storage import running_figures, tables
from manager.storage.agent_figures import ALL_AGENTS
from manager.storage.queries import StoreQueries
from manager.storage.queries.reader import Reader
from manager.storage.sqlite.backend import SqliteBackend
from manager.storage.store import PeeweeStore
from tests.support.migrated_store import open_migrated, open_reading

NOW = 1_800_000_000.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "panguard.db"


@pytest.fixture
def store(path: Path) -> PeeweeStore:
    database = open_migrated(path)
    tables.database.initialize(database)
    store = PeeweeStore(database, bytes(32))
    store.load()
    return store


def test_during_a_commit_the_overview_counts_the_agents_that_the_store_has(
    path: Path, store: PeeweeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One who sees a commit's agent in the store sees it counted, too, though the writer has not been answered."""
    queries, seen = StoreQueries(open_reading(path), figures=store.figures), list[tuple[int, int]]()

    def see() -> None:
        seen.append((len(queries.agents(limit=9)[0]), queries.overview(NOW)["totalAgents"]))

    def commit(_self: Any, end: Callable[[], None], _threats: int, _work: CommitWork | None) -> None:
        see()
        end()
        see()

    monkeypatch.setattr(SqliteBackend, "commit", commit)
    for number in (1, 2):
        store.commit(_added(number))
        see()
    assert seen == [(0, 0), (1, 1), (1, 1), (1, 1), (2, 2), (2, 2)]
    store.close()


def test_an_overview_waits_for_the_end_of_a_commit(
    path: Path, store: PeeweeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To count all agents meanwhile would take longer; afterwards it has what the commit changed."""
    queries, waits, counted = StoreQueries(open_reading(path), figures=store.figures), Event(), list[Any]()
    values = Reader.values
    monkeypatch.setattr(running_figures, "_PATIENCE", 60.0)
    monkeypatch.setattr(
        Reader, "values", lambda reader, names, *given: counted.append(names) or values(reader, names, *given)
    )

    class Shown(Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.set()
            return super().wait(timeout)

    object.__setattr__(store.figures, "_shown", Shown())
    with ThreadPoolExecutor(1) as reading:
        answers = []

        def commit(_self: Any, end: Callable[[], None], _threats: int, _work: CommitWork | None) -> None:
            answers.append(reading.submit(queries.overview, NOW))
            answers[0].add_done_callback(lambda _: waits.set())
            assert waits.wait(60)
            end()

        monkeypatch.setattr(SqliteBackend, "commit", commit)
        store.commit(_added(1))
        assert answers[0].result(60)["totalAgents"] == 1
    assert ALL_AGENTS not in counted
    store.close()


def test_after_a_commit_whose_end_is_unknown_all_agents_are_counted_anew(
    store: PeeweeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The counts are unknown until the next commit, which need not write an agent."""
    with monkeypatch.context() as patched:

        def commit(_self: Any, end: Callable[[], None], _threats: int, _work: CommitWork | None) -> None:
            end()
            raise OperationalError("the connection was lost")

        patched.setattr(SqliteBackend, "commit", commit)
        with pytest.raises(StoreUnavailable):
            store.commit(_added(1))
    assert store.figures.agents.known is None
    store.commit(Changes(meta={"name": "value"}))
    assert store.figures.agents.known == ({"online": 1}, {"Linux": 1}, 0)
    store.close()


def _added(number: int) -> Changes:
    host, agent_id = Host.of(f"host-{number}", "Linux", "x64", "1"), f"ag-{number}"
    agent = Agent(number, agent_id, "acme", host, credential_of(bytes(32)), None, Door.MQTT, NOW)
    return Changes(agents={agent_id: agent})
