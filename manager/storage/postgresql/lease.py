"""The lease and the managers of a database: reading, taking, renewing, releasing, and the fence of a leader's writes.

The rules are those of `manager.domain.lease`.
"""

import secrets
from dataclasses import dataclass, field
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.conninfo import make_conninfo
from psycopg.errors import LockNotAvailable

from manager.domain.lease import LeaseRow
from manager.errors import StoreUnavailable
from manager.storage.postgresql.address import DatabaseAddress
from manager.storage.postgresql.schema_versions import newest_migration

_TIMELINE = "substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)"
"""The database's history: a promoted server has another one, and one that only recovers raises an error."""

_ROW = f"{_TIMELINE}, epoch, holder, beat"
_READ = f"SELECT {_ROW}, since FROM lease WHERE id = 1"  # noqa: S608 -- no value of others
_TAKE = f"""
UPDATE lease SET epoch = epoch + 1, holder = %(taker)s, beat = beat + 1,
    since = extract(epoch FROM clock_timestamp())
WHERE id = 1 AND epoch = %(epoch)s AND holder IS NOT DISTINCT FROM %(holder)s AND beat = %(beat)s
    AND {_TIMELINE} = %(timeline)s
RETURNING {_ROW}
"""  # noqa: S608 -- the same
_RENEW = f"""
UPDATE lease SET beat = beat + 1
WHERE id = 1 AND epoch = %(epoch)s AND holder = %(holder)s AND beat >= %(beat)s AND {_TIMELINE} = %(timeline)s
RETURNING {_ROW}
"""  # noqa: S608 -- the same
_RELEASE = "UPDATE lease SET holder = NULL, beat = beat + 1 WHERE id = 1 AND epoch = %(epoch)s AND holder = %(holder)s"
_FENCE = f"""
SELECT set_config('application_name', %(session)s, true) FROM lease
WHERE id = 1 AND epoch = %(epoch)s AND holder = %(holder)s AND {_TIMELINE} = %(timeline)s
FOR KEY SHARE
"""  # noqa: S608 -- the same
_END_SESSIONS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND usename = current_user AND application_name = %s AND pid <> pg_backend_pid()
"""
_ANNOUNCE = """
INSERT INTO manager (id, hostname, address, broker, version, features, role, migration, seen_at)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, extract(epoch FROM clock_timestamp()))
ON CONFLICT (id) DO UPDATE SET address = excluded.address, role = excluded.role, seen_at = excluded.seen_at
"""
_MEMBERS = """
SELECT id, hostname, address, broker, version, features, role,
    extract(epoch FROM clock_timestamp()) - seen_at, migration
