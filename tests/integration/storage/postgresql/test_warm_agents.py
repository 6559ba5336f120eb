"""Agents in the memory of a stand-by: what is read again, and when all of it is dropped."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any
from unittest.mock import patch

import psycopg
import pytest
from cryptography.exceptions import InvalidTag
from msgspec.structs import replace

from manager.domain.agents.agent import Agent, Door, State, Vitals, credential_of
from manager.domain.agents.host import Host
from manager.engine.agent_index import index_of
from manager.engine.batch import Changes
from manager.storage.postgresql import warm_agents
from manager.storage.postgresql.address import DatabaseAddress
from manager.storage.postgresql.connection import open_postgresql_reader, open_writer
from manager.storage.postgresql.warm_agents import Position, WarmAgents, number_of, position_of
from manager.storage.statements import Statements
from manager.storage.store import PeeweeStore
from tests.support.agent_indexes import contents
from tests.support.postgresql import Postgresql
from tests.support.waiting import eventually

pytestmark = pytest.mark.postgresql

CIRCLE = 2**32


class Counted(Statements):
    """Statements that note the number of rows of each reading, by the statement's name."""

    def __init__(self, database: Any) -> None:
        super().__init__(database)
        self.read: dict[str, int] = {}

    def rows(self, name: str, params: Any = ()) -> list[tuple[Any, ...]]:
        found = super().rows(name, params)
        kind = name.removeprefix("warm_agents.")
        self.read[kind] = self.read.get(kind, 0) + len(found)
        return found


def agent(number: int, uptime: float = 1.0) -> Agent:
    return Agent(
        number, f"ag-{number:016x}", "default", Host.of(f"web-{number}", "Debian 12", "x64", "1.0"),
        credential_of(bytes([number] * 32)), None, Door.MQTT, 1.0, State.ONLINE, 2.0, vitals=Vitals(uptime=uptime),
    )  # fmt: skip


@contextmanager
def leading(address: DatabaseAddress) -> Iterator[PeeweeStore]:
    with closing(PeeweeStore(open_writer(address), bytes(32))) as store:
        yield store


def reading(address: DatabaseAddress, warm: WarmAgents) -> dict[str, int]:
    """Read once; return the numbers of rows that were read."""
    database = open_postgresql_reader(address)
    try:
        statements = Counted(database)
        warm.refresh(statements)
    finally:
        database.close()
    return {kind: count for kind, count in statements.read.items() if kind != "position"}


def test_only_what_was_written_since_is_read_again(postgresql_address: DatabaseAddress) -> None:
    """The first reading reads all; the next ones what changed, and what the last commit of before wrote."""
    warm = WarmAgents(bytes(32))
    with leading(postgresql_address) as store:
        store.commit(Changes(agents={str(number): agent(number) for number in (1, 2, 3)}))
        store.commit(Changes(meta={"a": "1"}))
        assert reading(postgresql_address, warm) == {"agents": 3}
        assert reading(postgresql_address, warm) == {"agents": 0, "vitals": 0}
        changed = agent(2, uptime=9.0)
        store.commit(Changes(vitals={"2": changed}))
        assert reading(postgresql_address, warm) == {"agents": 0, "vitals": 1}
        store.commit(Changes(removed=[agent(3)]))
        assert reading(postgresql_address, warm) == {"agents": 1, "vitals": 1}  # that of the last commit once more
        assert len(warm) == 2
        loaded = store.load().agents
        taken = warm.take(store._statements)
        assert taken is not None
        assert taken.agents == loaded
        assert [each.vitals.uptime for each in loaded] == [1.0, 9.0]
        assert warm.is_empty


