"""Writing to PostgreSQL: what is stored once, what is refused, and what becomes of a commit that is not answered."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

import psycopg
import pytest
from peewee import DatabaseError, OperationalError

from manager.domain.agents.agent import Agent, Door, Reason, State, credential_of
from manager.domain.agents.host import Host
from manager.engine.batch import AuditEntry, Changes, ThreatRow
from manager.engine.events import EventRow
from manager.errors import StoreRejected, StoreUnavailable
from manager.storage.postgresql.address import DatabaseAddress
from manager.storage.postgresql.connection import open_writer
from manager.storage.postgresql.reports import store_reports
from manager.storage.store import PeeweeStore
from schemas.fleet import FleetEvent
from schemas.model import utc
from schemas.threats import Severity
from tests.support.postgresql import Postgresql
from tests.support.waiting import eventually

pytestmark = pytest.mark.postgresql

NOW = 1_800_000_000.0


def agent(number: int = 1) -> Agent:
    return Agent(
        number=number, agent_id=f"ag-{number}", organization_id="acme", host=Host.of(f"h{number}", "os", "arch", "v"),
        credential=credential_of(bytes(32)), token_id=None, door=Door.MQTT, registered_at=NOW, state=State.ONLINE,
        state_since=NOW, reason=Reason.BIRTH, session=1,
    )  # fmt: skip


def threat(number: int, *, agent_number: int = 1, digest: bytes = bytes(16), **other: Any) -> ThreatRow:
    row = ThreatRow(
        agent_number, f"t-{number}", digest, NOW, NOW, True, "brute force", "high", 90.0, None, "192.0.2.1", None, "{}"
    )
    return row._replace(**other)


def made_event(name: str) -> EventRow:
    return EventRow(FleetEvent(event=name, at=utc(NOW), organization_id="acme"), NOW, Severity.HIGH)


@contextmanager
def opened(address: DatabaseAddress, fence: Callable[[], None] | None = None) -> Iterator[PeeweeStore]:
    """Open a store in which the first agent is registered."""
    with closing(PeeweeStore(open_writer(address), bytes(32), fence=fence)) as store:
        if not store.load().agents:
            store.commit(Changes(agents={"ag-1": agent()}))
        yield store


def stored(address: DatabaseAddress, sql: str = "SELECT threat_id FROM threat ORDER BY sequence") -> list[Any]:
    with psycopg.connect(address.url) as connection:
        return [row[0] if len(row) == 1 else row for row in connection.execute(sql.encode())]


def test_threats_have_sequences_in_their_order_and_known_ones_are_left_out(postgresql_address: DatabaseAddress) -> None:
    """A report whose id is stored is not stored again, nor one that stands twice in a batch; the others follow."""
    with opened(postgresql_address) as store:
        store.commit(Changes(threats=[threat(1), threat(2)]))
        store.commit(Changes(threats=[threat(3), threat(2), threat(3), threat(0)]))
        known = store.known_reports([(1, "t-3"), (1, "t-9"), (2, "t-3")])
    assert stored(postgresql_address) == ["t-1", "t-2", "t-3", "t-0"]
    sequences = stored(postgresql_address, "SELECT sequence FROM threat ORDER BY sequence")
    assert sequences == sorted(set(sequences))
    assert known == {(1, "t-3"): bytes(16)}


def test_a_batch_tells_which_of_its_reports_were_known_and_with_what_content(
    postgresql_address: DatabaseAddress,
) -> None:
    """The digest that was stored tells a repeated report from another one with its id."""
    other = bytes(range(16))
    with opened(postgresql_address) as store, psycopg.connect(postgresql_address.url) as connection:
        store.commit(Changes(threats=[threat(1), threat(2, digest=other)]))
        found = store_reports(connection, [threat(2), threat(3), threat(1)])
        assert found.known == {0: other, 2: bytes(16)}
        assert connection.execute("SELECT sequence FROM threat WHERE threat_id = 't-3'").fetchall() == [
            (found.first + 1,)
        ]


def test_reports_that_workers_stored_cost_no_round_trip_each(postgresql_address: DatabaseAddress) -> None:
    """A batch of which workers stored much meanwhile takes as few round trips as one of which they stored little."""
    with opened(postgresql_address) as store, psycopg.connect(postgresql_address.url) as worker:
        asked = []
        for few in (range(2), range(2, 152)):
            store_reports(worker, [threat(number) for number in few])
            worker.commit()
            rows = [threat(number, received_at=NOW + 1 + number / 1000, ignored=number) for number in few]
            with counted_waits(store) as waits:
                store.commit(Changes(threats=rows))
            asked.append(waits)
        times = [(NOW + 1 + number / 1000, number) for number in range(152)]
        assert stored(postgresql_address, "SELECT received_at, ignored FROM threat ORDER BY ignored") == times
        assert len(asked[1]) <= len(asked[0])


@contextmanager
def counted_waits(store: PeeweeStore) -> Iterator[list[None]]:
    """Count how often a store waits for answers of the server."""
    connection, waits = store._database.connection(), []
    wait = connection.wait

    def counted(*args: Any, **kwargs: Any) -> Any:
        waits.append(None)
        return wait(*args, **kwargs)

    connection.wait = counted
    try:
        yield waits
    finally:
        connection.wait = wait


@pytest.mark.parametrize(
    "changes",
    [
        Changes(threats=[threat(1), threat(2, agent_number=7)]),
        Changes(threats=[threat(1), threat(2, type="a\0b")]),
        Changes(threats=[threat(1), threat(2, document="\ud800")]),
        Changes(threats=[threat(1), threat(2, ignored=2**63)]),
        Changes(threats=[threat(1), threat(2, type=None)]),
        Changes(meta={"fits": "yes", "k": "a\0b"}),
        Changes(meta={"fits": "yes", "k": "\udfff"}),
    ],
    ids=["unknown-agent", "nul", "surrogate", "large", "null", "nul-in-meta", "surrogate-in-meta"],
)
def test_values_that_do_not_fit_are_rejected_whole(postgresql_address: DatabaseAddress, changes: Changes) -> None:
    """A batch with such a value writes nothing, and the next batch is written."""
    with opened(postgresql_address) as store:
        with pytest.raises(StoreRejected):
            store.commit(changes)
        assert (stored(postgresql_address), store.meta("fits")) == ([], None)
        store.commit(Changes(threats=[threat(1)]))
    assert stored(postgresql_address) == ["t-1"]


def test_the_audit_log_is_only_appended_to(postgresql_address: DatabaseAddress) -> None:
    """Nobody with the manager's rights changes an entry, empties the log, or deletes entries of the last 90 days."""
    entries = [AuditEntry(NOW - days * 86_400, "a", "b", "c", None, None, None, None, None) for days in (91, 89, 0)]
    with opened(postgresql_address) as store:
        store.commit(Changes(audit=entries))
    with psycopg.connect(postgresql_address.url, autocommit=True) as connection:
        for statement in ("UPDATE audit_entry SET actor = 'x'", "TRUNCATE audit_entry", "DELETE FROM audit_entry"):
            with pytest.raises(psycopg.errors.RestrictViolation, match="the audit log"):
                connection.execute(statement.encode())
        assert connection.execute(f"DELETE FROM audit_entry WHERE at < {NOW - 90 * 86_400}".encode()).rowcount == 1


