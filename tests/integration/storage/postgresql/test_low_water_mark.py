"""The order of storing with several writers: nothing becomes visible below a low-water mark that was given out before.

Writers are real sessions. In the property test each is stopped after every step of a batch, and ended in each of the
ways in which a session ends; the oracle is the set of rows that a reader has seen below a mark.
"""

import random
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from manager.storage.postgresql.address import DatabaseAddress
from tests.support.examples import examples
from tests.support.waiting import eventually

pytestmark = pytest.mark.postgresql

WRITERS = 3
ALLOCATE = "SELECT allocate_sequences(%s)"
MARK = "SELECT low_water_mark()"
INSERT = "INSERT INTO stored (sequence) SELECT generate_series(%s::bigint, %s::bigint)"

# The body of `allocate_sequences` in pieces, so that other sessions act between them. The last is atomic by the inner
# lock; here it is one statement of a session whose writers take turns.
BOUND = """
SELECT pg_advisory_xact_lock_shared(CASE WHEN is_called THEN last_value + 1 ELSE last_value END) FROM threat_sequence
"""
MOVE_ON = "SELECT setval('threat_sequence', nextval('threat_sequence') + %s - 1) - %s + 1"


@pytest.fixture
def address(postgresql_address: DatabaseAddress) -> DatabaseAddress:
    with psycopg.connect(postgresql_address.url) as connection:
        connection.execute("CREATE TABLE stored (sequence bigint NOT NULL)")
    return postgresql_address


def one(connection: psycopg.Connection[Any], statement: str, *params: Any) -> Any:
    ((value,),) = connection.execute(statement, params or None).fetchall()  # type: ignore[arg-type]
    return value


class Reader:
    """Takes marks, and knows which rows it has seen up to each."""

    def __init__(self, address: DatabaseAddress) -> None:
        self.connection = psycopg.connect(address.url, autocommit=True)
        self.seen: dict[int, list[int]] = {}

    def read(self) -> int:
        """Take a mark, and check that no earlier one has lost or gained a row."""
        mark = int(one(self.connection, MARK))
        rows = [row for (row,) in self.connection.execute("SELECT sequence FROM stored ORDER BY sequence")]
        assert len(rows) == len(set(rows)), "two reports have one sequence"
        self.seen[mark] = [row for row in rows if row <= mark]
        for earlier, before in self.seen.items():
            assert [row for row in rows if row <= earlier] == before, f"a row appeared below the mark {earlier}"
        return mark


class Writer:
    """A session whose batch goes on step by step."""

    def __init__(self, address: DatabaseAddress) -> None:
        self._address = address
        self.connection = psycopg.connect(address.url)
        self._batch: Iterator[None] = iter(())

    def step(self, size: int) -> None:
        """Make the next step of a batch; begin another one after its end."""
        try:
            next(self._batch)
        except StopIteration:
            self._batch = self._steps(size)

    def _steps(self, size: int) -> Iterator[None]:
        self.connection.execute("SELECT 1")
        yield
        self.connection.execute(BOUND)
        yield
        first = one(self.connection, MOVE_ON, size, size)
        yield
        self.connection.execute(INSERT, (first, first + size - 1))
        yield
        self.connection.commit()

    def end(self, how: str, other: psycopg.Connection[Any]) -> None:
        """End the batch at this point: rolled back, cancelled, or with its session."""
        self._batch = iter(())
        pid = self.connection.info.backend_pid
        if how == "rollback":
            self.connection.rollback()
        elif how == "cancel":
            with suppress(psycopg.errors.QueryCanceled):
                self.connection.execute("SET LOCAL statement_timeout = '1ms'")
                # nothing waits for it: the server cancels the statement after the millisecond above
                self.connection.execute("SELECT pg_sleep(60)")
            self.connection.rollback()
        else:
            if how == "terminate":
                other.execute("SELECT pg_terminate_backend(%s)", (pid,))
            else:
                self.connection.close()
            gone = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s"
            eventually(lambda: one(other, gone, pid) == 0, what="the session is gone", pause=0.002)
            with suppress(psycopg.Error):
                self.connection.close()
            self.connection = psycopg.connect(self._address.url)


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("step"), st.integers(0, WRITERS - 1), st.integers(1, 3)),
        st.tuples(st.just("step"), st.integers(0, WRITERS - 1), st.integers(1, 3)),
        st.tuples(
            st.sampled_from(["rollback", "cancel", "terminate", "close"]), st.integers(0, WRITERS - 1), st.just(0)
        ),
        st.tuples(st.just("read"), st.just(0), st.just(0)),
    ),
    max_size=40,
)