FROM manager ORDER BY hostname, id
"""
_OLDEST = "SELECT oldest FROM schema_compatibility WHERE id = 1"
_FORGET = "DELETE FROM manager WHERE abs(extract(epoch FROM clock_timestamp()) - seen_at) > %s"
_KEPT = 3600.0
"""Seconds after which a manager that is not heard of any more is forgotten."""

_SESSION = (
    "SET timezone = 'UTC'; SET statement_timeout = 3000; SET lock_timeout = 1000;"
    " SET tcp_user_timeout = 3000; SET tcp_keepalives_idle = 3; SET tcp_keepalives_interval = 1;"
    " SET tcp_keepalives_count = 3"
)
_LINK: dict[str, str | int] = {
    "connect_timeout": 3,
    "tcp_user_timeout": 3000,
    "keepalives": 1,
    "keepalives_idle": 3,
    "keepalives_interval": 1,
    "keepalives_count": 3,
    "application_name": "panguard lease",
}


_ANSWER = 5.0
"""Seconds that an answer is waited for; the server ends a statement after three."""

_LOOK_EVERY = 0.1

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Member:
    """A manager of the database.

    Attributes:
        id: One start of one process.
        hostname: Its host.
        address: The URL of its HTTP door for the other managers.
        broker: The broker that it uses, `embedded` or a URL.
        version: Its release.
        features: What this release can do that an earlier one cannot.
        role: `leader`, `standby` or `ingest`.
        age: Seconds since it was heard of, on the database's clock.
        migration: The number of the newest migration that it knows; 2 for a release that does not state it.
    """

    id: str
    hostname: str
    address: str
    broker: str
    version: str
    features: tuple[str, ...]
    role: str
    age: float = 0.0
    migration: int = field(default_factory=newest_migration)


class LeaseTable:
    """The tables `lease` and `manager`, on a connection of their own that is opened when it is needed.

    Not thread-safe. Every method raises StoreUnavailable where the database does not answer: then a change may have
    been made, or may still be made.

    Args:
        address: the server, the database and the user.
    """

    def __init__(self, address: DatabaseAddress) -> None:
        self._address = address
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None

    def read(self) -> tuple[LeaseRow, float]:
        """Return the lease, and since when its holder has it, in seconds since 1970 on the database's clock."""
        rows = self._run(_READ)
        if not rows:
            raise StoreUnavailable("the database has no lease: its row was deleted")
        return LeaseRow(*rows[0][:4]), float(rows[0][4])

    def take(self, seen: LeaseRow, taker: str) -> LeaseRow | None:
        """Take the lease if it is still as it was seen; return it, or None.

        A session of the former holder that has the key locked is ended, so that the next attempt succeeds.
        """
        try:
            rows = self._run(_TAKE, {**seen._asdict(), "taker": taker})
        except _LockedError:
            self._run(_END_SESSIONS, (session_name(seen.holder or ""),))
            return None
        return LeaseRow(*rows[0]) if rows else None

    def renew(self, held: LeaseRow) -> LeaseRow | None:
        """Renew the lease; return it, or None if it is lost: taken, released, or of another history of the database."""
        rows = self._run(_RENEW, held._asdict())
        return LeaseRow(*rows[0]) if rows else None

    def release(self, held: LeaseRow) -> None:
        """Release the lease, so that another manager takes it at once; one that is lost stays as it is."""
        self._run(_RELEASE, held._asdict())

    def announce(self, member: Member) -> None:
        """Write that a manager lives, and forget those that are long gone."""
        row = (member.id, member.hostname, member.address, member.broker, member.version, list(member.features))
        self._run(_ANNOUNCE, (*row, member.role, member.migration))
        self._run(_FORGET, (_KEPT,))

    def withdraw(self, member_id: str) -> None:
        """Delete a manager that stops."""
        self._run("DELETE FROM manager WHERE id = %s", (member_id,))

    def members(self) -> list[Member]:
        """Return all managers that were heard of within the last hour."""
        return [
            Member(each, hostname, address, broker, version, tuple(features), role, float(age), migration)
            for each, hostname, address, broker, version, features, role, age, migration in self._run(_MEMBERS)
        ]

    def oldest_migration(self) -> int:
        """Return the number of the oldest migration that a release must know to work with the schema."""
        return next((int(oldest) for (oldest,) in self._run(_OLDEST)), 0)

    def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _run(self, statement: str, params: Any = ()) -> list[tuple[Any, ...]]:
        try:
            connection = self._connection
            if connection is None or connection.closed:
                self._connection = connection = self._connect()
            cursor = connection.execute(statement.encode(), params)
            return cursor.fetchall() if cursor.description else []
        except LockNotAvailable as error:
            raise _LockedError(str(error)) from error
        except psycopg.Error as error:
            self.close()
            raise StoreUnavailable(f"the lease cannot be read or written: {error}") from error

    def _connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        password: dict[str, str] = {} if self._address.password is None else {"password": self._address.password}
        connection = _BoundedConnection.connect(make_conninfo(self._address.url, **_LINK, **password), autocommit=True)
        connection.execute(_SESSION)
        return connection


class _BoundedConnection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that waits for each answer for a bounded time: a proxy can hold one open whose server is gone."""

    def wait(self, gen: PQGen[T], interval: float = _LOOK_EVERY, timeout: float | None = _ANSWER) -> T:
        """Wait for an answer; raise OperationalError if none comes in time."""
        return super().wait(gen, interval, timeout)


class _LockedError(StoreUnavailable):
    """The key of the lease is locked by a transaction of its holder."""


_ID_OF_HOST = 37
"""Characters of a hostname in a manager's id: PostgreSQL cuts off a session's name after 63."""


def new_member_id(hostname: str) -> str:
    """Return the id of a manager's start: two of one host differ, and so do the names of their sessions."""
    return f"{hostname[:_ID_OF_HOST]}-{secrets.token_hex(8)}"


def session_name(holder: str) -> str:
    """Return the name that a leader's sessions have within their transactions."""
    return f"panguard {holder}"[:63]


class Fence:
    """Refuses the transactions of a manager that does not hold the lease any more.

    Args:
        held: the lease as it was taken.
    """

    def __init__(self, held: LeaseRow) -> None:
        self._params = {**held._asdict(), "session": session_name(held.holder or "")}

    def check(self, connection: psycopg.Connection[Any]) -> None:
        """Lock the lease for the transaction that has begun on a connection.

        Raises:
            StoreUnavailable: another manager has taken the lease, or the database has another history.
        """
        if connection.execute(_FENCE.encode(), self._params).fetchone() is None:
            raise StoreUnavailable("another manager of this database leads now; nothing was written")
