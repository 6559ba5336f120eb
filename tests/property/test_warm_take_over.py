"""Agents that a stand-by keeps in memory, taken over after any history of the leader: equal to agents loaded anew."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule, run_state_machine_as_test

from manager.domain.agents.agent import Agent, Door, State, Vitals, credential_of
from manager.domain.agents.clock_offset import ClockOffset
from manager.domain.agents.host import Host
from manager.engine.agent_index import index_of
from manager.engine.batch import Changes
from manager.storage.postgresql import warm_agents
from manager.storage.postgresql.address import DatabaseAddress
from manager.storage.postgresql.connection import open_postgresql_reader, open_writer
from manager.storage.postgresql.warm_agents import WarmAgents
from manager.storage.statements import Statements
from manager.storage.store import PeeweeStore
from tests.property.test_engine_histories import HISTORIES, EngineHistory
from tests.support.agent_indexes import contents
from tests.support.examples import examples
from tests.support.migrated_store import open_reading, stores_in
from tests.support.postgresql import Postgresql

pytestmark = [pytest.mark.long("tests/integration/storage/postgresql/test_warm_agents.py"), pytest.mark.postgresql]

PIECE = 2
"""Rows that are read at a time, so that a reading of few agents has several statements, too."""


class Interleaved(Statements):
    """Statements of a reading, before each of which something else happens."""

    def __init__(self, database: Any, between: Iterator[Callable[[], object]]) -> None:
        super().__init__(database)
        self._between = between

    def rows(self, name: str, params: Any = ()) -> list[tuple[Any, ...]]:
        next(self._between, lambda: None)()
        return super().rows(name, params)


@contextmanager
def small_pieces() -> Iterator[None]:
    with patch.object(warm_agents, "_ROWS", PIECE):
        yield


class WarmHistory(EngineHistory):
    """A history of the leader's engine, beside a stand-by that reads at any moment."""

    def __init__(self) -> None:
        super().__init__()
        self.reader = open_reading(Path(self.directory.name) / "panguard.db")
        self.warm = WarmAgents(self.bench.keyring.store_key)
        self.taken = 0

    @rule()
    def read(self) -> None:
        self.warm.refresh(Statements(self.reader))

    @rule(
        steps=st.lists(
            st.tuples(st.sampled_from(["beat", "remove", "move", "register", "pass"]), st.integers(0, 9)), max_size=6
        )
    )
    def read_while_things_happen(self, steps: list[tuple[str, int]]) -> None:
        self.end_fault()
        acts: dict[str, Callable[[int], object]] = {
            "beat": lambda index: self.heartbeat(
                index=index, skew=0.0, events=5, total=None, version=index, outbox=index
            ),
            "remove": lambda index: self.remove(index, again=index % 2 == 0),
            "move": lambda index: self.change_agent(index, ("web",), "acme"),
            "register": lambda index: self.http_register(f"late-{index}", by_admin=True),
            "pass": lambda index: self.bench.pass_time(6.0 * index),
        }
        between = (lambda act=acts[name], index=index: act(index) for name, index in steps)
        self.warm.refresh(Interleaved(self.reader, iter(between)))

    @rule(after=st.integers(0, 3))
    def begin_to_read(self, after: int) -> None:
        left = iter([True] * after)
        self.warm.refresh(Statements(self.reader), lambda: next(left, False))

    @rule()
    def take_over(self) -> None:
        self.end_fault()
        self.bench.engine.step(self.bench.now)
        loaded, cold = self.bench.store.load(self.warm), self.bench.store.load()
        assert loaded == cold
        assert loaded.index is not None
        assert contents(loaded.index) == contents(index_of(cold.agents))
        self.warm.refresh(Statements(self.reader))
        taken = self.warm.take(Statements(self.bench.database))
        assert taken is not None
        assert taken.agents == cold.agents

    def teardown(self) -> None:
        self.take_over()
        self.reader.close()
        super().teardown()


