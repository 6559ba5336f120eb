"""Connections to PostgreSQL, by psycopg 3: settings of a session, and reconnection after a lost connection."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from peewee import (  # type: ignore[attr-defined]  # the stubs leave the wrapper out that playhouse uses
    DatabaseError,
    InterfaceError,
    OperationalError,
    PostgresqlDatabase,
    __exception_wrapper__,
)
from psycopg import errors
from psycopg.abc import PQGen
from psycopg.pq import TransactionStatus

from manager.storage.postgresql.address import DatabaseAddress
from manager.storage.postgresql.refusals import connection_refused

driver_errors = __exception_wrapper__
"""Translates psycopg's errors to peewee's, where its connection is used directly."""

WORKER_IDLE = 5.0
"""Seconds after which PostgreSQL ends an ingest worker that stands still in a transaction, as a stopped one does. Its
open block holds back the decisions on everybody's reports."""

LEADER_IDLE = 60.0
"""The same for the leader. It carries out commands in its transactions, and one that changes the policies of a large
fleet takes seconds. Where the leader is stopped, the manager that takes the lease ends its sessions."""

_CONNECTING = {  # a peer that vanished is noticed within about ten seconds, in both directions
    "connect_timeout": 5,
    "tcp_user_timeout": 5_000,
    "keepalives": 1,
    "keepalives_idle": 3,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "target_session_attrs": "read-write",  # of several servers in the URL the one that is not a replica
    "application_name": "panguard",
}
_PREPARED = 300
"""The number of statements that a session keeps planned."""

_SESSION = {
    "timezone": "'UTC'",
    "jit": "off",  # the planner's estimates of the threats that no projection has are high, and compiling takes 0.5 s
    "max_parallel_workers_per_gather": 0,  # the same: starting workers takes longer than these queries do
    "plan_cache_mode": "force_generic_plan",  # planning for all partitions takes longer than most statements do
    "tcp_user_timeout": 5_000,
    "tcp_keepalives_idle": 3,
    "tcp_keepalives_interval": 2,
    "tcp_keepalives_count": 3,
}
_WRITING = {**_SESSION, "lock_timeout": 5_000}
_READING = {**_SESSION, "default_transaction_read_only": "on", "statement_timeout": 30_000}
_MIGRATING = _SESSION

_ANSWER = 300.0
"""Seconds that an answer is waited for, longer than statements take on a machine under load. A proxy can hold a
connection open whose server is gone, so that the system never finds it lost. Migrations wait without a bound."""

_LOOK_EVERY = 0.1

T = TypeVar("T")


