"""Checks of a server before it is used: version, encoding, the user's rights, and that no pooler is in between."""

import secrets
from typing import Any

import psycopg

from manager.errors import SetupError
from manager.storage.postgresql.address import DatabaseAddress
from manager.storage.postgresql.refusals import connection_refused

_LOWEST = 13
_ENCODING = "UTF8"
POOLER = (
    "{} is behind a pooler that shares connections between transactions, such as PgBouncer in transaction mode:"
    " notifications do not arrive there; name the server itself, or a pool in session mode"
)
_CHECK = "panguard_check"
_WAIT = 3.0
"""Seconds within which a notification arrives on a connection of one's own."""


def require_usable(address: DatabaseAddress) -> None:
    """Check a server.

    Raises:
        SetupError: it cannot be reached, does not do, does not let the user make tables, or is behind a pooler that
            hands connections around.
    """
    try:
        with connected(address) as listening, connected(address) as telling:
            _require_version(address, telling)
            _require_encoding(address, telling)
            _require_rights(address, telling)
            _require_own_connection(address, listening, telling)
    except psycopg.Error as error:
        raise connection_refused(address, error) from error


def connected(address: DatabaseAddress) -> psycopg.Connection[Any]:
    """Return a connection of its own to the writable server, on which each statement is a transaction."""
    arguments: dict[str, Any] = {} if address.password is None else {"password": address.password}
    arguments.update(connect_timeout=5, target_session_attrs="read-write", application_name="panguard")
    return psycopg.connect(address.url, autocommit=True, **arguments)


def _require_version(address: DatabaseAddress, connection: psycopg.Connection[Any]) -> None:
    version = connection.info.server_version // 10_000
    if version < _LOWEST:
        raise SetupError(
            f"the server of {address} is PostgreSQL {version}; the store needs {_LOWEST} or newer:"
            " upgrade the server, or name another"
        )


def _require_encoding(address: DatabaseAddress, connection: psycopg.Connection[Any]) -> None:
    ((encoding,),) = connection.execute("SHOW server_encoding").fetchall()
    if encoding != _ENCODING:
        raise SetupError(
            f"the database {address} has the encoding {encoding}, which cannot hold every text: create it anew with "
            f"CREATE DATABASE … ENCODING '{_ENCODING}' TEMPLATE template0"
        )


def _require_rights(address: DatabaseAddress, connection: psycopg.Connection[Any]) -> None:
    """Check that the user may make tables, and owns those that are there: migrations and partitions need both."""
    ((user, database, schema, may_create),) = connection.execute(
        "SELECT current_user, current_database(), current_schema(),"
        " coalesce(has_schema_privilege(current_schema(), 'CREATE'), false)"
    ).fetchall()
    if not may_create:
        where = "in any schema of its search_path" if schema is None else f"in the schema {schema}"
        raise SetupError(
            f"the user {user} may not make tables {where} of the database {address}: give it the database by"
            f' ALTER DATABASE "{database}" OWNER TO "{user}", or name the user that owns it'
        )
    owners = connection.execute(
        "SELECT tableowner FROM pg_tables WHERE schemaname = current_schema() AND tablename = 'schema_migration'"
        " AND NOT pg_has_role(tableowner, 'USAGE')"
    ).fetchall()
    for (owner,) in owners:
        raise SetupError(
            f"the tables in the database {address} belong to {owner}, not to {user}: name {owner} in the URL, or give"
            f' each table to {user} by ALTER TABLE … OWNER TO "{user}"'
        )


def _require_own_connection(
    address: DatabaseAddress, listening: psycopg.Connection[Any], telling: psycopg.Connection[Any]
) -> None:
    """Check that a notification reaches a connection that stands still.

    A pooler in transaction mode takes the server's connection away after each transaction: LISTEN succeeds there, and
    hears nothing.
    """
    channel = f"{_CHECK}_{secrets.token_hex(8)}"
    listening.execute(f"LISTEN {channel}".encode())
    listened = [name for (name,) in listening.execute("SELECT pg_listening_channels()").fetchall()]
    telling.execute("SELECT pg_notify(%s, '')", (channel,))
    if channel not in listened or not list(listening.notifies(timeout=_WAIT, stop_after=1)):
        raise SetupError(POOLER.format(address))
    listening.execute("UNLISTEN *")
