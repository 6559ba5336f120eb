"""Pages of what has a time and an id in text: newest first, whatever shares one moment."""

from peewee import Field

from manager.storage.queries.reader import Query, Reader, Record, cursor_after, read_cursor


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
