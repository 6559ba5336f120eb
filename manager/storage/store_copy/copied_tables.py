"""The tables of a copy: columns and their kinds, the key that orders the rows, and the digest of rows in that order."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

from peewee import ForeignKeyField

from manager.storage import tables

Row: TypeAlias = tuple[Any, ...]

_KINDS = {
    "INT": int,
    "BIGINT": int,
    "AUTO": int,
    "BIGAUTO": int,
    "DOUBLE": float,
    "TEXT": str,
    "BOOL": bool,
    "BLOB": bytes,
}
_WORDS = {int: "a number without fraction", float: "a number", str: "text", bool: "true or false", bytes: "bytes"}
_COUNTED = ("AUTO", "BIGAUTO")
_STORED_ID = "stored_id"


class RowUnfit(Exception):  # noqa: N818 -- a state of a row
    """A row that PostgreSQL cannot hold as it is.

    Args:
        place: the table, the key and the column.
        reason: the reason, without the value, which may be a secret.
    """

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(f"{place}: {reason}")


class Column(NamedTuple):
    """A column: its name in both systems, the type of its values, and whether it may be NULL."""

    name: str
    kind: type
    is_nullable: bool


class CopiedTable(NamedTuple):
    """A table of the copy.

    Attributes:
        name: Its name.
        columns: Its columns in PostgreSQL.
        key: The columns that order its rows, the same order in both systems.
        counted: The column whose next value PostgreSQL assigns; None without one.
    """

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    counted: str | None = None

    def source_sql(self, *, after: bool) -> str:
        """Return SQLite's query of the rows in the order of the key; with a parameter for each of the key's columns.

        Args:
            after: whether the rows after a key are selected, else all.
        """
        order = ", ".join(map(quoted, self.key))
        where = f" WHERE ({order}) > ({', '.join('?' * len(self.key))})" if after else ""
        names = ", ".join(quoted(column.name) for column in self.columns)
        if self.name != _STORED_ID:
            return f"SELECT {names} FROM {quoted(self.name)}{where} ORDER BY {order}"  # noqa: S608 -- the models' names
        ids = "agent_number, threat_id, digest, received_at"
        both = f"SELECT {ids} FROM threat{where} UNION ALL SELECT {ids} FROM stored_id{where}"  # noqa: S608 -- the same
        return f"{both} ORDER BY {order}"

    def count_sql(self) -> str:
        """Return SQLite's query of the number of rows."""
        if self.name == _STORED_ID:
            return "SELECT (SELECT count(*) FROM threat) + (SELECT count(*) FROM stored_id)"
        return f"SELECT count(*) FROM {quoted(self.name)}"  # noqa: S608 -- the models' names

    def parameters(self, key: Sequence[Any]) -> Row:
        """Return the parameters of the query of the rows after a key."""
        return (*key, *key) if self.name == _STORED_ID else tuple(key)

    def target_sql(self) -> str:
        """Return PostgreSQL's query of all rows in the order of the key."""
        names = ", ".join(quoted(column.name) for column in self.columns)
        order = ", ".join(map(quoted, self.key))
        return f"SELECT {names} FROM {quoted(self.name)} ORDER BY {order}"  # noqa: S608 -- the models' names

    def copy_sql(self) -> str:
        """Return PostgreSQL's statement that takes rows."""
        return f"COPY {quoted(self.name)} ({', '.join(quoted(column.name) for column in self.columns)}) FROM STDIN"

    def key_of(self, row: Row) -> Row:
        """Return the key of a row."""
        names = [column.name for column in self.columns]
        return tuple(row[names.index(name)] for name in self.key)

    def fitting(self, row: Row, *, replacing: bool = False) -> Row:
        """Return a row of SQLite with the values that PostgreSQL gives back for it.

        Args:
            row: the row.
            replacing: whether a text outside the key may be changed: U+FFFD stands for each NUL, and for bytes that
                are not UTF-8.

        Raises:
            RowUnfit: PostgreSQL cannot hold it so.
        """
        return tuple(
            self._fitting(row, column, value, replacing=replacing)
            for column, value in zip(self.columns, row, strict=True)
        )

    def _fitting(self, row: Row, column: Column, value: Any, *, replacing: bool) -> Any:
        kind: type[Any] = column.kind
        if type(value) is kind and (kind is not str or "\0" not in value):
            return value
        if value is None and column.is_nullable:
            return None
        if kind is bool and type(value) is int and value in (0, 1):
            return value == 1
        if replacing and kind is str and isinstance(value, (str, InvalidText)) and column.name not in self.key:
            text = value if isinstance(value, str) else value.decode(errors="replace")
            return text.replace("\0", REPLACEMENT)
        raise RowUnfit(self.place(self.key_of(row), column.name), _reason(kind, value))

    def place(self, key: Iterable[Any], column: str | None = None) -> str:
        """Return the name of a row, or of a column of it."""
        named = ", ".join(f"{name} {value!r}" for name, value in zip(self.key, key, strict=True))
        return f"table {self.name}, row with {named}" + (f", column {column}" if column else "")


REPLACEMENT = "\ufffd"
"""The character that stands for what a text could not keep."""


class InvalidText(bytes):
    """The bytes of a text in SQLite that is not UTF-8."""


def text_of(stored: bytes) -> str | InvalidText:
    """Return a text of SQLite; its bytes if they are not UTF-8, as with a lone surrogate."""
    try:
        return stored.decode()
    except UnicodeDecodeError:
        return InvalidText(stored)


def _reason(kind: type, value: Any) -> str:
    if value is None:
        return "it is NULL"
    if isinstance(value, InvalidText):
        return "its text is not UTF-8"
    if kind is str and isinstance(value, str):
        return "its text has a NUL character"
    return f"it is not {_WORDS[kind]}"


def quoted(name: str) -> str:
    """Return a name of a table or column in quotation marks."""
    return f'"{name}"'


def _copied(model: Any) -> CopiedTable:
    meta = model._meta  # noqa: SLF001 -- peewee's documented name
    if meta.table_name == _STORED_ID:  # in PostgreSQL the ids of all reports, from the time of storing
        names = [("agent_number", int), ("threat_id", str), ("digest", bytes), ("stored_at", float)]
        columns = tuple(Column(name, kind, is_nullable=False) for name, kind in names)
        return CopiedTable(_STORED_ID, columns, ("threat_id", "agent_number"))
    fields = [field.rel_field if isinstance(field, ForeignKeyField) else field for field in meta.sorted_fields]
    columns = tuple(
        Column(field.column_name, _KINDS[stored.field_type], field.null)
        for field, stored in zip(meta.sorted_fields, fields, strict=True)
    )
    key = tuple(field.column_name for field in meta.get_primary_keys())
    counted = key[0] if getattr(meta.primary_key, "field_type", None) in _COUNTED else None
    return CopiedTable(meta.table_name, columns, key, counted)


COPIED_TABLES = tuple(_copied(model) for model in tables.ALL)
"""All tables in the order of copying: a table that others refer to goes before them."""


class RowsDigest:
    """Digest of rows in their order; it can go on from a stored value.

    The next digest is the SHA-256 of this one and the row. A row is written as Python's literals in ASCII, which are
    the same for the same values wherever they come from.

    Args:
        value: the digest of the rows before.
        count: their number.
    """

    def __init__(self, value: bytes = bytes(32), count: int = 0) -> None:
        self.value = value
        self.count = count

    def add(self, row: Row) -> None:
        """Add a row."""
        self.value = hashlib.sha256(self.value + ascii(row).encode()).digest()
        self.count += 1