def test_without_the_fences_consent_nothing_is_written(postgresql_address: DatabaseAddress) -> None:
    """The fence is asked at the beginning of each transaction, and its error ends the transaction."""
    may_write = True

    def fence() -> None:
        if not may_write:
            raise StoreUnavailable("another manager leads")

    with opened(postgresql_address, fence) as store:
        may_write = False
        for write in (
            store.begin,
            lambda: store.commit(Changes(threats=[threat(1)])),
            lambda: store.set_meta("key", "value"),
        ):
            with pytest.raises(StoreUnavailable, match="another manager leads"):
                write()
            store.abandon()
        assert (stored(postgresql_address), store.meta("key")) == ([], None)
        may_write = True
        store.begin()
        store.commit(Changes(threats=[threat(1)]))
    assert stored(postgresql_address) == ["t-1"]


def end_sessions(address: DatabaseAddress) -> None:
    """End the sessions of a database as a restart of the server does."""
    with psycopg.connect(address.url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


@pytest.mark.parametrize("has_begun", [True, False])
def test_a_batch_whose_connection_was_lost_is_written_by_the_next_commit(
    postgresql_address: DatabaseAddress, *, has_begun: bool
) -> None:
    """A connection that ended before the commit loses what was written on it; the batch is a value and is not lost."""
    changes = Changes(threats=[threat(1)])
    with opened(postgresql_address) as store:
        if has_begun:
            store.begin()
        end_sessions(postgresql_address)
        with pytest.raises(StoreUnavailable):
            store.commit(changes)
        assert stored(postgresql_address) == []
        store.commit(changes)
        assert store.known_reports([(1, "t-1")]) == {(1, "t-1"): bytes(16)}
    assert stored(postgresql_address) == ["t-1"]


def test_after_a_failed_query_in_a_transaction_nothing_of_it_is_committed(postgresql_address: DatabaseAddress) -> None:
    """PostgreSQL answers a commit of a failed transaction without an error; the store does not take that for one."""
    with opened(postgresql_address) as store:
        store.begin()
        with pytest.raises(DatabaseError):
            store._database.execute_sql("SELECT 1 FROM no_such_table")
        with pytest.raises(StoreUnavailable):
            store.commit(Changes())
        store.commit(Changes(threats=[threat(1)]))
        with pytest.raises(OperationalError, match="the transaction has failed"):
            commit_after_a_failed_query(store)
        assert store.meta("key") is None


def commit_after_a_failed_query(store: PeeweeStore) -> None:
    with store._database.atomic():
        store._statements.execute("meta.upsert", ("key", "value"))
        with suppress(DatabaseError):
            store._database.execute_sql("SELECT 1 FROM no_such_table")


def test_a_writer_that_stands_still_in_a_transaction_loses_it(postgresql_address: DatabaseAddress) -> None:
    """So a stopped process holds no other writer back; its batch is committed again when it goes on."""
    changes = Changes(threats=[threat(1)])
    with opened(postgresql_address) as store:
        store.begin()
        sessions = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        eventually(lambda: not stored(postgresql_address, sessions), what="the session has ended")
        with pytest.raises(StoreUnavailable):
            store.commit(changes)
        store.commit(changes)
    assert stored(postgresql_address) == ["t-1"]


@pytest.mark.parametrize("took_place", [True, False])
def test_a_commit_without_an_answer_is_not_repeated_and_not_lost(
    postgresql_address: DatabaseAddress,
    monkeypatch: pytest.MonkeyPatch,
    *,
    took_place: bool,
) -> None:
    """The connection ends between the request to commit and its answer: the next commit finds out, and writes once."""
    event = made_event("incident_opened")
    entry = AuditEntry(NOW, "a", "b", "c", None, None, None, None, None)
    changes = Changes(threats=[threat(1)], audit=[entry], history=[("ag-1", NOW, "e", "d")], events=[event])
    with opened(postgresql_address) as store:
        commit = store._database.commit

        def commit_and_lose_the_connection() -> None:
            if took_place:
                commit()
            store._database._state.conn.close()
            raise OperationalError("the connection is lost")

        monkeypatch.setattr(store._database, "commit", commit_and_lose_the_connection)
        with pytest.raises(StoreUnavailable):
            store.commit(changes)
        monkeypatch.undo()
        assert len(stored(postgresql_address)) == took_place
        store.commit(changes)
        store.commit(Changes(events=[following := made_event("incident_closed")]))
        assert (event.sequence, following.sequence) == (1, 2)
    for table in ("threat", "audit_entry", "agent_history"):
        assert stored(postgresql_address, f"SELECT count(*) FROM {table}") == [1]
    assert stored(postgresql_address, "SELECT sequence, name FROM event ORDER BY sequence") == [
        (1, "incident_opened"), (2, "incident_closed")
    ]  # fmt: skip


def test_commits_wait_for_the_disk_where_the_server_would_not(
    postgresql_cluster: Postgresql, postgresql_address: DatabaseAddress
) -> None:
    """A receipt promises a row that survives a crash, so a database's `synchronous_commit = off` is overridden."""
    name = postgresql_address.url.rsplit("/", 1)[1]
    postgresql_cluster.execute(f'ALTER DATABASE "{name}" SET synchronous_commit = off')
    with closing(open_writer(postgresql_address)) as database:
        assert database.execute_sql("SHOW synchronous_commit").fetchall() == [("on",)]


def test_a_crash_of_the_server_loses_no_committed_row() -> None:
    """A server that ends as in a crash has what was committed, and the store goes on with it once it runs again."""
    with Postgresql() as cluster, opened(cluster.create_migrated()) as store:
        store.commit(Changes(threats=[threat(1)]))
        cluster.kill()
        with pytest.raises(StoreUnavailable):
            store.commit(Changes(threats=[threat(2)]))
        cluster.start()
        store.commit(Changes(threats=[threat(3)]))
        assert store.known_reports([(1, f"t-{number}") for number in (1, 2, 3)]).keys() == {(1, "t-1"), (1, "t-3")}
