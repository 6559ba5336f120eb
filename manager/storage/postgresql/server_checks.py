"""Checks of a server before it is used: its version, its encoding, and that no pooler hands connections around."""

import secrets
from typing import Any

import psycopg

from manager.errors import SetupError
from manager.storage.postgresql.address import DatabaseAddress

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
        SetupError: it cannot be reached, does not do, or is behind a pooler that hands connections around.
    """
    try:
        with connected(address) as listening, connected(address) as telling:
            _require_version(address, telling)
            _require_encoding(address, telling)
            _require_own_connection(address, listening, telling)
    except psycopg.Error as error:
        raise SetupError(f"the database {address} cannot be opened: {str(error).strip()}") from error


def connected(address: DatabaseAddress) -> psycopg.Connection[Any]:
    """Return a connection of its own to the writable server, on which each statement is a transaction."""
    arguments: dict[str, Any] = {} if address.password is None else {"password": address.password}
    arguments.update(connect_timeout=5, target_session_attrs="read-write", application_name="panguard")
    return psycopg.connect(address.url, autocommit=True, **arguments)


def _require_version(address: DatabaseAddress, connection: psycopg.Connection[Any]) -> None:
    version = connection.info.server_version // 10_000
    if version < _LOWEST:
        raise SetupError(f"the server of {address} is PostgreSQL {version}; the store needs {_LOWEST} or newer")


def _require_encoding(address: DatabaseAddress, connection: psycopg.Connection[Any]) -> None:
    ((encoding,),) = connection.execute("SHOW server_encoding").fetchall()
    if encoding != _ENCODING:
        raise SetupError(
            f"the database {address} has the encoding {encoding}, which cannot hold every text: create it anew with "
            f"CREATE DATABASE … ENCODING '{_ENCODING}' TEMPLATE template0"
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
