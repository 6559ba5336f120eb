"""Copies a SQLite store into a PostgreSQL database in steps, and compares both."""

from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import zip_longest
from typing import NamedTuple

from manager.errors import SetupError
from manager.storage.store_copy.copied_tables import COPIED_TABLES, CopiedTable, Row, RowsDigest, RowUnfit
from manager.storage.store_copy.postgresql_target import PostgresqlTarget, TableProgress
from manager.storage.store_copy.sqlite_source import SqliteSource

_ROWS = 5_000
_SIZE = 8 * 1024 * 1024
"""A step has at most so many rows, and ends with the row that makes it larger than so many characters and bytes."""

_NAMED = 20
_LISTED = 1000


class TableCopy(NamedTuple):
    """A table that is equal on both sides: its name, its number of rows, and their digest."""

    name: str
    rows: int
    digest: str


Watch = Callable[[str, int], None]
"""Called with `rows` and their number, then with `checked`, `copied` or `compared` and the number of those rows."""


class RowCheck(NamedTuple):
    """The rows that PostgreSQL cannot hold as they are.

    Attributes:
        unfit: Those that stand in the way of a copy, the first 20.
        replaced: Those whose texts are changed in the copy, the first 1,000.
        replaced_count: The number of those.
    """

    unfit: list[str]
    replaced: list[str]
    replaced_count: int = 0


def check_rows(source: SqliteSource, watch: Watch, *, replacing: bool) -> RowCheck:
    """Check every row of a store.

    Values that PostgreSQL alone can judge, such as those that are too long for an index, show when they are copied.

    Args:
        source: the store.
        watch: is told of the progress.
        replacing: whether texts may be changed (`CopiedTable.fitting`).
    """
    unfit: list[str] = []
    replaced: list[str] = []
    count = done = 0
    for table in COPIED_TABLES:
        for row in source.rows(table):
            problem, is_replaced = _problem(table, row, replacing=replacing)
            if problem is not None and is_replaced:
                count += 1
                replaced += [problem] * (count <= _LISTED)
            elif problem is not None:
                unfit.append(problem)
                if len(unfit) == _NAMED:
                    return RowCheck(unfit, replaced, count)
            done += 1
        watch("checked", done)
    return RowCheck(unfit, replaced, count)


def _problem(table: CopiedTable, row: Row, *, replacing: bool) -> tuple[str | None, bool]:
    """Return why a row does not fit, and whether it does with changed texts."""
    try:
        table.fitting(row)
    except RowUnfit as unfit:
        if not replacing:
            return str(unfit), False
        try:
            table.fitting(row, replacing=True)
        except RowUnfit as still:
            return str(still), False
        return str(unfit), True
    return None, False


def copy_store(source: SqliteSource, target: PostgresqlTarget, watch: Watch, *, replacing: bool = False) -> int:
    """Copy what the target does not have yet; return the number of rows that it had.

    Args:
        source: the store.
        target: the database, claimed.
        watch: is told of the progress.
        replacing: whether texts may be changed (`CopiedTable.fitting`).

    Raises:
        SetupError: PostgreSQL cannot hold a row as it is; what was copied before stays for the next time.
    """
    before = target.progress()
    found = done = sum(each.digest.count for each in before.values())
    watch("copied", done)
    try:
        for table in COPIED_TABLES:
            progress = before.get(table.name, TableProgress(None, RowsDigest(), is_copied=False))
            for count in _copy_table(source, target, table, progress, replacing=replacing):
                done += count
                watch("copied", done)
    except RowUnfit as unfit:
        raise SetupError(
            f"PostgreSQL cannot hold a row of the store {source.path} as it is: {unfit}. The store stays as it was, and"
            " a manager can be started on it; mend or delete the row, and run this again (--dry-run lists such rows,"
            " --replace-invalid-text changes texts in the copy)"
        ) from unfit
    return found


def _copy_table(
    source: SqliteSource, target: PostgresqlTarget, table: CopiedTable, progress: TableProgress, *, replacing: bool
) -> Iterator[int]:
    """Copy the rest of a table; yield the number of rows of each step."""
    if progress.is_copied:
        return
    digest, key = progress.digest, progress.last_key
    piece: list[Row] = []
    size = 0
    for stored in source.rows(table, progress.last_key):
        if len(piece) == _ROWS or size > _SIZE:
            target.take(table, piece, TableProgress(key, digest, is_copied=False))
            yield len(piece)
            piece, size = [], 0
        row = table.fitting(stored, replacing=replacing)
        digest.add(row)
        key = table.key_of(row)
        piece.append(row)
        size += sum(len(value) for value in row if isinstance(value, (str, bytes)))
    target.take(table, piece, TableProgress(key, digest, is_copied=True))
    yield len(piece)


def compare_store(source: SqliteSource, target: PostgresqlTarget, watch: Watch) -> list[TableCopy]:
    """Compare all tables of a finished copy by the number of rows and their digest.

    Raises:
        SetupError: a table differs; the next copy begins again.
    """
    copies: list[TableCopy] = []
    done = 0
    progress = target.progress()
    for table in COPIED_TABLES:
        expected, digest = progress[table.name].digest, RowsDigest()
        for row in target.rows(table):
            digest.add(row)
            done += 1
            if done % _ROWS == 0:
                watch("compared", done)
        if (digest.count, digest.value) != (expected.count, expected.value):
            target.begin_again_next_time()
            raise SetupError(
                f"the copy in the database {target.address} is not equal to the store {source.path}:"
                f" {_difference(source, target, table)}. The store stays as it was, and a manager can be started on it;"
                " run this again, and the copy begins again"
            )
        copies.append(TableCopy(table.name, digest.count, digest.value.hex()))
    watch("compared", done)
    return copies


def _difference(source: SqliteSource, target: PostgresqlTarget, table: CopiedTable) -> str:
    """Return the first difference between both sides of a table."""
    with closing(source.rows(table)) as stored, closing(target.rows(table)) as copied:
        for here, there in zip_longest((table.fitting(row, replacing=True) for row in stored), copied):
            if here == there:
                continue
            if here is None or (there is not None and table.key_of(there) < table.key_of(here)):
                return f"{table.place(table.key_of(there))}, is in the copy alone"
            if there is None or table.key_of(here) < table.key_of(there):
                return f"{table.place(table.key_of(here))}, is not in the copy"
            names = [each.name for each, a, b in zip(table.columns, here, there, strict=True) if a != b]
            return f"{table.place(table.key_of(here))}, differs in {', '.join(names)}"
    return f"table {table.name} was changed while it was copied"
