"""Remedies for connections that PostgreSQL or the network refuses."""

import pytest

from manager.storage.postgresql.address import database_address
from manager.storage.postgresql.refusals import connection_refused

ADDRESS = database_address("postgresql://panguard@db.example/panguard")


@pytest.mark.parametrize(
    ("reason", "remedy"),
    [
        ("connection failed: fe_sendauth: no password supplied", "name a file"),
        ('FATAL:  password authentication failed for user "panguard"', "check the user"),
        ('FATAL:  no pg_hba.conf entry for host "192.0.2.1", user "panguard"', "pg_hba.conf"),
        ('FATAL:  database "panguard" does not exist', "CREATE DATABASE"),
        ("connection to server failed: session is read-only", "takes writes"),
        ('invalid URI query parameter: "x"', "correct the URL"),
        ("FATAL:  remaining connection slots are reserved", "max_connections"),
        ("connection failed: Connection refused\n\tIs the server running?", "check the host and the port"),
        ("failed to resolve host 'db.example'", "check the host and the port"),
        ("connection timeout expired", "check the host and the port"),
        ("root certificate file does not exist", "sslrootcert"),
        ("FATAL:  passwort-authentifizierung", "psql"),
    ],
)
def test_a_refused_connection_has_a_remedy_in_one_line(reason: str, remedy: str) -> None:
    """Each reason is followed by what to do, and an unknown one by how to find out."""
    sentence = str(connection_refused(ADDRESS, OSError(reason)))
    assert sentence.startswith("the database postgresql://panguard@db.example/panguard cannot be opened: ")
    assert remedy in sentence.rsplit("; ", 1)[1]
    assert "\n" not in sentence