OTHER_HOST = Host.of("web-2", "Debian 12", "x64", "1.0", addresses=("192.0.2.7",), gateways=("192.0.2.1",))
CHANGES: dict[str, Callable[[], Changes]] = {
    "moved": lambda: Changes(agents={"2": replace(agent(2), organization_id="acme", registered_in="default")}),
    "other addresses": lambda: Changes(agents={"2": replace(agent(2), host=OTHER_HOST)}),
    "other keys": lambda: Changes(agents={"2": replace(agent(2), credential=credential_of(bytes([99] * 32)))}),
    "removed": lambda: Changes(removed=[agent(2)]),
    "removed, its name taken": lambda: Changes(removed=[agent(2)], agents={"4": replace(agent(4), host=agent(2).host)}),
    "new": lambda: Changes(agents={"4": agent(4)}),
    "stale": lambda: Changes(agents={"2": replace(agent(2), state=State.STALE, state_since=9.0)}),
    "beaten": lambda: Changes(vitals={"2": agent(2, uptime=9.0)}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_indexes_that_are_taken_over_are_those_of_the_agents(
    postgresql_address: DatabaseAddress, change: str
) -> None:
    """They are built anew after a change of what agents are found by, and kept where only their state changes."""
    warm = WarmAgents(bytes(32))
    with leading(postgresql_address) as store:
        store.commit(Changes(agents={str(number): agent(number) for number in (1, 2, 3)}))
        store.commit(Changes(meta={"a": "1"}))
        reading(postgresql_address, warm)
        built = warm._index
        store.commit(CHANGES[change]())
        taken = warm.take(store._statements)
        assert taken is not None
        assert taken.agents == store.load().agents
        assert contents(taken.index) == contents(index_of(taken.agents))
        assert (taken.index is built) == (change in {"stale", "beaten"})
        ours = {agent.agent_id: agent for agent in taken.agents}
        assert all(each is ours[each.agent_id] for each in taken.index.registry.agents.values())


class Watched(Statements):
    """Statements that note, before each, the state of the session's transaction and whether it holds a snapshot."""

    def __init__(self, database: Any, watcher: psycopg.Connection[Any]) -> None:
        super().__init__(database)
        self._session = database.connection()
        self._watcher = watcher
        self.held: list[tuple[Any, ...]] = []

    def rows(self, name: str, params: Any = ()) -> list[tuple[Any, ...]]:
        activity = "SELECT state, backend_xid, backend_xmin FROM pg_stat_activity WHERE pid = %s"
        self.held += self._watcher.execute(activity, (self._session.info.backend_pid,)).fetchall()
        self.held += self._watcher.execute(
            "SELECT locktype FROM pg_locks WHERE pid = %s", (self._session.info.backend_pid,)
        ).fetchall()
        return super().rows(name, params)


def test_a_reading_holds_no_snapshot_and_no_lock_between_its_statements(postgresql_address: DatabaseAddress) -> None:
    """Neither VACUUM nor the leader waits for a stand-by longer than for one statement."""
    warm = WarmAgents(bytes(32))
    with leading(postgresql_address) as store, psycopg.connect(postgresql_address.url, autocommit=True) as watcher:
        store.commit(Changes(agents={str(number): agent(number) for number in range(1, 8)}))
        database = open_postgresql_reader(postgresql_address)
        statements = Watched(database, watcher)
        with patch.object(warm_agents, "_ROWS", 2):
            warm.refresh(statements)
            warm.refresh(statements)
        database.close()
    assert len(statements.held) >= 10
    assert set(statements.held) == {("idle", None, None)}


def test_a_take_over_after_rows_were_deleted_by_hand_reads_everything(postgresql_address: DatabaseAddress) -> None:
    """A deleted row has no transaction to be found by: the numbers differ, and memory does not count."""
    warm = WarmAgents(bytes(32))
    with leading(postgresql_address) as store, psycopg.connect(postgresql_address.url, autocommit=True) as by_hand:
        store.commit(Changes(agents={str(number): agent(number) for number in (1, 2)}))
        store.commit(Changes(meta={"a": "1"}))
        for statement in (b"DELETE FROM agent_vitals WHERE agent_number = 2", b"DELETE FROM agent WHERE number = 2"):
            reading(postgresql_address, warm)
            by_hand.execute(statement)
            assert warm.take(store._statements) is None
            assert store.load(warm) == store.load()


def test_a_secret_that_does_not_open_is_reported_by_the_whole_load(postgresql_address: DatabaseAddress) -> None:
    """With another key the take-over says what a start says."""
    with leading(postgresql_address) as store:
        store.commit(Changes(agents={"1": agent(1)}))
        store.commit(Changes(meta={"a": "1"}))
    with closing(PeeweeStore(open_writer(postgresql_address), bytes(31) + b"x")) as other:
        for warm in (WarmAgents(bytes(31) + b"x"), None):
            with pytest.raises(InvalidTag):
                other.load(warm)


@pytest.fixture
def cluster() -> Iterator[Postgresql]:
    """Provide a durable cluster whose WAL reaches the disk by commits alone."""
    with Postgresql(("wal_writer_delay=10s",)) as postgresql:
        yield postgresql


def test_numbers_that_a_crash_gives_again_hide_no_change(cluster: Postgresql) -> None:
    """A server process is killed after aborted transactions: their numbers name later ones, whose changes are read."""
    address = cluster.create_migrated()
    name = address.url.rsplit("/", 1)[1]
    warm = WarmAgents(bytes(32))
    with leading(address) as store:
        store.commit(Changes(agents={"1": agent(1)}))
        store.commit(Changes(meta={"a": "1"}))
    with psycopg.connect(address.url) as aborting:
        for _ in range(20):
            aborting.execute("UPDATE agent SET state_since = 99 WHERE number = 1")
            aborting.rollback()
        reading(address, warm)
        ((pid,),) = aborting.execute("SELECT pg_backend_pid()").fetchall()
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(psycopg.OperationalError):
            aborting.execute("SELECT 1")
    eventually(lambda: answers(address), what="the server recovers")
    cluster.execute("UPDATE agent SET state_since = 7 WHERE number = 1", name)
    with leading(address) as store:
        loaded = store.load().agents
        assert loaded[0].state_since == 7
        taken = warm.take(store._statements)
        assert taken is not None
        assert taken.agents == loaded


def answers(address: DatabaseAddress) -> bool:
    try:
        with psycopg.connect(address.url):
            return True
    except psycopg.OperationalError:
        return False


@pytest.mark.parametrize("fault", ["restart", "promote"])
def test_another_start_of_the_server_and_another_timeline_empty_the_memory(cluster: Postgresql, fault: str) -> None:
    """Behind either may be another history, whose transactions have the same numbers: everything is read."""
    address = cluster.create_migrated()
    warm = WarmAgents(bytes(32))
    with leading(address) as store:
        store.commit(Changes(agents={"1": agent(1), "2": agent(2)}))
        store.commit(Changes(meta={"a": "1"}))
    reading(address, warm)
    if fault == "restart":
        cluster.stop()
        cluster.start()
    else:
        cluster.promote()
        eventually(lambda: cluster.execute("SELECT pg_is_in_recovery()") == [(False,)], what="it is promoted")
    assert reading(address, warm) == {"agents": 2}


def test_a_position_begins_at_the_oldest_transaction_or_the_last_commit() -> None:
    """Whichever is older; the number of a commit is one of the circle that has begun last."""
    at = ("00000001", "1.0")
    assert position_of((*at, 100, 105, 97)) == Position(at, 97, 105)
    assert position_of((*at, 90, 105, 97)) == Position(at, 90, 105)
    assert position_of((*at, 90, 105, None)) == Position(at, 0, 105)
    assert position_of((*at, CIRCLE + 10, CIRCLE + 12, 11)).since == CIRCLE + 10
    assert position_of((*at, CIRCLE + 10, CIRCLE + 12, 9)).since == CIRCLE + 9
    assert position_of((*at, CIRCLE + 10, CIRCLE + 12, CIRCLE - 5)).since == CIRCLE - 5


def test_numbers_of_transactions_leave_three_out_and_are_compared_within_half_of_the_circle() -> None:
    """Of a transaction whose number is none the one before counts; none before the first."""
    assert [number_of(each) for each in (2, 3, CIRCLE - 1, CIRCLE, CIRCLE + 2, CIRCLE + 3)] == [
        None, "3", str(CIRCLE - 1), str(CIRCLE - 1), str(CIRCLE - 1), "3",
    ]  # fmt: skip
    earlier = Position(("1", "1.0"), 1000, 1000)
    assert Position(("1", "1.0"), 2000, 2000).reaches(earlier)
    assert not Position(("1", "2.0"), 2000, 2000).reaches(earlier)
    assert not Position(("2", "1.0"), 2000, 2000).reaches(earlier)
    assert not Position(("1", "1.0"), 2**31 + 1000, 2**31 + 1000).reaches(earlier)