@pytest.mark.timeout(max(1200, 30 * HISTORIES))
def test_what_is_taken_over_is_what_is_stored(postgresql_cluster: Postgresql) -> None:
    """After any history, with readings at any moments of it, a take-over has the agents that a new start loads."""
    some = settings(max_examples=max(1, HISTORIES // 10), stateful_step_count=30, deadline=None)
    with stores_in(postgresql_cluster), small_pieces():
        run_state_machine_as_test(WarmHistory, settings=some)


AGENTS = 5
CHANGES = {
    "state": "UPDATE agent SET state = 'stale', state_since = state_since + 1 WHERE number = %s",
    "vitals": "UPDATE agent_vitals SET uptime = coalesce(uptime, 0) + 1, cpu = 3.5 WHERE agent_number = %s",
    "index": "UPDATE agent SET organization_id = 'acme', registered_in = 'default' WHERE number = %s",
    "lock": "SELECT 1 FROM agent WHERE number = %s FOR UPDATE",
    "remove": "UPDATE agent SET removed_at = 1, keys = NULL, http_digest = NULL, state = 'removed' WHERE number = %s",
    "no vitals": "DELETE FROM agent_vitals WHERE agent_number = %s",
}
_MARK = (
    "INSERT INTO meta (key, value) VALUES ('commit_mark', %s) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("change"), st.integers(1, AGENTS), st.sampled_from(sorted(CHANGES)), st.booleans()),
        st.tuples(st.sampled_from(["commit", "rollback"]), st.integers(1, AGENTS), st.just(""), st.just(False)),
        st.tuples(st.sampled_from(["insert", "read", "vacuum", "rewrite"]), st.just(0), st.just(""), st.booleans()),
    ),
    max_size=25,
)


def agent(number: int) -> Agent:
    return Agent(
        number, f"ag-{number:016x}", "default", Host.of(f"web-{number}", "Debian 12", "x64", "1.0", tags=("a",)),
        credential_of(bytes([number] * 32)), None, Door.MQTT, 1.0, State.ONLINE, 2.0, session=3, heartbeat_sequence=4,
        last_heartbeat=5.0, clock=ClockOffset(0.5, 6.0, 3), vitals=Vitals(1.0, 2.0, 3.0, "learning", 1, 2, 3, 4, 5, 6),
    )  # fmt: skip


class Transactions:
    """Transactions of several sessions that change an agent each, and readings between them."""

    def __init__(self, address: DatabaseAddress) -> None:
        self.plain = psycopg.connect(address.url, autocommit=True)
        self.plain.execute("TRUNCATE agent, agent_vitals, meta CASCADE")
        self.store = PeeweeStore(open_writer(address), bytes(32))
        self.store.commit(Changes(agents={f"{number}": agent(number) for number in range(1, AGENTS + 1)}))
        self.sessions = {number: psycopg.connect(address.url) for number in range(1, AGENTS + 1)}
        self.reader = open_postgresql_reader(address)
        self.warm = WarmAgents(bytes(32))
        self.marks = itertools.count()
        self.inserted = AGENTS

    def act(self, what: str, number: int, change: str, nested: bool) -> None:
        match what:
            case "change":
                session = self.sessions[number]
                with session.transaction() if nested and self.is_open(number) else closing(session.cursor()):
                    session.execute(CHANGES[change].encode(), (number,))
            case "commit" | "rollback":
                self.end(number, commit=what == "commit")
            case "insert":
                self.inserted += 1
                self.store.commit(Changes(agents={"new": agent(self.inserted)}))
            case "read":
                self.read([])
            case "vacuum":
                self.plain.execute(f"VACUUM {'(FREEZE)' if nested else ''} agent, agent_vitals".encode())
            case "rewrite" if not any(map(self.is_open, self.sessions)):
                self.plain.execute(b"VACUUM FULL agent")
                self.plain.execute(b"CLUSTER agent_vitals USING agent_vitals_pkey")

    def is_open(self, number: int) -> bool:
        return self.sessions[number].info.transaction_status != psycopg.pq.TransactionStatus.IDLE

    def end(self, number: int, *, commit: bool) -> None:
        session = self.sessions[number]
        if commit and self.is_open(number):
            session.execute(_MARK, (str(next(self.marks)),))
        (session.commit if commit else session.rollback)()

    def read(self, steps: list[Any]) -> None:
        between = (lambda step=step: self.act(*step) for step in steps)
        self.warm.refresh(Interleaved(self.reader, iter(between)))

    def finish(self) -> None:
        for number in self.sessions:
            self.end(number, commit=True)
        cold = self.store.load()
        taken = self.warm.take(self.store._statements)
        deleted = {each.number for each in cold.agents if each.heartbeat_sequence < 0}
        assert (taken.agents == cold.agents) if taken is not None else deleted
        assert taken is None or contents(taken.index) == contents(index_of(cold.agents))
        assert self.store.load(self.warm) == cold

    def close(self) -> None:
        for session in (*self.sessions.values(), self.plain):
            session.close()
        self.reader.close()
        self.store.close()


OLDER_STAYS_OPEN = [
    ([("change", 1, "state", False), ("change", 2, "state", False), ("commit", 2, "", False)], []),
    ([], [("commit", 1, "", False)]),
]


@settings(max_examples=max(examples(30), HISTORIES // 3), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(st.tuples(STEPS, STEPS), max_size=4))
@example(pieces=OLDER_STAYS_OPEN)
def test_transactions_that_are_open_during_a_reading_are_read_by_the_next(
    postgresql_address: DatabaseAddress, pieces: list[tuple[list[Any], list[Any]]]
) -> None:
    """Open, committed between two statements of a reading, rolled back, nested, locked only, vacuumed: all is read."""
    with small_pieces(), closing(Transactions(postgresql_address)) as transactions:
        for before, during in pieces:
            for step in before:
                transactions.act(*step)
            transactions.read(during)
        transactions.finish()
