"""How queries reach the database: rows as dicts, pages with opaque cursors, failures as the manager's own error."""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

from peewee import Database, DatabaseError, Field, InterfaceError, ModelSelect

from manager.errors import Invalid, StoreUnavailable
from schemas.model import iso

Query: TypeAlias = "ModelSelect[Any]"
Record = dict[str, Any]
Page = tuple[list[Record], str | None]
"""The records of a page, and the cursor of the next one; None at the end."""

_HIGHEST = 2**63 - 1
_NO_CURSOR = "cursor: take it as it stood in nextCursor"


class Reader:
    """Runs queries on one database.

    Args:
        database: one that connects each thread by itself and cannot write.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def rows(self, query: Query) -> list[Record]:
        """Return what a query finds, a dict of columns for each row: as they stand, because to convert them takes long.

        Raises:
            StoreUnavailable: the database cannot be read just now.
        """
        try:
            cursor = self._database.execute(query)
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor]
        except (DatabaseError, InterfaceError) as error:
            raise StoreUnavailable(f"the store cannot be read: {error}") from error

    def select(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a statement; each `?` in it stands for a parameter.

        Raises:
            StoreUnavailable: the database cannot be read just now.
        """
        return list(self.each(sql, params))

    def each(self, sql: str, params: Sequence[Any] = ()) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a statement, none of which is read before it is asked for.

        Raises:
            StoreUnavailable: the database cannot be read just now.
        """
        try:
            yield from self._database.execute_sql(sql.replace("?", self._database.param), params)
        except (DatabaseError, InterfaceError) as error:
            raise StoreUnavailable(f"the store cannot be read: {error}") from error

    def row(self, query: Query) -> Record | None:
        """Return the first row that a query finds.

        Raises:
            StoreUnavailable: the database cannot be read just now.
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
            Invalid: the cursor is none that `page` gave out.
            StoreUnavailable: the database cannot be read just now.
        """
        if cursor is not None:
            (last,) = read_cursor(cursor, int)
            query = query.where(key < last) if descending else query.where(key > last)
        query = query.order_by(key.desc() if descending else key.asc()).limit(limit + 1)
        rows = self.rows(query)
        following = cursor_after(rows[limit - 1][key.column_name]) if len(rows) > limit else None
        return [to_record(row) for row in rows[:limit]], following


def cursor_after(*last: float | str) -> str:
    """Return the cursor of the page that follows the row with this key."""
    return urlsafe_b64encode(json.dumps(last).encode()).rstrip(b"=").decode()


def read_cursor(cursor: str, *kinds: type) -> list[Any]:
    """Return the key that `cursor_after` hid in a cursor; `kinds` are the types of its parts.

    Raises:
        Invalid: the text is no cursor of such a list.
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


def moment(epoch: float | None) -> str | None:
    """Return a time column as the wire writes it."""
    return None if epoch is None else iso(epoch)


def newest_first(
    reader: Reader, query: Query, *, at: Field, key: Field, limit: int, cursor: str | None
) -> tuple[list[Record], str | None]:
    """Return one page of rows, and the cursor of the next one.

    Args:
        reader: runs the query.
        query: selects `at` and `key` among others.
        at: a time that never changes.
        key: unique, in text; decides among rows of one moment.
        limit: rows in a page.
        cursor: where the page before ended.

    Raises:
        Invalid: the cursor is none that a list gave out.
        StoreUnavailable: the database cannot be read just now.
    """
    if cursor is not None:
        last_at, last_key = read_cursor(cursor, float, str)
        query = query.where((at < last_at) | ((at == last_at) & (key < last_key)))
    rows = reader.rows(query.order_by(at.desc(), key.desc()).limit(limit + 1))
    following = (
        cursor_after(rows[limit - 1][at.column_name], rows[limit - 1][key.column_name]) if len(rows) > limit else None
    )
    return rows[:limit], following
