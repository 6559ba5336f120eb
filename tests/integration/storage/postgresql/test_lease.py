"""The lease in PostgreSQL: compare-and-set, the fence of a leader's transactions, fail-over, lost answers."""

import random
import threading
from collections.abc import Iterator

import psycopg
import pytest

from manager.domain.lease import LeaseRow
from manager.errors import StoreUnavailable
from manager.storage.postgresql.address import DatabaseAddress
from manager.storage.postgresql.lease import Fence, LeaseTable, Member
from tests.support.lease_history import Operation, is_linearizable
from tests.support.postgresql import Postgresql
from tests.support.tcp_proxy import TcpProxy

pytestmark = pytest.mark.postgresql


@pytest.fixture
def lease(postgresql_address: DatabaseAddress) -> Iterator[LeaseTable]:
    table = LeaseTable(postgresql_address)
    yield table
    table.close()


def taken(lease: LeaseTable, taker: str) -> LeaseRow:
    """Return the lease after `taker` took it."""
    row = lease.take(lease.read()[0], taker)
    assert row is not None
    return row


def test_the_lease_is_taken_only_as_it_was_seen(lease: LeaseTable) -> None:
    """Of two managers that saw the same row one gets it; a renewal in between spoils the taking."""
    seen, _ = lease.read()
    mine = lease.take(seen, "a")
    assert mine == LeaseRow(seen.timeline, 1, "a", 1)
    assert lease.take(seen, "b") is None
    assert mine is not None
    renewed = lease.renew(mine)
    assert renewed == mine._replace(beat=2)
    assert lease.take(mine, "b") is None
    assert lease.take(renewed, "b") is not None
    assert lease.renew(renewed) is None


def test_a_release_is_of_its_own_epoch(lease: LeaseTable) -> None:
    """A release that arrives late leaves the successor's lease alone."""
    first = taken(lease, "a")
    second = taken(lease, "b")
    lease.release(first)
    assert lease.read()[0] == second
    lease.release(second)
    assert lease.read()[0].holder is None
    assert lease.renew(second) is None


def test_a_lost_answer_of_a_renewal_is_no_loss(lease: LeaseTable) -> None:
    """A renewal that was carried out unnoticed does not end the leadership; a beat that went back does."""
    mine = taken(lease, "a")
    assert lease.renew(mine) is not None
    again = lease.renew(mine)
    assert again is not None
    assert again.beat == mine.beat + 2
    assert lease.renew(again._replace(beat=again.beat + 1)) is None


def test_another_history_of_the_database_ends_a_leadership(lease: LeaseTable) -> None:
    """A row that was seen or held before a fail-over is good for nothing after it."""
    mine = taken(lease, "a")
    before = mine._replace(timeline="000000FF")
    assert lease.renew(before) is None
    assert lease.take(before, "b") is None


def test_a_transaction_of_a_former_leader_is_refused(lease: LeaseTable, postgresql_address: DatabaseAddress) -> None:
    """The fence lets the holder through and nobody else; a renewal does not wait for the transaction."""
    mine = taken(lease, "a")
    with psycopg.connect(postgresql_address.url) as writer:
        Fence(mine).check(writer)
        assert lease.renew(mine) is not None
        writer.commit()
        Fence(mine).check(writer)
        writer.commit()
        taken(lease, "b")
        with pytest.raises(StoreUnavailable, match="another manager of this database leads now"):
            Fence(mine).check(writer)
        writer.rollback()
        with pytest.raises(StoreUnavailable, match="another manager"):
            Fence(lease.read()[0]._replace(timeline="000000FF")).check(writer)


def test_taking_waits_for_the_open_transaction(lease: LeaseTable, postgresql_address: DatabaseAddress) -> None:
    """An epoch begins when the last transaction of the one before has ended, by its commit."""
    mine = taken(lease, "a")
    seen: list[LeaseRow | None] = []
    other = LeaseTable(postgresql_address)
    with psycopg.connect(postgresql_address.url) as writer:
        Fence(mine).check(writer)
        writer.execute("INSERT INTO meta (key, value) VALUES ('written by', 'a')")
        thread = threading.Thread(target=lambda: seen.append(other.take(mine, "b")))
        thread.start()
        thread.join(0.3)
        assert not seen
        writer.commit()
        thread.join(60)
    other.close()
    assert seen
    assert seen[0] is not None
    assert seen[0].epoch == mine.epoch + 1


