"""Projections from memory against projections read back from the store, over the same history."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from peewee import Database

from manager.domain.agents.agent import Agent, Door, credential_of
from manager.domain.agents.host import Host
from manager.engine.batch import Changes, ThreatRow
from manager.engine.ports import PruneOrder
from manager.errors import StoreRejected
from manager.storage import tables
from manager.storage.store import PeeweeStore
from tests.support.examples import examples
from tests.support.migrated_store import open_migrated

pytestmark = pytest.mark.usefixtures("each_system")

NOW = 1_800_000_000.0
PIECE = 4
AGENTS, UNKNOWN_AGENT = 3, 9
ORGANIZATIONS = ("acme", "other")
TABLES = {
    "threat": "SELECT sequence, threat_id FROM threat ORDER BY 1",
    "progress": "SELECT name, last FROM projection_progress ORDER BY 1",
    "kinds": "SELECT * FROM threat_kind_count ORDER BY 1, 2, 3, 4, 5",
    "agents": "SELECT * FROM threat_agent_count ORDER BY 1, 2, 3",
    "addresses": "SELECT address, last_seen FROM threat_source ORDER BY 1",
    "sources": (
        "SELECT seconds, bucket, address, organization_id, count, threat_source_count.last_seen"
        " FROM threat_source_count JOIN threat_source ON number = source_number ORDER BY 1, 2, 3, 4"
    ),
    "slices": "SELECT * FROM threat_slice ORDER BY 1",
    "bitmaps": "SELECT * FROM threat_bitmap ORDER BY 1, 2, 3",
}

threat = st.tuples(
    st.integers(1, AGENTS),
    st.sampled_from(["new"] * 30 + ["repeated"]),
    st.sampled_from([0.0, 1.5, 299.5, 4_000.0, 30_000.0, 90_000.0, 200_000.0]),
    st.sampled_from(["scan", "malware"]),
    st.sampled_from(["low", "high"]),
    st.sampled_from([None, "198.51.100.1", "198.51.100.2", "2001:db8::1"]),
)
step = st.one_of(
    st.tuples(st.just("store"), st.lists(threat, min_size=1, max_size=3 * PIECE)),
    st.tuples(st.just("store"), st.lists(threat, min_size=PIECE, max_size=3 * PIECE)),
    st.tuples(st.just("rejected"), st.lists(threat, max_size=PIECE)),
    st.tuples(st.just("move"), st.tuples(st.integers(1, AGENTS), st.sampled_from(ORGANIZATIONS))),
    st.tuples(st.just("prune"), st.integers(1, 2 * PIECE)),
    st.tuples(st.just("restart"), st.none()),
)


@settings(deadline=None, max_examples=examples(25))
@given(st.lists(step, max_size=25))
def test_projections_from_memory_are_those_read_from_the_store(steps: list[tuple[str, Any]]) -> None:
    """After each commit, rollback, move of an agent, pruning and restart both ways have written the same rows."""
    with _database() as from_memory, _database() as from_store:
        memory = _Store(from_memory, {})
        stored = _Store(from_store, {"remembered": 0})
        for number, (name, argument) in enumerate(steps):
            for each in (memory, stored):
                each.carry_out(name, argument, NOW + number)
            assert memory.rows() == stored.rows()


class _Store:
    """A store and the steps of its history."""

    def __init__(self, database: Database, options: dict[str, int]) -> None:
        self._database = database
        self._options = options
        self._open()
        for number in range(1, AGENTS + 1):
            self._move(number, ORGANIZATIONS[0])

    def _open(self) -> None:
        tables.database.initialize(self._database)
        self._store = PeeweeStore(self._database, bytes(32), piece=PIECE, **self._options)  # type: ignore[arg-type]

    def carry_out(self, name: str, argument: Any, now: float) -> None:
        """Carry out a step; a store that remembers nothing is opened anew, and so has no organizations in memory."""
        if self._options:
            self._open()
        match name:
            case "store":
                self._store.commit(Changes(threats=_rows(argument, now)))
            case "rejected":
                beyond = (UNKNOWN_AGENT, "new", 0.0, "scan", "low", None)
                self._rejected(Changes(threats=_rows([*argument, beyond], now)))
            case "move":
                self._move(*argument)
            case "prune":
                order = PruneOrder(now + 2, now + 1, 0, 0, 0, 0, 0, threats=argument, ids=0, rows=100)
                self._store.prune(order)
            case "restart":
                self._open()

    def _rejected(self, changes: Changes) -> None:
        try:
            self._store.commit(changes)
        except StoreRejected:
            return
        raise AssertionError("an unknown agent's threat was stored")

    def _move(self, number: int, organization_id: str) -> None:
        host = Host.of(f"host-{number}", "Linux", "x64", "1")
        agent_id = f"ag-{number}"
        agent = Agent(number, agent_id, organization_id, host, credential_of(bytes(32)), None, Door.MQTT, NOW)
        self._store.commit(Changes(agents={agent_id: agent}))

    def rows(self) -> dict[str, list[Any]]:
        """Return the rows of all projections."""
        return {name: self._database.execute_sql(sql).fetchall() for name, sql in TABLES.items()}


def _rows(threats: list[Any], now: float) -> list[ThreatRow]:
    return [
        ThreatRow(
            number,
            f"t-{now}-{place}" if newness == "new" else newness,
            bytes(16),
            now - ago,
            now,
            True,
            type_,
            severity,
            1.0,
            None,
            address,
            None,
            "{}",
        )
        for place, (number, newness, ago, type_, severity, address) in enumerate(threats)
    ]


@contextmanager
def _database() -> Iterator[Database]:
    with TemporaryDirectory() as name:
        database = open_migrated(Path(name) / "store.db")
        yield database
        database.close()