def test_no_row_appears_below_a_mark(address: DatabaseAddress) -> None:
    """Whatever order the steps of several writers and their ends have, what was seen below a mark stays the same."""

    @settings(max_examples=examples(40), deadline=None, suppress_health_check=list(HealthCheck))
    @given(ACTIONS)
    def check(actions: list[tuple[str, int, int]]) -> None:
        reader, writers = Reader(address), [Writer(address) for _ in range(WRITERS)]
        reader.connection.execute("TRUNCATE stored")
        try:
            for action, number, size in actions:
                if action == "step":
                    writers[number].step(size)
                elif action == "read":
                    reader.read()
                else:
                    writers[number].end(action, reader.connection)
            for writer in writers:
                writer.end("rollback", reader.connection)
            highest = one(
                reader.connection, "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM threat_sequence"
            )
            assert reader.read() == highest, "with no writer the mark is the highest sequence"
        finally:
            for each in (reader, *writers):
                each.connection.close()

    check()


def test_the_mark_waits_for_the_oldest_block(address: DatabaseAddress) -> None:
    """A later block that is committed first does not raise the mark above an earlier one that is not."""
    with psycopg.connect(address.url) as slow, psycopg.connect(address.url) as fast:
        reader = Reader(address)
        assert reader.read() == 0
        assert one(slow, ALLOCATE, 5) == 1
        assert one(fast, ALLOCATE, 2) == 6
        fast.execute(INSERT, (6, 7))
        fast.commit()
        assert reader.read() == 0
        slow.execute(INSERT, (1, 5))
        assert reader.read() == 0
        slow.commit()
        assert reader.read() == 7
        reader.connection.close()


def test_writers_do_not_wait_for_each_other(address: DatabaseAddress) -> None:
    """A writer takes its block while another one is in the middle of its transaction."""
    with psycopg.connect(address.url) as one_writer, psycopg.connect(address.url) as other:
        assert one(one_writer, ALLOCATE, 1) == 1
        other.execute("SET lock_timeout = '1ms'")
        assert one(other, ALLOCATE, 1) == 2


def test_a_block_without_a_sequence_is_refused(address: DatabaseAddress) -> None:
    """A block of none would give its number out twice."""
    with psycopg.connect(address.url) as writer, pytest.raises(psycopg.errors.InvalidParameterValue):
        writer.execute(ALLOCATE, (0,))


def test_at_the_end_of_the_sequence_nothing_is_stored(address: DatabaseAddress) -> None:
    """A block beyond the end is refused, and its number is not given to another; a smaller one may still fit."""
    with psycopg.connect(address.url, autocommit=True) as admin:
        admin.execute("ALTER SEQUENCE threat_sequence MAXVALUE 10")
        assert one(admin, ALLOCATE, 8) == 1
        for _ in range(2):
            with pytest.raises(psycopg.DataError):
                one(admin, ALLOCATE, 5)
        assert one(admin, MARK) == 10
        with pytest.raises(psycopg.errors.SequenceGeneratorLimitExceeded):
            one(admin, ALLOCATE, 1)
        assert one(admin, MARK) == 10


def test_writers_that_are_killed_leave_no_lock(address: DatabaseAddress) -> None:
    """Sessions that are cancelled and terminated at any point of the function itself hold nobody up afterwards."""
    stop = threading.Event()
    failures: list[BaseException] = []
    stored = [0]

    def write(seed: int) -> None:
        chance = random.Random(seed)  # noqa: S311 -- only the order of events
        connection = psycopg.connect(address.url)
        while not stop.is_set():
            try:
                size = chance.randint(1, 5)
                first = one(connection, ALLOCATE, size)
                connection.execute(INSERT, (first, first + size - 1))
                connection.commit()
                stored[0] += 1
            except psycopg.Error:
                with suppress(psycopg.Error):
                    connection.rollback()
                if connection.closed:
                    connection = psycopg.connect(address.url)
            except BaseException as error:
                failures.append(error)
                raise
        connection.close()

    threads = [threading.Thread(target=write, args=(seed,)) for seed in range(WRITERS)]
    for thread in threads:
        thread.start()
    reader, chance = Reader(address), random.Random(7)  # noqa: S311 -- the same
    try:
        for _ in range(150):
            function = chance.choice(["pg_cancel_backend", "pg_cancel_backend", "pg_terminate_backend"])
            reader.connection.execute(
                f"SELECT {function}(pid) FROM pg_stat_activity WHERE datname = current_database()"  # type: ignore[arg-type]
                " AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1"
            )
            reader.read()
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
    assert failures == []
    assert stored[0] > 0
    assert one(reader.connection, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0
    assert reader.read() == one(reader.connection, "SELECT last_value FROM threat_sequence")
    reader.connection.close()