def test_sessions_of_a_stopped_leader_are_ended(lease: LeaseTable, postgresql_address: DatabaseAddress) -> None:
    """A leader that stands still in a transaction does not keep the lease: its session is ended, nothing is written."""
    mine = taken(lease, "a")
    with psycopg.connect(postgresql_address.url, autocommit=False) as writer:
        Fence(mine).check(writer)
        writer.execute("INSERT INTO meta (key, value) VALUES ('written by', 'a')")
        assert lease.take(mine, "b") is None
        assert lease.take(mine, "b") is not None
        with pytest.raises(psycopg.OperationalError):
            writer.execute("SELECT 1")
    with psycopg.connect(postgresql_address.url) as reader:
        assert reader.execute("SELECT 1 FROM meta WHERE key = 'written by'").fetchone() is None


def test_managers_are_announced_and_withdrawn(lease: LeaseTable) -> None:
    """The table of managers has what each says of itself, and how long ago."""
    one = Member("m1", "host-1", "http://host-1:8443", "mqtt://broker", "0.1.0", ("threats.batch",), "standby")
    lease.announce(one)
    lease.announce(one)
    (found,) = lease.members()
    assert 0 <= found.age < 60
    assert Member(**{name: getattr(found, name) for name in Member.__slots__ if name != "age"}) == one
    lease.withdraw("m1")
    assert lease.members() == []


def test_a_connection_that_is_held_open_is_given_up(
    postgresql_cluster: Postgresql, postgresql_address: DatabaseAddress
) -> None:
    """Behind a proxy that carries nothing any more a call ends with an error, and the next one has a new connection."""
    with TcpProxy(postgresql_cluster.port) as road:
        url = postgresql_address.url.replace(f":{postgresql_cluster.port}/", f":{road.port}/")
        lease = LeaseTable(DatabaseAddress(url))
        assert lease.read()[0].epoch == 0
        with road.holding(to_server=False, to_client=True), pytest.raises(StoreUnavailable):
            lease.read()
        assert lease.read()[0].epoch == 0
        lease.close()


class Client:
    """A manager of the history: it takes, renews and releases at random, and writes what it knows of each call."""

    def __init__(self, name: str, address: DatabaseAddress, history: list[Operation], seed: int) -> None:
        self.name = name
        self._table = LeaseTable(address)
        self._history = history
        self._random = random.Random(seed)  # noqa: S311 -- no secret
        self._life = 0

    def run(self) -> None:
        held: LeaseRow | None = None
        for _ in range(60):
            held = self._step(held)
        self._table.close()

    def _step(self, held: LeaseRow | None) -> LeaseRow | None:
        if held is None:
            seen = self._call("read", None, lambda: self._table.read()[0])
            if seen is None or self._random.random() < 0.5:
                return None
            self._life += 1
            holder = f"{self.name}.{self._life}"
            return self._call("take", seen._replace(holder=seen.holder), lambda: self._table.take(seen, holder), holder)
        if self._random.random() < 0.1:
            self._call("release", held, lambda: self._table.release(held))
            return None
        return self._call("renew", held, lambda: self._table.renew(held))

    def _call(self, kind: str, given: LeaseRow | None, function: object, holder: str = "") -> LeaseRow | None:
        operation = Operation.begin(kind, given, holder)
        self._history.append(operation)
        try:
            operation.end(function())  # type: ignore[operator]
        except StoreUnavailable:
            operation.lose()
        return operation.result


def test_the_history_of_several_managers_is_linearizable(
    postgresql_cluster: Postgresql, postgresql_address: DatabaseAddress
) -> None:
    """Whatever answers are lost, the calls have an order in which one row explains every result."""
    seed = random.randrange(2**32)  # noqa: S311 -- no secret
    history: list[Operation] = []
    clients = [Client(f"m{number}", postgresql_address, history, seed + number) for number in range(3)]
    threads = [threading.Thread(target=client.run) for client in clients]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        postgresql_cluster.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = %s AND application_name = 'panguard lease' AND random() < 0.1",
            params=(postgresql_address.url.rsplit("/", 1)[1],),
        )
        threads[0].join(0.02)
    assert is_linearizable(history), f"seed {seed}"
    assert sum(each.kind == "take" and each.result is not None for each in history) > 3


def test_the_checker_refuses_a_lease_with_two_holders() -> None:
    """Two takings of one row, and a renewal after another's taking was read, have no order."""
    row = LeaseRow("1", 0, None, 0)
    first = Operation("take", row, "a", 1, 2, LeaseRow("1", 1, "a", 1))
    assert is_linearizable([first], row)
    assert not is_linearizable([first, Operation("take", row, "b", 3, 4, LeaseRow("1", 1, "b", 1))], row)
    stolen = Operation("take", LeaseRow("1", 1, "a", 1), "b", 3, None)
    renewed = Operation("renew", LeaseRow("1", 1, "a", 1), "", 6, 7, LeaseRow("1", 1, "a", 2))
    assert is_linearizable([first, stolen, renewed], row)
    read = Operation("read", None, "", 4, 5, LeaseRow("1", 2, "b", 2))
    assert not is_linearizable([first, stolen, read, renewed], row)
