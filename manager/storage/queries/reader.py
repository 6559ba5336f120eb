"""Executes queries: returns rows as dicts, pages by keyset with opaque cursors, translates database errors."""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, TypeAlias

from peewee import Database, Field, ModelSelect

from manager.errors import Invalid
from manager.storage.health import StoreHealth
from manager.storage.location import location_of
from manager.storage.statements import Params, Statements
from schemas.model import iso

Query: TypeAlias = "ModelSelect[Any]"
Record = dict[str, Any]
Page = tuple[list[Record], str | None]
"""The records of a page, and the cursor of the next page; None at the end."""

_HIGHEST = 2**63 - 1
_NO_CURSOR = "cursor: pass the value of nextCursor unchanged"


class Reader:
    """Executes queries on one database.

    Args:
        database: read-only, with one connection for each thread.
        health: translates errors.
    """

    def __init__(self, database: Database, health: StoreHealth | None = None) -> None:
        self._database = database
        self._health = health or StoreHealth(location_of(database))
        self._statements = Statements(database)

    def rows(self, query: Query) -> list[Record]:
        """Return the rows of a query as dicts with the values as stored, because peewee's conversion is slow.

        Raises:
            StoreUnavailable: the database cannot be read.
        """
        with self._health.errors("be read"):
            cursor = self._database.execute(query)
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor]

    def select(self, name: str, params: Params = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a named statement.

        Raises:
            StoreUnavailable: the database cannot be read.
        """
        return list(self.each(name, params))

    def columns(self, name: str, params: Params = ()) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        """Return the names of a named statement's columns, and its rows.

        Raises:
            StoreUnavailable: the database cannot be read.
        """
        with self._health.errors("be read"):
            return self._statements.columns(name, params)

    def values(self, names: Sequence[str], params: Params = ()) -> tuple[Any, ...]:
        """Return the single value of each of several named statements, computed by one statement.

        A statement that computes for long waits for the interpreter's lock afterwards, which the engine may hold.

        Raises:
            StoreUnavailable: the database cannot be read.
        """
        with self._health.errors("be read"):
            return self._statements.values(names, params)

    def select_each(self, name: str, params: Iterable[Params]) -> list[list[tuple[Any, ...]]]:
        """Return the rows of a named statement for each of several parameters.

        Raises:
            StoreUnavailable: the database cannot be read.
        """
        with self._health.errors("be read"):
            return self._statements.rows_of_each(name, params)

    def each(self, name: str, params: Params = ()) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a named statement, reading each on demand.

        Raises:
            StoreUnavailable: the database cannot be read.
        """
        with self._health.errors("be read"):
            yield from self._statements.each(name, params)

    def row(self, query: Query) -> Record | None:
        """Return the first row of a query, or None.

        Raises:
            StoreUnavailable: the database cannot be read.
        """
        found = self.rows(query.limit(1))
        return found[0] if found else None

    def page(
        self,
        query: Query,
        key: Field,
        to_record: Callable[[Record], Record],
        limit: int,
        cursor: str | None,
        *,
        descending: bool = True,
    ) -> Page:
        """Return one page of a query in the order of `key`, a unique integer column that the query selects.

        Raises:
            Invalid: the cursor was not returned by `page`.
            StoreUnavailable: the database cannot be read.
        """
        if cursor is not None:
            (last,) = read_cursor(cursor, int)
            query = query.where(key < last) if descending else query.where(key > last)
        query = query.order_by(key.desc() if descending else key.asc()).limit(limit + 1)
        rows = self.rows(query)
        following = cursor_after(rows[limit - 1][key.column_name]) if len(rows) > limit else None
        return [to_record(row) for row in rows[:limit]], following


def json_list(values: Collection[str] | None) -> str | None:
    """Return values as the JSON list that statements take for a filter; None, which matches any, unchanged."""
    return None if values is None else json.dumps(sorted(values))


def cursor_after(*last: float | str) -> str:
    """Return the cursor of the page that follows the row with this key."""
    return urlsafe_b64encode(json.dumps(last).encode()).rstrip(b"=").decode()


def read_cursor(cursor: str, *kinds: type) -> list[Any]:
    """Return the key in a cursor that `cursor_after` made; `kinds` are the types of its parts.

    Raises:
        Invalid: the text is not such a cursor.
    """
    try:
        last = json.loads(urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4)))
    except (ValueError, RecursionError) as error:
        raise Invalid(_NO_CURSOR) from error
    if not isinstance(last, list) or tuple(type(part) for part in last) != kinds:
        raise Invalid(_NO_CURSOR)
    if any(isinstance(part, int) and not 0 <= part <= _HIGHEST for part in last):
        raise Invalid(_NO_CURSOR)
    return last


_iso = lru_cache(8192)(iso)
"""Formats a time; cached, because most of an agent's times stay, and formatting was half of the work for its record."""


def moment(epoch: float | None) -> str | None:
    """Return a time column in the wire format (RFC 3339)."""
    return None if epoch is None else _iso(epoch)


def keyset_page(
    reader: Reader, query: Query, *, at: Field, key: Field, limit: int, cursor: str | None
) -> tuple[list[Record], str | None]:
    """Return one page of rows by (time, key), newest first, and the cursor of the next page.

    Args:
        reader: executes the query.
        query: selects `at` and `key` among others.
        at: a time column whose values never change.
        key: a unique text column; orders rows of the same time.
        limit: rows in a page.
        cursor: returned with the page before.

    Raises:
        Invalid: the cursor was not returned by this function.
        StoreUnavailable: the database cannot be read.
    """
    if cursor is not None:
        last_at, last_key = read_cursor(cursor, float, str)
        query = query.where((at < last_at) | ((at == last_at) & (key < last_key)))
    rows = reader.rows(query.order_by(at.desc(), key.desc()).limit(limit + 1))
    following = (
        cursor_after(rows[limit - 1][at.column_name], rows[limit - 1][key.column_name]) if len(rows) > limit else None
    )
    return rows[:limit], following
