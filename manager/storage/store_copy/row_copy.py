"""Rows into a table of PostgreSQL by COPY, and the first row of a piece that the server refuses."""

from collections.abc import Sequence
from typing import Any

import psycopg

from manager.storage.store_copy.copied_tables import CopiedTable, Row

_UNFIT = ("22", "23", "54")
"""Classes of errors that say that a row does not fit: data exceptions, constraints, limits of the program."""

Connection = psycopg.Connection[Any]


def copy_rows(connection: Connection, table: CopiedTable, rows: Sequence[Row]) -> None:
    """Write rows, in the transaction of the caller.

    Raises:
        psycopg.Error: as the database reports it.
    """
    with connection.cursor() as cursor, cursor.copy(table.copy_sql()) as copy:
        for row in rows:
            copy.write_row(row)


def says_unfit(error: psycopg.Error) -> bool:
    """Return whether an error says that a row does not fit, and not that the server cannot take any."""
    return isinstance(error, psycopg.DataError) or (error.sqlstate or "")[:2] in _UNFIT


def first_unfit(connection: Connection, table: CopiedTable, rows: Sequence[Row]) -> tuple[Row, str]:
    """Return the first row that does not fit, and the server's words; found by halving, and nothing is written.

    Args:
        connection: outside a transaction.
        table: the table.
        rows: rows that do not fit as a whole.

    Raises:
        psycopg.Error: the server cannot take any.
    """
    low, high = 0, len(rows)
    while high - low > 1:  # rows[:low] fit, rows[:high] do not
        middle = (low + high) // 2
        if _refusal(connection, table, rows[:middle]) is None:
            low = middle
        else:
            high = middle
    return rows[low], _refusal(connection, table, rows[: low + 1]) or "it does not fit"


def _refusal(connection: Connection, table: CopiedTable, rows: Sequence[Row]) -> str | None:
    try:
        with connection.transaction(force_rollback=True):
            copy_rows(connection, table, rows)
    except psycopg.Error as error:
        if not says_unfit(error):
            raise
        return error.diag.message_primary or str(error)
    return None
