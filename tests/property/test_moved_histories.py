"""Stores with any history, moved to PostgreSQL: every query gives the answer that it gave on the SQLite file."""

import inspect
from contextlib import closing
from pathlib import Path
from typing import ClassVar

import pytest
import structlog
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from manager.storage.connection import open_reader
from manager.storage.postgresql.connection import open_postgresql_reader
from manager.storage.queries import StoreQueries
from manager.store_migration import move_store
from tests.property.test_engine_histories import HISTORIES, EngineHistory
from tests.support.every_query import answers
from tests.support.examples import examples
from tests.support.moved_stores import database_rows, key_file_of, store_rows
from tests.support.postgresql import Postgresql

pytestmark = [
    pytest.mark.long("tests/integration/storage/postgresql/test_store_migration.py"),
    pytest.mark.postgresql,
    pytest.mark.timeout(1200),
]

_ASKED: set[str] = set()


class MovedHistory(EngineHistory):
    """A history at whose end the store is moved."""

    cluster: ClassVar[Postgresql]

    def teardown(self) -> None:
        self.end_fault()
        self.bench.pass_time(5)
        now = self.bench.wall
        ids = {
            "agents": self._column("SELECT agent_id FROM agent ORDER BY number LIMIT 5"),
            "incidents": self._column("SELECT id FROM incident ORDER BY id LIMIT 5"),
            "blocks": self._column("SELECT id FROM emergency_entry ORDER BY id LIMIT 5"),
            "threats": self._column("SELECT threat_id FROM threat ORDER BY sequence LIMIT 5"),
            "channels": self._column("SELECT channel FROM notification_cursor ORDER BY channel LIMIT 5"),
        }
        self.bench.store.close()
        directory = Path(self.directory.name)
        with closing(open_reader(directory / "panguard.db")) as reader:
            before = answers(StoreQueries(reader), ids, now)
        key_file_of(directory)
        address = self.cluster.create_migrated()
        try:
            move_store(directory, None, address, lambda _verb, _rows: None)
            assert database_rows(address) == store_rows(directory / "panguard.db")
            with closing(open_postgresql_reader(address)) as reader:
                after = answers(StoreQueries(reader), ids, now)
        finally:
            self.cluster.drop(address)
        _ASKED.update(call.partition(" ")[0] for call in before)
        for call, answer in before.items():
            assert after[call] == answer, call
        (directory / "panguard.db").chmod(0o600)
        self.directory.cleanup()
        structlog.reset_defaults()

    def _column(self, sql: str) -> list[str]:
        return [str(value) for (value,) in self.bench.rows(sql)]


def test_a_moved_store_answers_as_before(postgresql_cluster: Postgresql) -> None:
    """Over random histories of agents, people, time, restarts and errors of the store, with all queries there are."""
    MovedHistory.cluster = postgresql_cluster
    run_state_machine_as_test(
        MovedHistory,
        settings=settings(max_examples=max(examples(10), HISTORIES // 10), stateful_step_count=30, deadline=None),
    )
    queries = {name for name, _ in inspect.getmembers(StoreQueries, inspect.isfunction) if not name.startswith("_")}
    assert queries == _ASKED