class PostgresqlStore(PostgresqlDatabase):
    """A peewee database on psycopg 3 that connects anew when a connection was lost outside a transaction.

    Within a transaction a lost connection is an error: what was written before it is gone.

    Args:
        address: the server, the database and the user.
        settings: parameters that each session sets.
        answer: seconds that an answer is waited for; None without a bound.
        arguments: those of peewee's database.
    """

    _state: Any

    def __init__(
        self, address: DatabaseAddress, settings: dict[str, Any], *, answer: float | None = None, **arguments: Any
    ) -> None:
        self.address = address
        self._answer = answer
        self._settings = "; ".join(f"SET {name} = {value}" for name, value in settings.items())
        if address.password is not None:
            arguments["password"] = address.password
        arguments.update(_CONNECTING, prefer_psycopg3=True, encoding="UTF8")
        super().__init__(address.url, **arguments)
        self.fence: Callable[[], None] | None = None
        """Called at the beginning of each transaction; raises an error if this process may not write any more."""
        self._is_bound = False
        """Whether a statement makes sense on the present connection alone: it begins a transaction, or commits one."""

    def _initialize_connection(self, conn: Any) -> None:
        if self._answer is not None:
            _bound_answers(conn, self._answer)
        conn.execute(self._settings)
        conn.prepare_threshold, conn.prepared_max = 1, _PREPARED
        if conn.execute("SHOW synchronous_commit").fetchone() == ("off",):  # a receipt promises a durable row
            conn.execute("SET synchronous_commit = on")

    def begin(self, _mode: str | None = None) -> None:
        """Begin a transaction and pass the fence; there is no mode in which PostgreSQL locks the database.

        Without the fence's consent the transaction ends, so that nothing is written outside one.
        """
        self._connect_again_if_lost()
        self._is_bound = True
        try:
            super().begin()
            if self.fence is not None:
                with driver_errors:
                    self.fence()
        except BaseException:
            with suppress(DatabaseError, InterfaceError):
                self.rollback()
            raise
        finally:
            self._is_bound = False

    def commit(self) -> None:
        """Commit the transaction.

        On a new connection there would be none, and one that has failed would be rolled back, both without an error.

        Raises:
            OperationalError: the transaction has failed, or its connection was lost.
        """
        if self._state.conn.info.transaction_status != TransactionStatus.INTRANS:
            raise OperationalError("the transaction has failed")
        self._is_bound = True
        try:
            super().commit()
        finally:
            self._is_bound = False

    def cursor(self, named_cursor: Any = None) -> Any:
        """Return a cursor, on a new connection if the last one was lost outside a transaction."""
        self._connect_again_if_lost()
        return super().cursor(named_cursor)  # type: ignore[no-untyped-call]

    def connection(self) -> Any:
        """Return the driver's connection, a new one if the last one was lost outside a transaction."""
        self._connect_again_if_lost()
        return super().connection()  # type: ignore[no-untyped-call]

    def _connect_again_if_lost(self) -> None:
        state = self._state
        if not state.closed and state.conn.closed and not state.transactions and not self._is_bound:
            state.reset()


def open_writer(address: DatabaseAddress, idle: float = WORKER_IDLE) -> PostgresqlStore:
    """Open the writer's database.

    Args:
        address: the server, the database and the user.
        idle: seconds that the process may let pass between two statements of a transaction.

    Raises:
        SetupError: the server cannot be reached, or refuses the user.
    """
    settings = {**_WRITING, "idle_in_transaction_session_timeout": int(idle * 1000)}
    return _connected(PostgresqlStore(address, settings, answer=_ANSWER, thread_safe=False))


def open_postgresql_reader(address: DatabaseAddress) -> PostgresqlStore:
    """Return a read-only database with one connection for each thread.

    Raises:
        SetupError: the server cannot be reached, or refuses the user.
    """
    return _connected(PostgresqlStore(address, _READING, answer=_ANSWER, autoconnect=True))


@contextmanager
def migrating(address: DatabaseAddress) -> Iterator[PostgresqlStore]:
    """Open a database without limits of time, for migrations, and close it at the end.

    Raises:
        SetupError: the server cannot be reached, or refuses the user.
    """
    database = _connected(PostgresqlStore(address, _MIGRATING, thread_safe=False))
    try:
        yield database
    finally:
        database.close()


def _bound_answers(conn: Any, answer: float) -> None:
    """Have a connection close, with an OperationalError, where an answer does not come in so many seconds."""
    wait = conn.wait

    def bounded(gen: PQGen[T], interval: float = _LOOK_EVERY, timeout: float | None = None) -> T:
        try:
            result: T = wait(gen, interval, answer if timeout is None else timeout)
        except errors._WaitTimeout as error:  # noqa: SLF001 -- psycopg raises it and exports no other name
            if timeout is not None:
                raise
            conn.close()
            raise errors.OperationalError(f"no answer within {answer:g} s") from error
        return result

    conn.wait = bounded


def _connected(database: PostgresqlStore) -> PostgresqlStore:
    try:
        database.connect(reuse_if_open=True)
    except (DatabaseError, InterfaceError) as error:
        raise connection_refused(database.address, error) from error
    return database
