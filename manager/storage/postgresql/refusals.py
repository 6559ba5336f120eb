"""Errors of a connection that PostgreSQL or the network refuses, each with its remedy."""

from manager.errors import SetupError
from manager.storage.postgresql.address import DatabaseAddress

_REMEDIES = (
    (
        "no password supplied",
        "name a file with the password by --database-password-file, or put the password into libpq's password file",
    ),
    (
        "authentication failed",
        "check the user in the URL, and the password in the file of --database-password-file or in libpq's",
    ),
    ("pg_hba.conf", "allow this user and this host in the server's pg_hba.conf, and have the server read it again"),
    (
        '" does not exist',  # a missing user fails as its authentication does
        "check the name in the URL, or make the database: CREATE DATABASE … OWNER … ENCODING 'UTF8' TEMPLATE template0",
    ),
    ("read-only", "name the server that takes writes: this one is a replica, or read-only by its settings"),
    ("invalid URI", "correct the URL: postgresql://USER@HOST:PORT/NAME"),
    ("connection slots", "raise max_connections of the server, or end connections that are not needed"),
    ("too many connections", "raise the limit of connections of the user or the database"),
    ("certificate", "check sslmode, sslrootcert and the host in the URL, and the server's certificate"),
)
"""Parts of messages of libpq and of servers that speak English, and what to do; the first that fits counts."""

_REACH = "check the host and the port in the URL, and that the server runs and listens there"
_UNKNOWN = "see what `psql` with the same URL says, and what the server's log says"
_NO_ANSWER = ("refused", "resolve", "timeout", "timed out", "unreachable", "No route", "No such file", "closed")


def connection_refused(address: DatabaseAddress, error: Exception) -> SetupError:
    """Return the error for a connection that could not be made: the reason in one line, and its remedy."""
    reason = " ".join(str(error).split())
    return SetupError(f"the database {address} cannot be opened: {reason}; {_remedy(reason)}")


def _remedy(reason: str) -> str:
    for part, remedy in _REMEDIES:
        if part in reason:
            return remedy
    return _REACH if any(part in reason for part in _NO_ANSWER) else _UNKNOWN
